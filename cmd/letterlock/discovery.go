package main

import (
	"fmt"
	"os"

	"letterlock.org/letterlock/internal/config"
	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/pgp"
)

// discoveryOf is whom the configuration lets the resolver ask.
func discoveryOf(c *config.Config) (keydir.Discovery, error) {
	d := c.Discovery
	out := keydir.Discovery{Sources: d.Sources, Proxy: d.Proxy, Override: d.WKDOverride, VKS: d.VKS, HKP: d.HKP, Resolver: d.Resolver}
	out.Authorities = map[string]pgp.Fingerprint{}
	for domain, f := range d.Authorities {
		out.Authorities[domain] = pgp.Fingerprint(f)
	}
	for _, l := range d.LDAP {
		one := keydir.LDAP{URL: l.URL, Base: l.Base, Domains: l.Domains, Only: l.Only, BindDN: l.BindDN}
		var err error
		if one.Password, err = l.ReadPassword(); err != nil {
			return out, err
		}
		if l.CA != "" {
			if one.CA, err = os.ReadFile(l.CA); err != nil {
				return out, fmt.Errorf("discovery.ldap: ca: %w", err)
			}
		}
		out.LDAP = append(out.LDAP, one)
	}
	return out, nil
}

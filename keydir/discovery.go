package keydir

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/pgp"
)

// Discovery is whom to ask, and how. A look-up tells who is asked to whom we
// write: nobody is asked whom Sources doesn't name.
type Discovery struct {
	// Sources are what may be asked: "wkd", "autocrypt", "vks", "hkp", "dane",
	// "ldap". Nil means the first two. Empty but not nil asks nobody: only what is
	// imported is used.
	Sources []string
	// Proxy is a SOCKS5 proxy for every look-up, "socks5://host:port", which
	// then resolves names too. Where it doesn't tell a name that does not exist
	// from a host that is down, its failures are all unavailable. It can't carry
	// DNS: "dane" is refused beside it.
	Proxy string
	// Override gives the base URL of the Web Key Directory of a domain (split
	// horizon, tests): https, or http to a loopback address. The check that a
	// directory has a public address doesn't apply to it; Proxy does unless it is
	// loopback.
	Override map[string]string
	// VKS are the base URLs of key servers that verify addresses, such as
	// https://keys.openpgp.org. They are third parties.
	VKS []string
	// HKP are the key servers where anybody uploads: hkps://, https://, or without
	// TLS hkp:// (port 11371).
	HKP []string
	// LDAP are the directories of organisations.
	LDAP []LDAP
	// Resolver is the DNS server, IP address and port, whose word that it
	// validated (the AD bit) is believed, for "dane". Required for it unless the
	// system's is on loopback.
	Resolver string
	// Authorities are the fingerprints of the keys with which organisations certify
	// those of their people, by domain.
	Authorities map[string]pgp.Fingerprint
}

// discovery is a Discovery, ready to be asked.
type discovery struct {
	sources   []source
	probe     *wkdClient // also where wkd is no source, for Examine
	autocrypt bool
	// authorities are by domain.
	authorities map[string]pgp.Fingerprint
}

// asked is who is asked now.
func (r *Resolver) asked() *discovery { return r.discovery.Load() }

// Replace changes whom to ask from now on. Look-ups under way end as they began.
// After an error, which joins everything that is wrong, nothing has changed.
func (r *Resolver) Replace(c Discovery) error {
	d, err := newDiscovery(c, r.network, r.timeout)
	if err != nil {
		return err
	}
	r.discovery.Store(d)
	return nil
}

func newDiscovery(c Discovery, n Network, timeout time.Duration) (*discovery, error) {
	names, errSources := parseSources(c.Sources)
	overrides, errOverrides := parseOverrides(c.Override)
	authorities, errAuthorities := parseAuthorities(c.Authorities)
	wkd, err := newWKDClient(n, c.Proxy, overrides)
	if err := errors.Join(errSources, errOverrides, errAuthorities, err); err != nil {
		return nil, err
	}
	d := &discovery{probe: wkd, autocrypt: slices.Contains(names, "autocrypt"), authorities: authorities}
	var problems []error
	add := func(name string, all []source, err error) {
		if err == nil && len(all) == 0 {
			err = fmt.Errorf("discovery.sources: %q has no server; write discovery.%s", name, name)
		}
		d.sources, problems = append(d.sources, all...), append(problems, err)
	}
	for _, name := range slices.Compact(slices.Sorted(slices.Values(names))) {
		switch name {
		case "wkd":
			add(name, []source{wkd}, nil)
		case "vks", "hkp":
			servers := c.VKS
			if name == "hkp" {
				servers = c.HKP
			}
			all, err := newKeyServers(name, servers, n, c.Proxy, timeout/2)
			add(name, all, err)
		case "dane":
			server, err := newNameServer(c.Resolver, "/etc/resolv.conf")
			if c.Proxy != "" {
				err = errors.New(`discovery.sources: "dane" asks a name server, which discovery.proxy can't carry`)
			}
			add(name, []source{&daneClient{server}}, err)
		case "ldap":
			var all []source
			for _, one := range c.LDAP {
				l, err := newLDAP(one, n, c.Proxy, timeout/2)
				problems = append(problems, err)
				all = append(all, l)
			}
			add(name, all, nil)
		}
	}
	return d, errors.Join(problems...)
}

// asks tells whether any source is asked about an address.
func (d *discovery) asks(a address.Address) bool {
	return slices.ContainsFunc(d.sources, func(s source) bool { return s.speaksAs(a) > ofNobody })
}

// speaksFor tells whether a source is asked whose word about an address is its
// domain's.
func (d *discovery) speaksFor(a address.Address) bool {
	return slices.ContainsFunc(d.sources, func(s source) bool { return s.speaksAs(a) >= ofDomain })
}

func parseSources(sources []string) ([]string, error) {
	if sources == nil {
		return []string{"wkd", "autocrypt"}, nil
	}
	var problems []error
	for _, s := range sources {
		switch s {
		case "wkd", "autocrypt", "vks", "hkp", "dane", "ldap":
		default:
			problems = append(problems, fmt.Errorf(`discovery.sources: %q is not known; write "wkd", "autocrypt", "vks", "hkp", "dane" or "ldap"`, s))
		}
	}
	return sources, errors.Join(problems...)
}

// parseOverrides reads wkd_override: by domain, in the form that addresses have.
func parseOverrides(m map[string]string) (map[string]*url.URL, error) {
	var problems []error
	out := make(map[string]*url.URL, len(m))
	for _, domain := range slices.Sorted(maps.Keys(m)) {
		a, err := address.Parse("x@" + domain)
		if err != nil {
			problems = append(problems, fmt.Errorf("discovery.wkd_override: %q is no domain; write example.org", domain))
			continue
		}
		u, err := url.Parse(m[domain])
		switch {
		case err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
			err = fmt.Errorf("discovery.wkd_override: what stands for %s is no base URL; write https://host or http://127.0.0.1:8080", domain)
		case u.Scheme == "https", u.Scheme == "http" && loopback(u.Hostname()):
			u.Path = strings.TrimSuffix(u.Path, "/")
			out[a.Domain] = u
			continue
		default:
			err = fmt.Errorf("discovery.wkd_override: %s for %s; write https://…, or http://… to a loopback address such as 127.0.0.1", u.Redacted(), domain)
		}
		problems = append(problems, err)
	}
	return out, errors.Join(problems...)
}

// loopback tells whether host is a loopback address, by number: a name may be
// made to resolve to anything.
func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

package config

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/endpoint"
)

// check judges the values and fills in what they mean.
func (d *decoder) check(c *Config) {
	if c.StateDir == "" || !filepath.IsAbs(c.StateDir) {
		d.add("state_dir", "%q is no absolute path; write for example %q", c.StateDir, "/var/lib/letterlock")
	}
	if _, _, err := splitUnlock(c.Unlock); err != nil {
		d.add("unlock", "%v", err)
	}
	d.store(c)
	var level slog.Level
	if level.UnmarshalText([]byte(c.Log.Level)) != nil {
		d.add("log.level", "%q is no level; write debug, info, warn or error", c.Log.Level)
	}
	owners := map[string]string{}
	for i := range c.Bridges {
		d.bridge(fmt.Sprintf("bridge[%d]", i), &c.Bridges[i], owners)
	}
	d.listeners(c)
	d.discovery(&c.Discovery)
	d.audit(c)
	d.metrics(&c.Metrics)
	d.policy(c)
	d.roles(c, owners)
}

// LogLevel is the level of [log].
func (c *Config) LogLevel() slog.Level {
	var l slog.Level
	_ = l.UnmarshalText([]byte(c.Log.Level)) // checked
	return l
}

func (d *decoder) bridge(key string, b *Bridge, owners map[string]string) {
	own := func(k, s string) address.Address {
		a, err := address.Parse(s)
		if err != nil {
			d.add(k, `%q is no mail address; write for example "alice@example.org"`, s)
			return a
		}
		if other, taken := owners[a.Key()]; taken {
			d.add(k, "%s belongs to %s already; one address has one account", a, other)
		}
		owners[a.Key()] = key
		return a
	}
	if b.Address == "" {
		d.add(key+".address", `is missing; write address = "alice@example.org"`)
	} else {
		b.Account = own(key+".address", b.Address)
	}
	for _, s := range b.Aliases {
		b.Alias = append(b.Alias, own(key+".aliases", s))
	}
	if b.UpstreamUser == "" {
		b.UpstreamUser = b.Address
	}
	d.oneOf(key+".auth", b.Auth, "local", "passthrough")
	d.oneOf(key+".append", b.Append, "all", "private", "none")
	d.oneOf(key+".sent", b.Sent, "client", "provider")
	if kind, _, _ := strings.Cut(b.UpstreamPassword, ":"); b.UpstreamPassword != "store" && (kind != "file" && kind != "credential" || len(kind)+2 > len(b.UpstreamPassword)) {
		d.add(key+".upstream_password", `is none of "store", "file:/path", "credential:NAME" (the password itself does not belong here; give it to: letterlock account password %s)`, b.Address)
	}
	if b.UpstreamCA != "" {
		if _, err := endpoint.Roots(b.UpstreamCA); err != nil {
			d.add(key+".upstream_ca", "%v", err)
		}
	}
	if (b.TLSCertificate == "") != (b.TLSKey == "") {
		d.add(key+".tls_certificate", "tls_certificate and tls_key belong together")
	}
	if b.IMAP == nil && b.SMTP == nil && !d.blamed(key+".imap") && !d.blamed(key+".smtp") {
		d.add(key, `has neither imap nor smtp; write imap = { listen = "127.0.0.1:1143", upstream = "imaps://HOST" }`)
	}
	d.service(key+".imap", endpoint.IMAP, b, b.IMAP)
	d.service(key+".smtp", endpoint.SMTP, b, b.SMTP)
}

func (d *decoder) service(key string, p endpoint.Protocol, b *Bridge, s *Service) {
	if s == nil {
		return
	}
	if len(s.Listen) == 0 {
		d.add(key+".listen", `is missing; write listen = "127.0.0.1:%d"`, map[endpoint.Protocol]int{endpoint.IMAP: 1143, endpoint.SMTP: 1025}[p])
	}
	for _, l := range s.Listen {
		a, err := endpoint.ParseListen(p, l)
		if err == nil {
			err = a.Check(b.Expose)
		}
		if err == nil && !a.Loopback() && b.TLSCertificate == "" {
			err = errors.New("other machines need a certificate for the name they connect to: set tls_certificate and tls_key (our own authority vouches for localhost only)")
		}
		if err != nil {
			d.add(key+".listen", "%v", err)
		}
		s.Addresses = append(s.Addresses, a)
	}
	if s.Upstream == "" {
		d.add(key+".upstream", `is missing; write for example upstream = "%s"`, map[endpoint.Protocol]string{endpoint.IMAP: "imaps://imap.example.org", endpoint.SMTP: "submissions://smtp.example.org"}[p])
		return
	}
	u, err := endpoint.ParseUpstream(p, s.Upstream)
	if err != nil {
		d.add(key+".upstream", "%v", err)
	}
	u.Roots, _ = endpoint.Roots(b.UpstreamCA) // its problem is told where it stands
	s.Server = u
}

// listeners: one address is one listener, so those who share it must agree.
func (d *decoder) listeners(c *Config) {
	type user struct {
		key      string
		address  endpoint.Address
		cert, tk string
	}
	seen := map[string]user{}
	for i := range c.Bridges {
		b := &c.Bridges[i]
		for _, s := range []*Service{b.IMAP, b.SMTP} {
			if s == nil {
				continue
			}
			for _, a := range s.Addresses {
				if a.Port == 0 {
					continue
				}
				u := user{fmt.Sprintf("bridge[%d].%s.listen", i, a.Protocol), a, b.TLSCertificate, b.TLSKey}
				first, taken := seen[a.HostPort()]
				if !taken {
					seen[a.HostPort()] = u
				} else if first.address != u.address || first.cert != u.cert || first.tk != u.tk {
					d.add(u.key, "%s is taken by %s, with another protocol, TLS or certificate; choose another port", a.HostPort(), first.key)
				}
			}
		}
	}
}

func flatten(err error) []error {
	if err == nil {
		return nil
	}
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		return j.Unwrap()
	}
	return []error{err}
}

func (d *decoder) roles(c *Config, owners map[string]string) {
	if c.Relay != nil {
		d.relay(c.Relay, owners)
	}
	if c.Keydir != nil {
		d.keydir(c.Keydir)
	}
	for i, b := range c.Bridges {
		if b.TLSCertificate == "" {
			continue
		}
		if _, err := tls.LoadX509KeyPair(b.TLSCertificate, b.TLSKey); err != nil && b.TLSKey != "" {
			d.add(fmt.Sprintf("bridge[%d].tls_certificate", i), "%v", err)
		}
	}
}

func (d *decoder) oneOf(key, got string, allowed ...string) {
	if !slices.Contains(allowed, got) {
		d.add(key, "%q is none of %s", got, strings.Join(allowed, ", "))
	}
}

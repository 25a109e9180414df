package config

import (
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/endpoint"
)

// Discovery is how certificates are found.
type Discovery struct {
	Sources     []string          `toml:"sources"`
	Proxy       string            `toml:"proxy"`
	WKDOverride map[string]string `toml:"wkd_override"`
	VKS         []string          `toml:"vks"`
	HKP         []string          `toml:"hkp"`
	Resolver    string            `toml:"resolver"`
	Authorities map[string]string `toml:"authorities"` // fingerprints, by domain
	LDAP        []LDAP            `toml:"ldap"`
}

// LDAP is one [[discovery.ldap]].
type LDAP struct {
	URL      string   `toml:"url"`
	Base     string   `toml:"base"`
	Domains  []string `toml:"domains"`
	Only     bool     `toml:"only"`
	BindDN   string   `toml:"bind_dn"`
	Password string   `toml:"password"`
	CA       string   `toml:"ca"`
}

func (l *LDAP) setDefaults() { l.Only = true }

func (d *decoder) discovery(v *Discovery) {
	for _, s := range v.Sources {
		d.oneOf("discovery.sources", s, "wkd", "autocrypt", "vks", "hkp", "dane", "ldap")
	}
	for _, s := range []struct {
		name   string
		filled bool
		write  string
	}{{"vks", len(v.VKS) > 0, `vks = ["https://keys.openpgp.org"]`}, {"hkp", len(v.HKP) > 0, `hkp = ["hkps://HOST"]`}, {"ldap", len(v.LDAP) > 0, "[[discovery.ldap]]"}} {
		if slices.Contains(v.Sources, s.name) && !s.filled {
			d.add("discovery.sources", "%q has no server to ask; write for example %s", s.name, s.write)
		}
	}
	for _, domain := range slices.Sorted(maps.Keys(v.Authorities)) {
		if _, err := address.Parse("x@" + domain); err != nil {
			d.add("discovery.authorities", `%q is no domain; write for example { "example.org" = "FINGERPRINT" }`, domain)
		}
		f := strings.ToUpper(strings.ReplaceAll(v.Authorities[domain], " ", ""))
		if len(f) != 40 && len(f) != 64 || strings.Trim(f, "0123456789ABCDEF") != "" {
			d.add("discovery.authorities", "what stands for %s is no fingerprint; it has 40 or 64 hex digits", domain)
		}
	}
	if v.Proxy != "" {
		if u, err := url.Parse(v.Proxy); err != nil || u.Scheme != "socks5" || u.Host == "" {
			d.add("discovery.proxy", `is no proxy that is understood; write "socks5://127.0.0.1:9050"`)
		}
		if slices.Contains(v.Sources, "dane") {
			d.add("discovery.sources", `"dane" asks a name server, which discovery.proxy can't carry; leave one of the two out`)
		}
	}
	if _, err := netip.ParseAddrPort(v.Resolver); v.Resolver != "" && err != nil {
		d.add("discovery.resolver", `%q is no IP address and port; write for example "127.0.0.1:53"`, v.Resolver)
	}
	d.keyServers("discovery.vks", v.VKS, "https")
	d.keyServers("discovery.hkp", v.HKP, "https", "hkps", "hkp")
	for domain, base := range v.WKDOverride {
		u, err := url.Parse(base)
		switch {
		case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
			d.add(join("discovery.wkd_override", domain), `%q is no base URL; write for example "https://keys.example.org"`, base)
		case u.Scheme == "http" && (!endpoint.Loopback(u.Hostname()) || u.Hostname() == "localhost"):
			d.add(join("discovery.wkd_override", domain), `%q: http is for loopback addresses such as 127.0.0.1; write https://…`, base)
		}
	}
	for i := range v.LDAP {
		d.ldap(fmt.Sprintf("discovery.ldap[%d]", i), &v.LDAP[i])
	}
}

func (d *decoder) keyServers(key string, servers []string, schemes ...string) {
	for _, s := range servers {
		u, err := url.Parse(s)
		local := err == nil && u.Scheme == "http" && endpoint.Loopback(u.Hostname()) && u.Hostname() != "localhost"
		if err != nil || u.Host == "" || u.User != nil || !local && !slices.Contains(schemes, u.Scheme) {
			d.add(key, `%q is no key server; write for example "%s://keys.example.org"`, s, schemes[0])
		}
	}
}

func (d *decoder) ldap(key string, l *LDAP) {
	if u, err := url.Parse(l.URL); err != nil || u.Scheme != "ldap" && u.Scheme != "ldaps" || u.Hostname() == "" || u.User != nil {
		d.add(join(key, "url"), `%q is no directory; write for example "ldaps://ldap.example.org"`, l.URL)
	}
	if l.Base == "" {
		d.add(join(key, "base"), `is missing; write for example "ou=keys,dc=example,dc=org"`)
	}
	for _, domain := range l.Domains {
		if _, err := address.Domain(domain); err != nil {
			d.add(join(key, "domains"), "%q is no domain; write for example \"example.org\"", domain)
		}
	}
	if l.Only && len(l.Domains) == 0 {
		d.add(join(key, "domains"), `is missing: whose directory is it? (only = false asks it about every address, as a third party)`)
	}
	if (l.BindDN == "") != (l.Password == "") {
		d.add(join(key, "password"), `bind_dn and password = "file:/path" or "credential:NAME" belong together`)
	}
	if kind, where, _ := strings.Cut(l.Password, ":"); l.Password != "" && (kind != "file" && kind != "credential" || where == "") {
		d.add(join(key, "password"), `is neither "file:/path" nor "credential:NAME" (the password itself does not belong here)`)
	}
}

// ReadPassword is the password to log in with; "" for none.
func (l *LDAP) ReadPassword() (string, error) {
	if l.Password == "" {
		return "", nil
	}
	kind, where, _ := strings.Cut(l.Password, ":")
	p, err := secretText(kind, where)
	if err != nil {
		return "", fmt.Errorf("reading the password for %s: %w", l.URL, err)
	}
	return p, nil
}

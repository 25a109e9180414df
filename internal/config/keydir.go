package config

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/url"
	"slices"
	"strings"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/endpoint"
)

// Keydir is the directory that we serve. The fields with a toml tag are as
// written; the others are what the checks made of them.
type Keydir struct {
	Listen         Strings  `toml:"listen"`
	Domains        []string `toml:"domains"`
	TLSCertificate string   `toml:"tls_certificate"`
	TLSKey         string   `toml:"tls_key"`

	ACME *ACME `toml:"acme"`

	// How people submit certificates.
	URL               string `toml:"url"`
	From              string `toml:"from"`
	Smarthost         string `toml:"smarthost"`
	SmarthostUser     string `toml:"smarthost_user"`
	SmarthostPassword string `toml:"smarthost_password"`
	SmarthostCA       string `toml:"smarthost_ca"`

	Addresses []WebAddress      `toml:"-"`
	Sender    address.Address   `toml:"-"` // of From; zero for none
	Server    endpoint.Upstream `toml:"-"` // the smarthost, if there is one
}

// ACME is how the directory gets its TLS certificate by itself (RFC 8555).
type ACME struct {
	Email     string   `toml:"email"`
	Directory string   `toml:"directory"`
	Names     []string `toml:"names"` // openpgpkey.DOMAIN of each domain
	CA        string   `toml:"ca"`    // extra CA certificates, for a private directory

	Roots *x509.CertPool `toml:"-" json:"-"`
}

// setDefaults is called before acme is read.
func (a *ACME) setDefaults() { a.Directory = "https://acme-v02.api.letsencrypt.org/directory" }

// WebAddress is where the directory listens.
type WebAddress struct {
	endpoint.Address
	TLS bool
}

// Scheme is http or https.
func (w WebAddress) Scheme() string {
	if w.TLS {
		return "https"
	}
	return "http"
}

// keydir checks [keydir].
func (d *decoder) keydir(k *Keydir) {
	if len(k.Listen) == 0 {
		d.add("keydir.listen", `is missing; write listen = "127.0.0.1:8080"`)
	}
	for _, l := range k.Listen {
		k.Addresses = append(k.Addresses, d.webAddress(l, k))
	}
	for i, name := range k.Domains {
		domain, err := address.Domain(name)
		if err != nil {
			d.add("keydir.domains", `%q is no domain; write for example "example.org"`, name)
			continue
		}
		k.Domains[i] = domain
	}
	if len(k.Domains) == 0 {
		d.add("keydir.domains", `is missing; write domains = ["example.org"]`)
	}
	if (k.TLSCertificate == "") != (k.TLSKey == "") {
		d.add("keydir.tls_certificate", "tls_certificate and tls_key belong together")
	} else if k.TLSCertificate != "" {
		if _, err := tls.LoadX509KeyPair(k.TLSCertificate, k.TLSKey); err != nil {
			d.add("keydir.tls_certificate", "%v", err)
		}
	}
	if k.ACME != nil {
		d.acme(k)
	}
	d.submission(k)
}

func (d *decoder) acme(k *Keydir) {
	var err error
	if k.ACME.Roots, err = endpoint.Roots(k.ACME.CA); err != nil {
		d.add("keydir.acme.ca", "%v", err)
	}
	if u, err := url.Parse(k.ACME.Directory); err != nil || u.Scheme != "https" || u.Host == "" {
		d.add("keydir.acme.directory", `%q is no ACME directory; write its https address`, k.ACME.Directory)
	}
	if k.TLSCertificate != "" {
		d.add("keydir.acme", "and tls_certificate exclude each other")
	}
	if !slices.ContainsFunc(k.Addresses, func(w WebAddress) bool { return w.TLS }) {
		d.add("keydir.acme", `is for a listener with TLS; write listen = "https://0.0.0.0:443"`)
	}
	if len(k.ACME.Names) == 0 {
		for _, domain := range k.Domains {
			k.ACME.Names = append(k.ACME.Names, "openpgpkey."+domain)
		}
	}
}

func (d *decoder) webAddress(s string, k *Keydir) (w WebAddress) {
	rest := s
	if scheme, after, ok := strings.Cut(s, "://"); ok {
		if rest, w.TLS = after, scheme == "https"; scheme != "https" && scheme != "http" {
			d.add("keydir.listen", `%q: write HOST:PORT, or https://HOST:PORT with tls_certificate and tls_key`, s)
			return w
		}
	}
	var err error
	if _, _, err = net.SplitHostPort(rest); err == nil {
		w.Address, err = endpoint.ParseHostPort(rest)
	}
	if err != nil {
		d.add("keydir.listen", `%q is not HOST:PORT; write for example "127.0.0.1:8080"`, s)
	}
	if w.TLS && k.TLSCertificate == "" && k.ACME == nil {
		d.add("keydir.listen", "%s needs a certificate for the names that are asked, such as openpgpkey.DOMAIN: set tls_certificate and tls_key, or acme = {}", s)
	}
	return w
}

// submission checks what belongs to letting people submit.
func (d *decoder) submission(k *Keydir) {
	if k.URL != "" {
		u, err := url.Parse(k.URL)
		if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Scheme != "https" && (u.Scheme != "http" || !endpoint.Loopback(u.Hostname())) {
			d.add("keydir.url", `%q is no address that links can begin with; write for example "https://openpgpkey.example.org"`, k.URL)
		}
	}
	if k.From != "" {
		k.Sender = d.address("keydir.from", k.From)
	}
	if k.Smarthost == "" {
		if k.SmarthostUser+k.SmarthostPassword+k.SmarthostCA != "" {
			d.add("keydir.smarthost", `is missing; write for example smarthost = "submission://mx.example.org:587"`)
		}
		return
	}
	k.Server = d.relayServer("keydir.smarthost", "submission://mx.example.org:587", k.Smarthost, "keydir.smarthost_ca", k.SmarthostCA)
	if k.From == "" {
		d.add("keydir.from", `is missing; write the address that mail comes from: from = "keys@example.org"`)
	}
	switch kind, where, _ := strings.Cut(k.SmarthostPassword, ":"); {
	case k.SmarthostPassword == "" && k.SmarthostUser != "":
		d.add("keydir.smarthost_user", `needs smarthost_password = "file:/path" or "credential:NAME"`)
	case k.SmarthostPassword != "" && (kind != "file" && kind != "credential" || where == ""):
		d.add("keydir.smarthost_password", `is neither "file:/path" nor "credential:NAME" (the password itself does not belong here)`)
	}
}

// ReadSmarthostPassword reads the password at the smarthost; "" if there is none.
func (k *Keydir) ReadSmarthostPassword() (string, error) {
	return (&Relay{SmarthostPassword: k.SmarthostPassword}).ReadSmarthostPassword()
}

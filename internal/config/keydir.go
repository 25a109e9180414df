package config

import (
	"crypto/tls"
	"net"
	"net/url"
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
	for _, name := range k.Domains {
		if _, err := address.Parse("x@" + name); err != nil {
			d.add("keydir.domains", `%q is no domain; write for example "example.org"`, name)
		}
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
	d.submission(k)
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
	if w.TLS && k.TLSCertificate == "" {
		d.add("keydir.listen", "%s needs a certificate for the names that are asked, such as openpgpkey.DOMAIN: set tls_certificate and tls_key", s)
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

package config

import (
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"letterlock.org/letterlock/internal/endpoint"
)

// Audit is [audit]: a record of every recipient of every message.
type Audit struct {
	// Enabled is true by default where there is a [relay].
	Enabled    *bool  `toml:"enabled"`
	Required   bool   `toml:"required"`
	Recipients string `toml:"recipients"`
	Keep       string `toml:"keep"`

	On      bool          `toml:"-"`
	KeepFor time.Duration `toml:"-"` // 0 means for ever
}

// Metrics is [metrics]: where figures and health are served.
type Metrics struct {
	Listen Strings `toml:"listen"`
	Expose bool    `toml:"expose"`

	Addresses []endpoint.Address `toml:"-"`
}

func (d *decoder) audit(c *Config) {
	a := &c.Audit
	a.On = c.Relay != nil
	if a.Enabled != nil {
		a.On = *a.Enabled
	}
	if a.Required && !a.On {
		d.add("audit.required", "true, but audit is off; write enabled = true beside it")
	}
	d.oneOf("audit.recipients", a.Recipients, "hash", "clear")
	var err error
	if a.KeepFor, err = Span(a.Keep); err != nil {
		d.add("audit.keep", "%v", err)
	}
}

// Span reads a length of time: "90d", "12h", "30m", or "forever", which is 0.
func Span(s string) (time.Duration, error) {
	if s == "forever" {
		return 0, nil
	}
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.Atoi(days); err == nil && n > 0 && n <= 36500 {
			return time.Duration(n) * 24 * time.Hour, nil
		}
	} else if span, err := time.ParseDuration(s); err == nil && span > 0 {
		return span, nil
	}
	return 0, fmt.Errorf(`%q is no length of time; write for example "90d", "12h" or "forever"`, s)
}

func (d *decoder) metrics(m *Metrics) {
	for _, l := range m.Listen {
		if l == "" { // the default, written out
			continue
		}
		a, err := endpoint.ParseHostPort(l)
		switch {
		case err != nil:
			d.add("metrics.listen", `%q is not HOST:PORT; write for example "127.0.0.1:9464"`, l)
		case !a.Loopback() && !m.Expose:
			d.add("metrics.listen", "%s shows other machines how much mail goes (listen on 127.0.0.1, or write expose = true beside it)", l)
		default:
			m.Addresses = append(m.Addresses, a)
		}
	}
}

const urlExample = "postgres://letterlock@db.example.org/letterlock?sslmode=verify-full"

// store checks where state lies. The URL may hold a password, so it is never told
// and may come from a file or a credential.
func (d *decoder) store(c *Config) {
	s := &c.Store
	if s.Lease = d.span("store.takeover", s.Takeover); s.Lease != 0 && (s.Lease < 2*time.Second || s.Lease > time.Hour) {
		d.add("store.takeover", "%q: between 2s and 1h, and far more than the clocks of the nodes differ", s.Takeover)
	}
	kind, where, _ := strings.Cut(s.URL, ":")
	switch kind {
	case "sqlite":
		if where != "" {
			d.add("store.url", `%q: the embedded store lies in state_dir; write "sqlite:"`, s.URL)
		}
		return
	case "postgres", "postgresql":
		s.DSN = s.URL
	case "file", "credential":
		text, err := secretText(kind, where)
		if err != nil {
			d.add("store.url", "%v", err)
			return
		}
		s.DSN = text
	default:
		d.add("store.url", `is neither "sqlite:" nor %s; nor file:/path or credential:NAME that hold such a URL`, urlExample)
		return
	}
	u, err := url.Parse(s.DSN)
	switch {
	case err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql": // the error would quote the password
		d.add("store.url", "is no URL of a database; write for example %q", urlExample)
	case u.Host == "" && u.Query().Get("host") == "" || strings.Trim(u.Path, "/") == "":
		d.add("store.url", "names no host or no database; write for example %q", urlExample)
	case u.Query().Get("sslmode") == "prefer" || u.Query().Get("sslmode") == "allow":
		d.add("store.url", "sslmode=%s lets whoever is on the wire choose cleartext; write sslmode=verify-full", u.Query().Get("sslmode"))
	}
	if unlock, _, _ := splitUnlock(c.Unlock); unlock == "passphrase-file" || unlock == "keyring" {
		d.add("unlock", "all nodes of a shared store need the same key, which %s doesn't give; write key-file:/path, with 64 hex digits in the file", unlock)
	}
	if len(c.Bridges) > 0 {
		d.add("store.url", "a [[bridge]] keeps its mail's index for itself and can't share a store; run it by a configuration of its own, with \"sqlite:\"")
	}
}

// secretText is a line that stands in a file or credential.
func secretText(kind, where string) (string, error) {
	var b []byte
	var err error
	if kind == "file" {
		b, err = os.ReadFile(where)
	} else {
		b, err = Credential(where)
	}
	return strings.TrimSpace(string(b)), err
}

// Shared tells whether several processes may use the store.
func (s Store) Shared() bool { return s.DSN != "" }

// Where is the store for a person to read: its URL without user and password.
func (s Store) Where() string {
	u, err := url.Parse(s.DSN)
	if err != nil || s.DSN == "" {
		return "the store"
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}

package config

import (
	"fmt"
	"net/url"
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

// postgresBuilt: todo, with store.OpenPostgres.
const postgresBuilt = false

func (d *decoder) store(c *Config) {
	switch {
	case c.Store.URL == "sqlite:":
	case strings.HasPrefix(c.Store.URL, "sqlite:"):
		d.add("store.url", `%q: the embedded store lies in state_dir; write "sqlite:"`, c.Store.URL)
	case c.Store.Shared() && !postgresBuilt:
		d.add("store.url", `only "sqlite:" (in state_dir) is built so far; PostgreSQL is not`)
	case c.Store.Shared():
		if u, err := url.Parse(c.Store.URL); err != nil {
			// The error would quote the password.
			d.add("store.url", `is no URL; write for example "postgres://letterlock@db.example.org/letterlock?sslmode=verify-full"`)
		} else if u.Host == "" && u.Query().Get("host") == "" || strings.Trim(u.Path, "/") == "" {
			d.add("store.url", `names no host or no database; write for example "postgres://letterlock@db.example.org/letterlock?sslmode=verify-full"`)
		}
	default:
		d.add("store.url", `is neither "sqlite:" nor postgres://…`)
	}
}

// Shared tells whether several processes may use the store.
func (s Store) Shared() bool {
	return strings.HasPrefix(s.URL, "postgres://") || strings.HasPrefix(s.URL, "postgresql://")
}

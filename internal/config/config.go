// Package config is the syntax of Letterlock's one configuration file, and the
// checks on it. Only cmd imports it: what a package needs, it gets as values.
//
// [Load] reads and checks; its error is a [Problems] with everything that is
// wrong, each with file, line and what to write instead. Unknown settings are
// problems too: a misspelt safeguard must not be a missing one.
package config

import (
	"strings"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/endpoint"
	"letterlock.org/letterlock/policy"
)

// Config is a checked file. The fields with a toml tag are as written, with
// defaults filled in; those tagged "-" are what the checks made of them.
type Config struct {
	File      string    `toml:"-"` // where it was read, "" for none
	StateDir  string    `toml:"state_dir"`
	Unlock    string    `toml:"unlock"`
	Bridges   []Bridge  `toml:"bridge"`
	Relay     *Relay    `toml:"relay"`
	Keydir    *Keydir   `toml:"keydir"`
	Store     Store     `toml:"store"`
	Discovery Discovery `toml:"discovery"`
	Policy    Policy    `toml:"policy"`
	Log       Log       `toml:"log"`
	Audit     Audit     `toml:"audit"`
	Metrics   Metrics   `toml:"metrics"`

	Rules *policy.Rules `toml:"-"`
}

// Bridge is one [[bridge]]: one person's account.
type Bridge struct {
	Address          string   `toml:"address"`
	Aliases          []string `toml:"aliases"`
	Auth             string   `toml:"auth"`
	IMAP             *Service `toml:"imap"`
	SMTP             *Service `toml:"smtp"`
	UpstreamUser     string   `toml:"upstream_user"`
	UpstreamPassword string   `toml:"upstream_password"`
	UpstreamCA       string   `toml:"upstream_ca"`
	AuthservID       string   `toml:"authserv_id"` // RFC 8601: what the upstream calls itself in Authentication-Results
	Append           string   `toml:"append"`
	Sent             string   `toml:"sent"`
	SearchUpstream   bool     `toml:"search_upstream"`
	Expose           bool     `toml:"expose"`
	TLSCertificate   string   `toml:"tls_certificate"`
	TLSKey           string   `toml:"tls_key"`

	Account address.Address   `toml:"-"`
	Alias   []address.Address `toml:"-"`
}

// Service is one protocol of a bridge: where mail programs connect, and the
// server behind.
type Service struct {
	Listen   Strings `toml:"listen"`
	Upstream string  `toml:"upstream"`

	Addresses []endpoint.Address `toml:"-"`
	Server    endpoint.Upstream  `toml:"-"`
}

// example is what to write of the service of that name.
func (*Service) example(path string) string {
	if strings.HasSuffix(path, ".smtp") {
		return `smtp = { listen = "127.0.0.1:1025", upstream = "submissions://HOST" }`
	}
	return `imap = { listen = "127.0.0.1:1143", upstream = "imaps://HOST" }`
}

// Store is where state lies.
type Store struct {
	URL string `toml:"url"`
	// Takeover is how long a node of a shared store that says nothing is taken
	// for alive: after that, the others finish what it left.
	Takeover string `toml:"takeover"`

	// DSN is the URL of a shared store, its password included; "" for the
	// embedded one.
	DSN string `toml:"-" json:"-"`
	// Lease is Takeover; 0 is the default.
	Lease time.Duration `toml:"-" json:"-"`
}

// Log is what is written to standard error.
type Log struct {
	Level string `toml:"level"`
}

// Strings is one string or a list of them.
type Strings []string

// Default is what holds where the file says nothing.
func Default() *Config {
	return &Config{
		Audit:     Audit{Recipients: "hash", Keep: "90d", KeepFor: 90 * 24 * time.Hour},
		StateDir:  defaultStateDir(),
		Unlock:    "keyring",
		Store:     Store{URL: "sqlite:"},
		Discovery: Discovery{Sources: []string{"wkd", "autocrypt"}},
		Policy:    defaultPolicy(),
		Log:       Log{Level: "info"},
	}
}

// setDefaults is called for each [[bridge]] before it is read.
func (b *Bridge) setDefaults() {
	b.Auth, b.Append, b.Sent = "local", "all", "client"
	b.UpstreamPassword, b.SearchUpstream = "store", true
}

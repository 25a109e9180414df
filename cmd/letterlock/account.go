package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/config"
	"letterlock.org/letterlock/internal/endpoint"
	"letterlock.org/letterlock/internal/login"
	"letterlock.org/letterlock/pgp"
	"letterlock.org/letterlock/pgp/keyring"
)

type accountCmd struct {
	Add      accountAdd      `cmd:"" help:"Make a configured account ready: its key and passwords."`
	Show     accountShow     `cmd:"" help:"What to enter in a mail program."`
	Password accountPassword `cmd:"" help:"Store the upstream's password; or --renew our own."`
	Remove   accountRemove   `cmd:"" help:"End an account: its [[bridge]], its passwords, and who is logged in. Its keys and its mail stay."`
}

type accountAdd struct {
	Address      addressArg `arg:""`
	PasswordFile string     `placeholder:"FILE" help:"The upstream's password; - is standard input."`
	JSON         bool       `name:"json" help:"For scripts."`
}

func (c *accountAdd) runState(ctx context.Context, e *env, s *state) error {
	b, err := s.find(c.Address.Address)
	if err != nil {
		return err
	}
	for _, a := range addresses(b) {
		if _, err := s.firstKey(ctx, a); err != nil {
			return fmt.Errorf("key of %s: %w", a, err)
		}
	}
	ready, err := s.login.HasUpstreamPassword(ctx, loginOf(s.cfg.Load(), b))
	if err != nil {
		return err
	}
	if c.PasswordFile != "" || !ready && b.UpstreamPassword == "store" {
		if err := s.setPassword(ctx, e, b, c.PasswordFile); err != nil {
			return err
		}
	}
	return (&accountShow{Address: c.Address, JSON: c.JSON}).runState(ctx, e, s)
}

// firstKey is the certificate of the key of an address, which is made if there is none.
func (s *state) firstKey(ctx context.Context, a address.Address) (*pgp.Certificate, error) {
	cert, err := s.keys.Certificate(ctx, a)
	if errors.Is(err, keyring.ErrNoKey) {
		cert, err = s.keys.GenerateFirst(ctx, a, pgp.DefaultProfile)
	}
	if errors.Is(err, keyring.ErrHasKey) { // another command was faster
		cert, err = s.keys.Certificate(ctx, a)
	}
	return cert, err
}

func loginOf(cfg *config.Config, b *config.Bridge) login.Account {
	for _, l := range logins(cfg) {
		if l.Address.Equal(b.Account) {
			return l
		}
	}
	return login.Account{}
}

// setPassword stores the upstream's password: itself, or in passthrough mode
// what it is recognised by.
func (s *state) setPassword(ctx context.Context, e *env, b *config.Bridge, file string) error {
	p, err := e.secret(file, "password of "+b.UpstreamUser+" at the mail server")
	if err != nil {
		return err
	}
	if p == "" {
		return errors.New("an empty password was not stored")
	}
	if login.Mode(b.Auth) == login.Passthrough {
		err = s.login.SetVerifier(ctx, b.Account, p)
	} else {
		err = s.login.SetUpstreamPassword(ctx, b.Account, p)
	}
	if err != nil {
		return err
	}
	s.tryPassword(ctx, e, b, p)
	if x := s.bridges.indexers[b.Account.Key()]; x != nil {
		x.Wake() // it may have been waiting for this
	}
	return nil
}

type accountPassword struct {
	Address      addressArg `arg:""`
	PasswordFile string     `placeholder:"FILE" help:"The upstream's password; - is standard input."`
	Renew        bool       `help:"Make another password of our own instead; mail programs have to be given it."`
}

func (c *accountPassword) runState(ctx context.Context, e *env, s *state) error {
	b, err := s.find(c.Address.Address)
	if err != nil {
		return err
	}
	if c.Renew {
		if _, err := s.login.RenewLocalPassword(ctx, b.Account); err != nil {
			return err
		}
		return (&accountShow{Address: c.Address}).runState(ctx, e, s)
	}
	if b.UpstreamPassword != "store" && login.Mode(b.Auth) == login.Local {
		return fmt.Errorf("%w: upstream_password of %s is %q, so nothing stored would be used (write \"store\" there)", errConfig, b.Address, b.UpstreamPassword)
	}
	if err := s.setPassword(ctx, e, b, c.PasswordFile); err != nil {
		return err
	}
	e.printf("Stored for %s.\n", b.Account)
	return nil
}

type accountShow struct {
	Address addressArg `arg:""`
	JSON    bool       `name:"json" help:"For scripts."`
}

// accountJSON is what a mail program has to be told.
type accountJSON struct {
	Address  string            `json:"address"`
	User     string            `json:"user"`
	Auth     string            `json:"auth"`
	Password string            `json:"password"` // "" in passthrough mode
	IMAP     []serverJSON      `json:"imap"`
	SMTP     []serverJSON      `json:"smtp"`
	CA       string            `json:"ca"`
	Key      string            `json:"key"`
	Prefs    map[string]string `json:"thunderbird_prefs"`
}

type serverJSON struct {
	Host     string `json:"host"`
	Port     int    `json:"port"`     // 0: picked when serve starts
	Security string `json:"security"` // starttls or tls
}

// keywordPrefs give our IMAP keywords names and colours in Thunderbird, which
// looks them up in lower case.
var keywordPrefs = map[string]string{
	"mailnews.tags.$letterlockencrypted.tag":   "Encrypted",
	"mailnews.tags.$letterlockencrypted.color": "#1a7f37",
	"mailnews.tags.$letterlocksigned.tag":      "Signed",
	"mailnews.tags.$letterlocksigned.color":    "#0969da",
	"mailnews.tags.$letterlockverified.tag":    "Verified sender",
	"mailnews.tags.$letterlockverified.color":  "#8250df",
	"mailnews.tags.$letterlockwarning.tag":     "Encryption warning",
	"mailnews.tags.$letterlockwarning.color":   "#cf222e",
}

func (s *state) account(ctx context.Context, b *config.Bridge) (accountJSON, error) {
	j := accountJSON{Address: b.Account.String(), User: b.Account.String(), Auth: b.Auth, Prefs: keywordPrefs,
		CA: filepath.Join(s.cfg.Load().StateDir, caName), IMAP: s.servers(b, b.IMAP), SMTP: s.servers(b, b.SMTP)}
	if login.Mode(b.Auth) == login.Local {
		p, err := s.login.LocalPassword(ctx, b.Account)
		if err != nil {
			return j, err
		}
		j.Password = p
	}
	if c, err := s.keys.Certificate(ctx, b.Account); err == nil {
		j.Key = string(c.Fingerprint())
	}
	return j, nil
}

// servers are where a mail program connects: as configured, or as it really is
// while serve runs.
func (s *state) servers(b *config.Bridge, sv *config.Service) []serverJSON {
	out := []serverJSON{}
	if sv == nil {
		return out
	}
	for _, a := range sv.Addresses {
		port := a.Port
		if real, ok := s.ports[listening{b.Account.Key(), a}]; ok {
			port = real
		}
		host := a.Host
		if host == "" || host == "0.0.0.0" || host == "::" {
			host = "the name of this machine"
		}
		security := "starttls"
		if a.Security == endpoint.TLS {
			security = "tls"
		}
		out = append(out, serverJSON{host, port, security})
	}
	return out
}

func (c *accountShow) runState(ctx context.Context, e *env, s *state) error {
	b, err := s.find(c.Address.Address)
	if err != nil {
		return err
	}
	j, err := s.account(ctx, b)
	if err != nil {
		return err
	}
	if c.JSON {
		return e.json(j)
	}
	j.print(e)
	ready, err := s.login.HasUpstreamPassword(ctx, loginOf(s.cfg.Load(), b))
	if err == nil && !ready {
		e.printf("\nNot ready yet: run letterlock account password %s\n", b.Account)
	}
	return err
}

func (j accountJSON) print(e *env) {
	e.printf("%s\n", j.Address)
	row := func(name string, l []serverJSON) {
		for _, s := range l {
			port := strconv.Itoa(s.Port)
			if s.Port == 0 {
				port = "(picked when serve starts)"
			}
			e.printf("  %-9s %s port %s, %s, normal password\n", name, s.Host, port, map[string]string{"starttls": "STARTTLS", "tls": "SSL/TLS"}[s.Security])
		}
	}
	row("incoming", j.IMAP)
	row("outgoing", j.SMTP)
	e.printf("  user      %s\n", j.User)
	if j.Password != "" {
		e.printf("  password  %s\n", j.Password)
	} else {
		e.printf("  password  the one of the mail server\n")
	}
	e.printf("  CA        %s (let the mail program trust it; it vouches for this computer only)\n", j.CA)
	e.printf("            Thunderbird: Settings, Privacy & Security, Manage Certificates, Authorities, Import; tick: identify websites\n")
	if j.Key != "" {
		e.printf("  key       %s\n", grouped(pgp.Fingerprint(j.Key)))
	}
	printPrefs(e, j.Prefs)
}

func printPrefs(e *env, prefs map[string]string) {
	e.printf("  Thunderbird, names and colours of the keywords (user.js in its profile):\n")
	for _, k := range slices.Sorted(maps.Keys(prefs)) {
		e.printf("    user_pref(%q, %q);\n", k, prefs[k])
	}
}

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"

	"letterlock.org/letterlock/imapd"
	"letterlock.org/letterlock/imapd/index"
	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/config"
	"letterlock.org/letterlock/internal/endpoint"
	"letterlock.org/letterlock/internal/login"
	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/pgp"
	"letterlock.org/letterlock/pgp/keyring"
	"letterlock.org/letterlock/policy"
	"letterlock.org/letterlock/smtpd"
)

// bridges turns the configuration's accounts into those of the two servers. What
// differs between people is here; nothing of it is in the servers.
type bridges struct {
	s *state

	mu        sync.Mutex                // guards libraries
	libraries map[string]*index.Library // by address key; they outlive a reload
	indexers  map[string]*index.Indexer // by address key; set by start alone

	shown atomic.Pointer[map[int]*tls.Config] // at listeners, by port

	// Set by start alone: who is told of a reload.
	imapServers []*imapd.Server
	reloads     []chan struct{} // of what keeps an indexer running
	probers     []func()        // ask those upstreams that hold now
}

func newBridges(s *state) *bridges {
	return &bridges{s: s, libraries: map[string]*index.Library{}, indexers: map[string]*index.Indexer{}}
}

func (b *bridges) close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	var err error
	for _, l := range b.libraries {
		err = errors.Join(err, l.Close())
	}
	return err
}

// logins are the accounts of a configuration, for the login checker.
func logins(cfg *config.Config) (out []login.Account) {
	for i := range cfg.Bridges {
		b := &cfg.Bridges[i]
		a := login.Account{Address: b.Account, Aliases: b.Alias, Mode: login.Mode(b.Auth)}
		if b.UpstreamPassword != "store" {
			a.UpstreamPassword = func(context.Context) (string, error) {
				p, _, err := b.ReadUpstreamPassword()
				return p, err
			}
		}
		out = append(out, a)
	}
	return out
}

// find is the bridge of an account in the configuration that holds now.
func (s *state) find(account address.Address) (*config.Bridge, error) {
	cfg := s.cfg.Load()
	for i := range cfg.Bridges {
		if cfg.Bridges[i].Account.Equal(account) {
			return &cfg.Bridges[i], nil
		}
	}
	if of, ok := s.aliasOf(account); ok {
		return nil, fmt.Errorf("%w: %s is an alias of %s in %s; that is the account", errConfig, account, of, cfg.File)
	}
	if s.served {
		return nil, fmt.Errorf("%w: serve runs without a [[bridge]] for %s (add one to %s, then have serve read it: kill -HUP; or run: letterlock setup %s)", errConfig, account, cfg.File, account)
	}
	return nil, fmt.Errorf("%w: %s has no [[bridge]] for %s (add one, or run: letterlock setup %s)", errConfig, cfg.File, account, account)
}

// aliasOf is the account that an address is an alias of.
func (s *state) aliasOf(a address.Address) (account address.Address, ok bool) {
	for _, b := range s.cfg.Load().Bridges {
		if slices.ContainsFunc(b.Alias, a.Equal) {
			return b.Account, true
		}
	}
	return account, false
}

// addresses are all that an account may send from, its own first.
func addresses(b *config.Bridge) []address.Address {
	return append([]address.Address{b.Account}, b.Alias...)
}

// signer is the key that signs for from: its own, else the account's.
func (s *state) signer(ctx context.Context, b *config.Bridge, from address.Address) (pgp.Signer, error) {
	k, err := s.keys.Signer(ctx, from)
	if errors.Is(err, keyring.ErrNoKey) && !from.Equal(b.Account) {
		return s.keys.Signer(ctx, b.Account)
	}
	return k, err
}

// library is the index of an account.
func (b *bridges) library(br *config.Bridge) (*index.Library, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	key := br.Account.Key()
	if l := b.libraries[key]; l != nil {
		return l, nil
	}
	own := func() []address.Address { // as it is configured now
		if now, err := b.s.find(br.Account); err == nil {
			return addresses(now)
		}
		return addresses(br)
	}
	l, err := index.New(index.Config{
		Store: b.s.store, Account: key, Own: own(),
		Keys:         func(ctx context.Context) (pgp.Decrypter, error) { return b.s.keys.Decrypter(ctx, own()...) },
		Certificates: b.s.resolver,
		Observe:      func(ctx context.Context, o keydir.Observation) { b.observe(ctx, br.Account, o) },
		Open:         b.s.open,
		Elsewhere:    b.s.gatewayReplayed,
		Spool:        b.spool(), Logger: b.s.log, Now: b.s.now,
	})
	if err != nil {
		return nil, err
	}
	b.libraries[key] = l
	return l, nil
}

// recheck brings the keywords of all mail up to date after somebody's
// certificate changed its standing.
func (b *bridges) recheck(ctx context.Context) error {
	cfg := b.s.cfg.Load()
	for i := range cfg.Bridges {
		if cfg.Bridges[i].IMAP == nil {
			continue
		}
		l, err := b.library(&cfg.Bridges[i])
		if err == nil {
			err = l.Recheck(ctx)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (b *bridges) observe(ctx context.Context, account address.Address, o keydir.Observation) {
	if br, err := b.s.find(account); err == nil { // as it is configured now
		o.Authserv = br.AuthservID
	}
	if err := b.s.resolver.Observe(ctx, o); err != nil {
		b.s.log.Warn("noting what a message showed of its sender's certificate", "error", err)
	}
}

func (b *bridges) spool() message.SpoolOptions { return message.SpoolOptions{} }

// imap is the account that an IMAP session works on.
func (b *bridges) imap(account address.Address) (*imapd.Account, error) {
	br, err := b.s.find(account)
	if err != nil {
		return nil, err
	}
	if br.IMAP == nil {
		return nil, fmt.Errorf("%w: %s has no imap", errConfig, account)
	}
	library, err := b.library(br)
	if err != nil {
		return nil, err
	}
	a := &imapd.Account{
		Name: br.Account.Key(), User: br.UpstreamUser, Dial: br.IMAP.Server.Dial,
		Library: library, Append: imapd.AppendMode(br.Append), SearchUpstream: br.SearchUpstream, Spool: b.spool(),
		Seal: func(ctx context.Context, w io.Writer, src message.Source) error { return b.seal(ctx, br, w, src) },
		Gone: b.gone(account), Changed: b.changed(br),
	}
	if br.IMAP.Server.Security == endpoint.STARTTLS {
		a.StartTLS = br.IMAP.Server.TLSConfig()
	}
	return a, nil
}

// servesIMAP tells whether the configuration that holds now has an account's mail
// read.
func (b *bridges) servesIMAP(account address.Address) bool {
	br, err := b.s.find(account)
	return err == nil && br.IMAP != nil
}

// renameOwn tells the indexes which addresses their accounts have now.
func (b *bridges) renameOwn() {
	b.mu.Lock()
	defer b.mu.Unlock()
	cfg := b.s.cfg.Load()
	for i := range cfg.Bridges {
		if l := b.libraries[cfg.Bridges[i].Account.Key()]; l != nil {
			l.SetOwn(addresses(&cfg.Bridges[i]))
		}
	}
}

// behind are the upstreams of those who are reached by a listener, in the
// configuration that holds now.
func (b *bridges) behind(o *opened) (all []smtpd.Upstream) {
	for _, a := range o.accounts {
		if br, err := b.s.find(a); err == nil && br.SMTP != nil {
			all = append(all, probed(br.SMTP.Server))
		}
	}
	return all
}

// reloaded has those who wait look at the configuration that holds now: clients in
// IDLE, and indexers.
func (b *bridges) reloaded() {
	b.renameOwn()
	for _, srv := range b.imapServers {
		srv.Recheck()
	}
	for _, ask := range b.probers {
		ask()
	}
	for _, c := range b.reloads {
		select {
		case c <- struct{}{}:
		default: // told already
		}
	}
}

// seal seals a message for its owner.
func (b *bridges) seal(ctx context.Context, br *config.Bridge, w io.Writer, src message.Source) error {
	k, err := b.s.keys.Signer(ctx, br.Account)
	if err != nil {
		return err
	}
	return pgp.Seal(ctx, w, src, pgp.Sealing{Signer: k, Storage: k.Certificate(), From: br.Account, Now: b.s.now(), Spool: b.spool()})
}

// smtp is the account that a submission works on.
func (b *bridges) smtp(ctx context.Context, account address.Address, password string) (*smtpd.Account, error) {
	br, err := b.s.find(account)
	if err != nil {
		return nil, err
	}
	if br.SMTP == nil {
		return nil, fmt.Errorf("%w: %s has no smtp", errConfig, account)
	}
	library, err := b.library(br)
	if err != nil {
		return nil, err
	}
	a := &smtpd.Account{
		Addresses: addresses(br), Find: b.s.gateways, Opened: b.s.opened(library),
		Passwords: b.s.passwordForm(nil),
		Signer:    func(ctx context.Context, from address.Address) (pgp.Signer, error) { return b.s.signer(ctx, br, from) },
		Rules:     func() *policy.Rules { return b.s.cfg.Load().Rules },
		Upstream:  submissionTo(br, password),
	}
	if br.Sent == "provider" {
		own, err := b.s.keys.Certificate(ctx, br.Account)
		if err != nil {
			return nil, err
		}
		a.Own = []*pgp.Certificate{own}
	}
	return a, nil
}

// submissionTo is where a bridge with an smtp service sends its mail.
func submissionTo(br *config.Bridge, password string) smtpd.Upstream {
	up := br.SMTP.Server
	u := smtpd.Upstream{Dial: up.DialTCP, Mode: tlsModes[up.Security], User: br.UpstreamUser, Password: password, Name: up.HostPort()}
	if up.Security != endpoint.Cleartext {
		u.TLS = up.TLSConfig()
	}
	return u
}

var tlsModes = map[endpoint.Security]smtpd.TLSMode{
	endpoint.TLS: smtpd.ImplicitTLS, endpoint.STARTTLS: smtpd.STARTTLS, endpoint.Cleartext: smtpd.Insecure,
}

// check is a login at one listener: only accounts that have it may use it.
func (b *bridges) check(ctx context.Context, at endpoint.Address, remote net.Addr, user, password string) (address.Address, string, error) {
	account, upstream, err := b.s.login.Check(ctx, remote, user, password)
	if err != nil {
		return address.Address{}, "", err
	}
	br, err := b.s.find(account)
	if err != nil {
		return address.Address{}, "", err
	}
	for _, s := range []*config.Service{br.IMAP, br.SMTP} {
		if s != nil && slices.Contains(s.Addresses, at) {
			return account, upstream, nil
		}
	}
	return address.Address{}, "", login.ErrRefused
}

func (b *bridges) imapLogin(at endpoint.Address) func(context.Context, net.Addr, string, string) (*imapd.Account, string, error) {
	return func(ctx context.Context, remote net.Addr, user, password string) (*imapd.Account, string, error) {
		account, upstream, err := b.check(ctx, at, remote, user, password)
		switch {
		case errors.Is(err, login.ErrRefused):
			return nil, "", fmt.Errorf("%w: %w", imapd.ErrRefused, err)
		case errors.Is(err, login.ErrThrottled):
			return nil, "", fmt.Errorf("%w: %w", imapd.ErrThrottled, err)
		case err != nil:
			b.s.log.Warn("imap login not possible", "error", err)
			return nil, "", err
		}
		a, err := b.imap(account)
		return a, upstream, err
	}
}

func (b *bridges) smtpLogin(at endpoint.Address) func(context.Context, net.Addr, string, string) (*smtpd.Account, error) {
	return func(ctx context.Context, remote net.Addr, user, password string) (*smtpd.Account, error) {
		account, upstream, err := b.check(ctx, at, remote, user, password)
		switch {
		case errors.Is(err, login.ErrRefused):
			return nil, fmt.Errorf("%w: %w", smtpd.ErrCredentials, err)
		case err != nil:
			b.s.log.Warn("smtp login not possible", "error", err)
			return nil, err
		}
		was, err := b.s.find(account)
		if err != nil {
			return nil, err
		}
		a, err := b.smtp(ctx, account, upstream)
		if err == nil {
			a.Now = b.standing(a, was)
		}
		return a, err
	}
}

// queued is the account that the queue sends for.
func (b *bridges) queued(ctx context.Context, key string) (*smtpd.Account, error) {
	account, err := address.Parse(key)
	if err != nil {
		return nil, err
	}
	password, err := b.s.login.UpstreamPassword(ctx, account)
	if err != nil {
		return nil, err
	}
	return b.smtp(ctx, account, password)
}

// serverTLS shows each listener's own certificate: a bridge's where it has one,
// else that of the local authority.
func (b *bridges) serverTLS(cfg *config.Config) (*tls.Config, error) {
	own, err := b.certificates(cfg)
	if err != nil {
		return nil, err
	}
	b.shown.Store(&own)
	local := b.s.tls.TLSConfig()
	local.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		if a, ok := h.Conn.LocalAddr().(*net.TCPAddr); ok {
			return (*b.shown.Load())[a.Port], nil
		}
		return nil, nil
	}
	return local, nil
}

// certificates reads those that bridges have of their own, by port.
func (b *bridges) certificates(cfg *config.Config) (map[int]*tls.Config, error) {
	byPort := map[int]*tls.Config{}
	for _, br := range cfg.Bridges {
		if br.TLSCertificate == "" {
			continue
		}
		cert, err := tls.LoadX509KeyPair(br.TLSCertificate, br.TLSKey)
		if err != nil {
			return nil, fmt.Errorf("%w: tls_certificate of %s: %w", errConfig, br.Address, err)
		}
		for _, s := range []*config.Service{br.IMAP, br.SMTP} {
			if s == nil {
				continue
			}
			for _, a := range s.Addresses {
				byPort[a.Port] = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
			}
		}
	}
	return byPort, nil
}

package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/config"
	"letterlock.org/letterlock/internal/endpoint"
	"letterlock.org/letterlock/internal/login"
	"letterlock.org/letterlock/pgp"
	"letterlock.org/letterlock/pgp/keyring"
	"letterlock.org/letterlock/policy"
	"letterlock.org/letterlock/smtpd"
)

// relay turns [relay] into the accounts and listeners of the mail server.
type relay struct {
	s         *state
	c         *config.Relay
	host      string
	token     string
	password  string // at the smarthost
	dkim      *smtpd.DKIM
	tls       *tls.Config
	clientCA  *x509.CertPool // nil: none is trusted for its authority
	login     *login.Checker
	listeners []*opened
	opener    *inbound  // what is known of mail that came in
	inner     []*opened // listeners of what comes in
}

// newRelay reads what [relay] names, and opens no listener; nil without one.
func newRelay(ctx context.Context, s *state, cfg *config.Config) (*relay, error) {
	if cfg.Relay == nil {
		return nil, nil
	}
	r := &relay{s: s, c: cfg.Relay, host: hostname(cfg.Relay), token: installation(s.tls), login: relayLogin(s, cfg.Relay)}
	r.opener = &inbound{s: s, token: r.token}
	var err error
	if r.password, err = r.c.ReadSmarthostPassword(); err != nil {
		return nil, fmt.Errorf("%w: relay: %w", errConfig, err)
	}
	if k := r.c.DKIM; k != nil {
		text, err := os.ReadFile(k.Key)
		if err == nil {
			r.dkim, err = smtpd.NewDKIM(k.Domain, k.Selector, text)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: relay.dkim: %w", errConfig, err)
		}
	}
	if r.tls, err = r.serverTLS(); err != nil {
		return nil, err
	}
	if r.signsForDomain() {
		if _, err := s.keys.Signer(ctx, r.c.Signing); errors.Is(err, keyring.ErrNoKey) {
			return nil, fmt.Errorf("%w: relay.domain_key: there is no key of %s yet (make one with: letterlock key generate %s)", errConfig, r.c.Signing, r.c.Signing)
		}
	}
	return r, nil
}

// hostname is our name in greetings and trace fields.
func hostname(c *config.Relay) string {
	name, _ := os.Hostname()
	if _, err := address.Parse("x@" + name); err != nil || !strings.Contains(name, ".") {
		name = "relay." + c.Domains[0]
	}
	return cmp.Or(c.Hostname, name)
}

// installation is a word that all nodes of this installation share, and no other
// has.
func installation(a *endpoint.Authority) string {
	sum := sha256.Sum256(a.PEM())
	return hex.EncodeToString(sum[:8])
}

// relayLogin checks the passwords of [relay] users, which are of our own making.
func relayLogin(s *state, c *config.Relay) *login.Checker {
	lc := login.Config{Store: s.store, Now: s.now}
	for _, u := range c.Logins {
		lc.Accounts = append(lc.Accounts, login.Account{Address: u.Name, Mode: login.Local,
			UpstreamPassword: func(context.Context) (string, error) { return "", nil }})
	}
	return login.New(lc)
}

// serverTLS asks for client certificates; who must have one is decided at MAIL.
func (r *relay) serverTLS() (*tls.Config, error) {
	t := r.s.tls.TLSConfig()
	if r.c.TLSCertificate != "" {
		cert, err := tls.LoadX509KeyPair(r.c.TLSCertificate, r.c.TLSKey)
		if err != nil {
			return nil, fmt.Errorf("%w: relay.tls_certificate: %w", errConfig, err)
		}
		t.Certificates = []tls.Certificate{cert}
	}
	if r.c.ClientCA != "" {
		text, err := os.ReadFile(r.c.ClientCA)
		if err != nil {
			return nil, fmt.Errorf("%w: relay.client_ca: %w", errConfig, err)
		}
		r.clientCA = x509.NewCertPool() // the system's authorities vouch for anybody
		r.clientCA.AppendCertsFromPEM(text)
	}
	if r.clientCA != nil || len(r.c.Fingerprints) > 0 {
		t.ClientAuth = tls.RequestClientCert
	}
	return t, nil
}

// listen opens the listeners.
func (r *relay) listen(ctx context.Context) error {
	err := open(ctx, &r.listeners, r.c.Addresses)
	if err == nil && r.c.Inbound != nil {
		err = open(ctx, &r.inner, r.c.Inbound.Addresses)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("relay: %w", err), closeAll(r.listeners), closeAll(r.inner))
	}
	return nil
}

func open(ctx context.Context, to *[]*opened, all []endpoint.Address) error {
	for _, at := range all {
		l, err := at.Listen(ctx)
		if err != nil {
			return err
		}
		*to = append(*to, &opened{Listener: l, at: at})
	}
	return nil
}

// serve adds the relay to the mail server that is about to start.
func (r *relay) serve(ctx context.Context, to *roles, c *smtpd.Config) {
	p := &smtpd.Prober{Logger: r.s.log, Every: r.s.probing(), Upstreams: []smtpd.Upstream{probed(r.c.Server)}}
	to.probers = append(to.probers, p)
	to.work.Go(func() { p.Run(ctx) })
	c.Domain = r.host
	for _, o := range r.listeners {
		l := smtpd.Listener{Listener: o.Listener, Implicit: o.at.Security == endpoint.TLS, Open: r.open, Forward: r.forward, Capabilities: p.Capabilities}
		if len(r.c.Logins) > 0 {
			l.Login = r.logIn
		}
		c.Listeners = append(c.Listeners, l)
		to.ready = append(to.ready, newReadyLine("relay", relayProtocols[o.at.Security], strings.Join(r.c.Domains, ","), o.Addr()))
	}
	if r.c.Inbound != nil {
		r.serveInside(ctx, to, c)
	}
	c.TLS = r.shownAt(c.TLS)
}

// shownAt is base, with the relay's own certificate at its listeners.
func (r *relay) shownAt(base *tls.Config) *tls.Config {
	ports := map[int]bool{}
	for _, o := range append(r.listeners[:len(r.listeners):len(r.listeners)], r.inner...) {
		ports[o.Addr().(*net.TCPAddr).Port] = true
	}
	both := base.Clone()
	both.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		if a, ok := h.Conn.LocalAddr().(*net.TCPAddr); ok && ports[a.Port] {
			return r.tls, nil
		}
		if base.GetConfigForClient != nil {
			return base.GetConfigForClient(h)
		}
		return nil, nil
	}
	return both
}

// trusts tells whether an address is in one of the trusted networks.
func (r *relay) trusts(a net.Addr) bool {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return false
	}
	ip, ok := netip.AddrFromSlice(t.IP)
	if !ok {
		return false
	}
	ip = ip.Unmap()
	for _, n := range r.s.cfg.Load().Relay.Networks { // a reload changes them
		if n.Contains(ip) {
			return true
		}
	}
	return false
}

// forward: an MTA of a trusted network may say whom it speaks for.
func (r *relay) forward(p smtpd.Peer) bool { return r.trusts(p.Remote) }

// open is the account of a client that has not logged in. After XCLIENT it is
// judged by the client that the MTA spoke for, as if that had come by itself.
func (r *relay) open(_ context.Context, p smtpd.Peer) *smtpd.Account {
	if who, err := address.Parse(p.Login); err == nil && p.Via != nil && r.c.TrustSender {
		return r.account(config.RelayClient{Name: who})
	}
	if r.trusts(p.Remote) {
		return r.account(config.RelayClient{Any: true})
	}
	if p.Via != nil || p.TLS == nil || len(p.TLS.PeerCertificates) == 0 {
		return nil
	}
	cert := p.TLS.PeerCertificates[0]
	sum := sha256.Sum256(cert.Raw)
	if c, ok := r.c.Fingerprints[hex.EncodeToString(sum[:])]; ok && valid(cert, r.s.now()) {
		return r.account(c)
	}
	if r.clientCA == nil {
		return nil
	}
	between := x509.NewCertPool()
	for _, c := range p.TLS.PeerCertificates[1:] {
		between.AddCert(c)
	}
	if _, err := cert.Verify(x509.VerifyOptions{Roots: r.clientCA, Intermediates: between, CurrentTime: r.s.now(),
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		r.s.log.Info("client certificate refused", "remote", p.Remote.String(), "reason", err)
		return nil
	}
	return r.account(config.RelayClient{Any: true})
}

func valid(c *x509.Certificate, now time.Time) bool {
	return !now.Before(c.NotBefore) && !now.After(c.NotAfter)
}

// logIn is the account of a user with a password of ours.
func (r *relay) logIn(ctx context.Context, remote net.Addr, user, password string) (*smtpd.Account, error) {
	who, _, err := r.login.Check(ctx, remote, user, password)
	if errors.Is(err, login.ErrRefused) {
		return nil, fmt.Errorf("%w: %w", smtpd.ErrCredentials, err)
	}
	if err != nil {
		return nil, err
	}
	for _, c := range r.c.Logins {
		if c.Name.Equal(who) {
			return r.account(c), nil
		}
	}
	return nil, smtpd.ErrCredentials
}

// account is what a client works on. Who may send as anybody has proved to be
// nobody in particular.
func (r *relay) account(c config.RelayClient) *smtpd.Account {
	up := probed(r.c.Server)
	up.User, up.Password, up.Helo = r.c.SmarthostUser, r.password, r.host
	a := &smtpd.Account{
		Addresses: []address.Address{{Local: "postmaster", Domain: r.c.Domains[0]}},
		Find:      r.s.finder(),
		Rules:     func() *policy.Rules { return r.s.cfg.Load().Rules },
		Upstream:  up,
		Passwords: &smtpd.Passwords{Agreed: r.s.passwords().Find, ClearNotice: r.noticeInClear},
		Relay: &smtpd.Relay{
			Host: r.host, Token: r.token, Any: c.Any, TrustSender: c.Any && r.c.TrustSender, DKIM: r.dkim,
			NoKey: func(err error) bool { return errors.Is(err, keyring.ErrNoKey) },
		},
	}
	if r.c.Inbound != nil {
		a.Opened = r.opener
	}
	if !c.Any {
		a.Addresses, a.Relay.Proven = []address.Address{c.Name}, c.Name
	}
	if r.c.Sign == "sender" {
		a.Relay.SenderKey = r.s.keys.Signer
	}
	if r.signsForDomain() {
		a.Relay.DomainKey = func(ctx context.Context) (pgp.Signer, error) { return r.s.keys.Signer(ctx, r.c.Signing) }
	}
	return a
}

// noticeInClear tells whether a password may be told in clear: to members only.
func (r *relay) noticeInClear(to address.Address) bool {
	return r.c.PasswordNotice == "clear" && slices.Contains(r.c.Domains, to.Domain)
}

func (r *relay) signsForDomain() bool { return r.c.Sign != "none" && !r.c.Signing.IsZero() }

// queued finds the account that the queue sends for.
func (r *relay) queued(others func(context.Context, string) (*smtpd.Account, error)) func(context.Context, string) (*smtpd.Account, error) {
	return func(ctx context.Context, key string) (*smtpd.Account, error) {
		switch {
		case key == smtpd.RelayKey:
			return r.account(config.RelayClient{Any: true}), nil
		case key == smtpd.InboundKey && r.c.Inbound != nil:
			return r.inside(), nil
		}
		return others(ctx, key)
	}
}

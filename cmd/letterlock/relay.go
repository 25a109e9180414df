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

// relay turns [relay], as it was read last, into the accounts of the mail server.
// It doesn't change: a reload makes another.
type relay struct {
	s        *state
	gate     *gate
	c        *config.Relay
	host     string
	token    string
	password string // at the smarthost
	dkim     *smtpd.DKIM
	tls      *tls.Config
	clientCA *x509.CertPool // nil: none is trusted for its authority
}

// newRelay reads what [relay] names: keys, certificates, passwords.
func newRelay(ctx context.Context, g *gate, c *config.Relay) (*relay, error) {
	s := g.s
	r := &relay{s: s, gate: g, c: c, host: hostname(c), token: installation(s.tls)}
	if old := g.now.Load(); old != nil {
		r.host = old.host // greetings have it
	}
	var err error
	if r.password, err = r.c.ReadSmarthostPassword(); err != nil {
		return nil, fmt.Errorf("%w: relay: %w", errConfig, err)
	}
	if r.dkim, err = dkimOf(r.c); err != nil {
		return nil, fmt.Errorf("%w: %w", errConfig, err)
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

// dkimOf is how mail that we changed is signed for its domain; nil for not at all.
func dkimOf(c *config.Relay) (*smtpd.DKIM, error) {
	if c.DKIM == nil {
		return nil, nil
	}
	text, err := os.ReadFile(c.DKIM.Key)
	if err != nil {
		return nil, fmt.Errorf("relay.dkim: %w", err)
	}
	signer, err := smtpd.NewDKIM(c.DKIM.Domain, c.DKIM.Selector, text)
	if err != nil {
		return nil, fmt.Errorf("relay.dkim: %w", err)
	}
	return signer, nil
}

// relayLogin checks the passwords of [relay] users, which are of our own making.
func relayLogin(s *state, c *config.Relay) *login.Checker {
	return login.New(login.Config{Store: s.store, Now: s.now, Accounts: relayUsers(c)})
}

func relayUsers(c *config.Relay) (out []login.Account) {
	for _, u := range c.Logins {
		out = append(out, login.Account{Address: u.Name, Mode: login.Local, UpstreamPassword: func(context.Context) (string, error) { return "", nil }})
	}
	return out
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
	for _, n := range r.c.Networks {
		if n.Contains(ip) {
			return true
		}
	}
	return false
}

// open is the account of a client that has not logged in. After XCLIENT it is
// judged by the client that the MTA spoke for, as if that had come by itself.
func (r *relay) open(p smtpd.Peer) *smtpd.Account {
	if p.Via != nil && !r.trusts(p.Via) { // its network isn't one of ours any more
		return nil
	}
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

// user is the account of who has logged in; nil where there is no such user.
func (r *relay) user(who address.Address) *smtpd.Account {
	for _, c := range r.c.Logins {
		if c.Name.Equal(who) {
			return r.account(c)
		}
	}
	return nil
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
		Passwords: r.s.passwordForm(r.noticeInClear),
		Relay: &smtpd.Relay{
			Host: r.host, Token: r.token, Any: c.Any, TrustSender: c.Any && r.c.TrustSender, DKIM: r.dkim,
			NoKey: func(err error) bool { return errors.Is(err, keyring.ErrNoKey) },
		},
	}
	a.Opened = r.s.opened(nil)
	if r.c.Inbound != nil {
		a.Find = r.s.gateways
	}
	if !c.Any {
		a.Addresses, a.Relay.Proven = []address.Address{c.Name}, c.Name
	}
	if r.c.Sign == "sender" {
		a.Relay.SenderKey = r.s.keys.Signer
	}
	if r.signsForDomain() {
		a.Relay.DomainKey = r.domainKey
	}
	return a
}

// noticeInClear tells whether a password may be told in clear: to members only.
func (r *relay) noticeInClear(to address.Address) bool {
	return r.c.PasswordNotice == "clear" && slices.Contains(r.c.Domains, to.Domain)
}

// domainKey is the key of a domain's gateway, which is how its readers know it; where
// the domain has none, or isn't ours, the one that the configuration names.
func (r *relay) domainKey(ctx context.Context, domain string) (pgp.Signer, error) {
	if domain != r.c.Signing.Domain && slices.Contains(r.c.Domains, domain) {
		if k, err := r.s.keys.Signer(ctx, pgp.GatewayAddress(domain)); !errors.Is(err, keyring.ErrNoKey) {
			return k, err
		}
	}
	return r.s.keys.Signer(ctx, r.c.Signing)
}

func (r *relay) signsForDomain() bool { return r.c.Sign != "none" && !r.c.Signing.IsZero() }

package smtpd

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"maps"
	"net"
	"strings"
	"syscall"
	"time"

	"letterlock.org/letterlock/internal/meter"
)

// FaultKind is what is wrong between us and an account's mail server.
type FaultKind string

const (
	FaultConnect     FaultKind = "connect"     // it can't be reached
	FaultTimeout     FaultKind = "timeout"     // it doesn't answer
	FaultTLS         FaultKind = "tls"         // TLS fails, or isn't offered
	FaultCertificate FaultKind = "certificate" // its certificate is expired, of another name, or of nobody we know
	FaultAuth        FaultKind = "auth"        // it refuses the login, mostly since the password has changed
	FaultLost        FaultKind = "lost"        // it broke off, or the protocol
)

// Fault is the last fault of an account's mail server, until it worked again.
type Fault struct {
	Kind  FaultKind
	Since time.Time // of the first in a row
	Last  time.Time
	Text  string // for a person: what happened and what to do next
}

// Faults are the faults that last, by account key.
func (s *Server) Faults() map[string]Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.faults)
}

// Mended forgets what is wrong with the mail server of an account, by its key: it was
// tried just now, and lets us in.
func (s *Server) Mended(account string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.faults, account)
}

// upstream is a connection to an account's mail server. What is wrong with it is
// remembered.
func (s *Server) upstream(ctx context.Context, a *Account) (*client, error) {
	c, err := s.pool.get(ctx, a.Upstream)
	if ctx.Err() == nil {
		s.noteFault(a, err)
	}
	return c, err
}

// noteFault remembers what is wrong, or that nothing is.
func (s *Server) noteFault(a *Account, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := a.key()
	if err == nil {
		delete(s.faults, key)
		return
	}
	f := Fault{Kind: kindOf(err), Last: s.c.Now()}
	f.Since, f.Text = f.Last, a.told(faultText(f.Kind, err))
	if old, ok := s.faults[key]; ok && old.Kind == f.Kind {
		f.Since = old.Since
	}
	s.faults[key] = f
	s.c.Meter.Count(meter.UpstreamFaults, string(f.Kind))
}

func kindOf(err error) FaultKind {
	var certificate *tls.CertificateVerificationError
	var timeout net.Error
	var dial *net.OpError
	switch {
	case errors.Is(err, errLogin):
		return FaultAuth
	case errors.As(err, &certificate):
		return FaultCertificate
	case errors.Is(err, errNoTLS):
		return FaultTLS
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return FaultTimeout
	case errors.Is(err, errHandshake) && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, syscall.ECONNRESET):
		return FaultTLS
	case errors.As(err, &dial) && dial.Op == "dial":
		return FaultConnect
	}
	return FaultLost
}

// noTLSThere is what is wrong where something else than TLS is spoken.
const noTLSThere = "your mail server speaks no TLS that we do at this port; upstream in the configuration is submissions:// for a port " +
	"with TLS from the beginning, usually 465, and submission:// for one with STARTTLS, usually 587"

// relayWords are those of [relay] for what stands elsewhere in the configuration.
var relayWords = strings.NewReplacer(
	"`letterlock account password ADDRESS` takes another password", "it was tried with smarthost_user and smarthost_password of [relay]",
	"it may have changed: `letterlock account password ADDRESS`", "it was tried with smarthost_user and smarthost_password of [relay]",
	"upstream_ca in the configuration", "smarthost_ca in the configuration",
	"upstream in the configuration", "smarthost in the configuration")

// insideWords are those of [relay.inbound], where nobody logs in.
var insideWords = strings.NewReplacer(
	"upstream_ca in the configuration", "ca of [relay.inbound] in the configuration",
	"upstream in the configuration", "smarthost of [relay.inbound] in the configuration")

// told is a text of ours that tells what to do, in the words of the account's part of
// the configuration.
func (a *Account) told(text string) string {
	switch {
	case a == nil || a.Relay == nil:
		return text
	case a.inbound() != nil:
		return insideWords.Replace(text)
	}
	return relayWords.Replace(text)
}

// faultText says what to do about a fault.
func faultText(k FaultKind, err error) string {
	var no *rebuff
	if errors.As(err, &no) {
		switch {
		case errors.Is(err, ErrUpstreamPassword):
			return "the mail server refuses the user or password; it may have changed: `letterlock account password ADDRESS`; " + no.said()
		case k == FaultAuth:
			return "the mail server refuses the login: " + no.said()
		}
		return "the mail server does not serve us now; " + no.said()
	}
	switch k {
	case FaultCertificate:
		return "the mail server's TLS certificate is not valid for it, so nothing is sent: " + certificateFault(err)
	case FaultTLS:
		return "the mail server offers no TLS that works, so nothing is sent; somebody may be in between"
	case FaultTimeout:
		if errors.Is(err, errMute) {
			return "the mail server doesn't answer: " + errMute.Error()
		}
		return "the mail server doesn't answer"
	case FaultConnect:
		return "the mail server can't be reached"
	}
	return "the mail server broke off"
}

// certificateFault tells apart what can be wrong with a certificate.
func certificateFault(err error) string {
	var invalid x509.CertificateInvalidError
	var name x509.HostnameError
	var unknown x509.UnknownAuthorityError
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "it has expired, or is not valid yet; compare this machine's clock, or tell who runs the server"
	case errors.As(err, &name):
		return "it is of another name; look at upstream in the configuration, somebody may be in between"
	case errors.As(err, &unknown) && leafOnly(err):
		return "nobody we trust has signed it, and the server sends no certificate between; whoever runs it adds the intermediate one, " +
			"or upstream_ca in the configuration names its authority"
	case errors.As(err, &unknown):
		return "nobody we trust has signed it; upstream_ca in the configuration names a private authority"
	}
	return "it can't be verified"
}

// leafOnly tells of a server that shows nothing but its own certificate, which it
// has not signed itself (RFC 8446, Section 4.4.2, wants those between with it).
func leafOnly(err error) bool {
	var c *tls.CertificateVerificationError
	return errors.As(err, &c) && len(c.UnverifiedCertificates) == 1 &&
		!bytes.Equal(c.UnverifiedCertificates[0].RawIssuer, c.UnverifiedCertificates[0].RawSubject)
}

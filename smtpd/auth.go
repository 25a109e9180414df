package smtpd

import (
	"bytes"
	"context"
	"errors"
	"net"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// maxLogins is how many logins may fail on one connection.
const maxLogins = 3

// AuthMechanisms implements smtp.AuthSession: passwords go over TLS, or over
// loopback, where no network sees them.
func (s *session) AuthMechanisms() []string {
	if s.account != nil || !s.private() || s.listener.Login == nil {
		return nil
	}
	return []string{sasl.Plain, sasl.Login}
}

// private tells whether the client may send a password over this connection.
func (s *session) private() bool {
	if _, ok := s.conn.TLSConnectionState(); ok || s.guard.tls {
		return true
	}
	a, ok := s.guard.RemoteAddr().(*net.TCPAddr)
	b, ok2 := s.guard.LocalAddr().(*net.TCPAddr)
	return ok && ok2 && a.IP.IsLoopback() && b.IP.IsLoopback()
}

// Auth implements smtp.AuthSession.
func (s *session) Auth(mech string) (sasl.Server, error) {
	if !s.private() {
		return nil, &smtp.SMTPError{Code: 538, EnhancedCode: smtp.EnhancedCode{5, 7, 11}, Message: "use STARTTLS before you log in"}
	}
	if s.listener.Login == nil {
		return nil, smtp.ErrAuthUnsupported
	}
	switch mech {
	case sasl.Plain:
		return &plain{s: s}, nil
	case sasl.Login:
		return &login{s: s}, nil
	}
	return nil, smtp.ErrAuthUnknownMechanism
}

// plain is SASL PLAIN, RFC 4616.
type plain struct{ s *session }

func (p *plain) Next(response []byte) ([]byte, bool, error) {
	if response == nil {
		return []byte{}, false, nil
	}
	parts := bytes.Split(response, []byte{0})
	if len(parts) != 3 {
		return nil, false, &smtp.SMTPError{Code: 501, EnhancedCode: smtp.EnhancedCode{5, 5, 2}, Message: "malformed PLAIN response"}
	}
	// Nobody acts for another: CVE-2023-27582 was an authzid taken for the user.
	if len(parts[0]) > 0 && !bytes.Equal(parts[0], parts[1]) {
		return nil, false, p.s.refused(ErrCredentials)
	}
	return nil, true, p.s.login(string(parts[1]), string(parts[2]))
}

// login is SASL LOGIN (draft-murchison-sasl-login).
type login struct {
	s    *session
	user []byte
	step int
}

func (l *login) Next(response []byte) ([]byte, bool, error) {
	switch {
	case l.step == 0 && response == nil:
		l.step = 1
		return []byte("Username:"), false, nil
	case l.step < 2:
		l.user, l.step = response, 2
		return []byte("Password:"), false, nil
	}
	return nil, true, l.s.login(string(l.user), string(response))
}

// login checks a password and opens the account to the session.
func (s *session) login(user, password string) error {
	ctx, cancel := context.WithTimeout(s.ctx, time.Minute)
	defer cancel()
	a, err := s.listener.Login(ctx, s.guard.RemoteAddr(), user, password)
	if err != nil {
		return s.refused(err)
	}
	if a == nil || len(a.Addresses) == 0 {
		return s.refused(errors.New("account without addresses"))
	}
	s.enter(a)
	return nil
}

// trusted opens the account of a client that need not log in.
func (s *session) trusted() bool {
	if s.listener.Open == nil {
		return false
	}
	p := Peer{Remote: s.guard.RemoteAddr(), Helo: s.conn.Hostname()}
	if state, ok := s.conn.TLSConnectionState(); ok {
		p.TLS = &state
	}
	a := s.listener.Open(s.ctx, p)
	if a == nil || len(a.Addresses) == 0 {
		return false
	}
	s.enter(a)
	return true
}

// enter opens an account to the session.
func (s *session) enter(a *Account) {
	s.account = a
	s.guard.loggedIn.Store(true)
	s.log = s.log.With("account", a.key())
	s.server.remember(a)
}

// refused answers a failed login and ends the connection after a few.
func (s *session) refused(err error) error {
	s.backend.logins++
	s.log.Info("login", "outcome", "refused", "remote", s.guard.RemoteAddr().String(), "reason", err)
	s.server.c.Count("login-refused")
	if s.backend.logins >= maxLogins {
		s.guard.fail(errEnded)
	}
	if errors.Is(err, ErrCredentials) {
		return &smtp.SMTPError{Code: 535, EnhancedCode: smtp.EnhancedCode{5, 7, 8}, Message: "wrong user or password; `letterlock account show ADDRESS` prints both"}
	}
	return &smtp.SMTPError{Code: 454, EnhancedCode: smtp.EnhancedCode{4, 7, 0}, Message: "login is not possible now; `letterlock status` tells why"}
}

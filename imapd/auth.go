package imapd

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"time"

	"letterlock.org/letterlock/imapd/wire"
)

func (s *session) mayStartTLS() bool { return s.srv.c.TLS != nil && !s.tls }

// mayLogin tells whether credentials may be given on this connection.
func (s *session) mayLogin() bool {
	if s.tls || s.srv.c.CleartextAuth {
		return true
	}
	a, ok := s.conn.RemoteAddr().(*net.TCPAddr)
	return !ok || a.IP.IsLoopback() // what is no TCP is a socket of this machine
}

// anyState carries out the commands that need no login. done is false for NOOP
// after the login, which the upstream answers.
func (s *session) anyState(c *wire.Command) (done bool, err error) {
	switch c.Name {
	case "CAPABILITY":
		caps := ""
		if s.relay == nil {
			caps = s.greetingCapabilities()
		} else {
			caps = s.capabilities()
		}
		s.local("", "* CAPABILITY "+caps)
		s.local(c.Tag, "OK CAPABILITY completed")
	case "ID":
		// RFC 2971. The upstream learns nothing of who its user's client is.
		s.local("", `* ID ("name" "Letterlock")`)
		s.local(c.Tag, "OK ID completed")
	case "NOOP":
		if s.relay != nil {
			return false, nil
		}
		s.local(c.Tag, "OK NOOP completed")
	case "LOGOUT":
		s.endOnce.Do(func() {}) // the upstream's end is not news any more
		if s.relay != nil {
			s.relay.logout()
		}
		s.out.line("* BYE Letterlock logging out\r\n" + c.Tag + " OK LOGOUT completed")
		_ = s.out.flush()
		return true, errLogout
	}
	return true, nil
}

// beforeLogin carries out what is left before the login.
func (s *session) beforeLogin(c *wire.Command) error {
	switch c.Name {
	case "STARTTLS":
		return s.startTLS(c)
	case "AUTHENTICATE", "LOGIN":
		if !s.mayLogin() {
			s.out.line(c.Tag + " NO [PRIVACYREQUIRED] use STARTTLS first")
			return nil
		}
		if c.Name == "LOGIN" {
			if len(c.Args) != 2 || !c.Args[0].IsString() || !c.Args[1].IsString() {
				s.out.line(c.Tag + " BAD LOGIN takes a user and a password")
				return nil
			}
			return s.login(c.Tag, c.Args[0].Text(), c.Args[1].Text())
		}
		return s.authenticate(c)
	}
	s.bad++
	s.out.line(c.Tag + " BAD command unknown, or not before login")
	return nil
}

// startTLS is RFC 3501, Section 6.2.1.
func (s *session) startTLS(c *wire.Command) error {
	if !s.mayStartTLS() || len(c.Args) > 0 {
		s.out.line(c.Tag + " BAD STARTTLS not possible")
		return nil
	}
	s.out.line(c.Tag + " OK begin TLS")
	if err := s.out.flush(); err != nil {
		return err
	}
	// What was read ahead came in clear and is thrown away with the reader:
	// it could have been put there by anyone.
	t := tls.Server(s.conn.Conn, s.srv.c.TLS)
	_ = t.SetDeadline(time.Now().Add(loginSilence))
	if err := t.HandshakeContext(s.ctx); err != nil {
		return fmt.Errorf("TLS with the client: %v", err) // whatever it is, there is nobody to tell
	}
	_ = t.SetDeadline(time.Time{})
	s.tls = true
	s.attach(t)
	return nil
}

// authenticate is AUTHENTICATE with PLAIN (RFC 4616) or LOGIN
// (draft-murchison-sasl-login), with or without an initial response (RFC 4959).
func (s *session) authenticate(c *wire.Command) error {
	login := len(c.Args) > 0 && c.Args[0].Is("LOGIN")
	if len(c.Args) < 1 || len(c.Args) > 2 || !login && !c.Args[0].Is("PLAIN") {
		s.out.line(c.Tag + " NO [CANNOT] use PLAIN or LOGIN")
		return nil
	}
	var initial []byte
	if len(c.Args) == 2 {
		initial = c.Args[1].Value
	}
	if login {
		return s.authenticateLogin(c.Tag, initial)
	}
	raw, ok, err := s.response(c.Tag, "", initial)
	if !ok {
		return err
	}
	pieces := bytes.Split(raw, []byte{0})
	if len(pieces) != 3 {
		s.out.line(c.Tag + " BAD malformed response")
		return nil
	}
	if len(pieces[0]) > 0 && !bytes.Equal(pieces[0], pieces[1]) {
		s.out.line(c.Tag + " NO [AUTHORIZATIONFAILED] nobody acts for another here")
		return nil
	}
	return s.login(c.Tag, string(pieces[1]), string(pieces[2]))
}

// authenticateLogin is for clients that are set to LOGIN, or know nothing else.
func (s *session) authenticateLogin(tag string, initial []byte) error {
	user, ok, err := s.response(tag, "Username:", initial)
	if !ok {
		return err
	}
	password, ok, err := s.response(tag, "Password:", nil)
	if !ok {
		return err
	}
	return s.login(tag, string(user), string(password))
}

// response decodes what the client answers to a challenge: initial if it has
// sent that along, "=" for an empty one (RFC 4959, Section 3). It has told the
// client why if ok is false and err nil.
func (s *session) response(tag, challenge string, initial []byte) (b []byte, ok bool, err error) {
	line := initial
	if line == nil {
		s.out.line("+ " + base64.StdEncoding.EncodeToString([]byte(challenge)))
		if line, err = s.in.Line(); err != nil {
			return nil, false, err
		}
		if string(line) == "*" {
			s.out.line(tag + " BAD AUTHENTICATE cancelled")
			return nil, false, nil
		}
	}
	if string(line) == "=" {
		line = nil
	}
	b, err = base64.StdEncoding.AppendDecode(nil, line)
	if err != nil {
		s.out.line(tag + " BAD malformed response")
		return nil, false, nil
	}
	return b, true, nil
}

// login checks the credentials and connects to the account's upstream.
func (s *session) login(tag, user, password string) error {
	ctx, cancel := context.WithTimeout(s.ctx, 2*time.Minute)
	defer cancel()
	account, upPassword, err := s.srv.c.Login(ctx, s.conn.RemoteAddr(), user, password)
	switch {
	case errors.Is(err, ErrRefused):
		s.bad++
		s.log.Info("login refused")
		s.out.line(tag + " NO [AUTHENTICATIONFAILED] user or password refused")
		return nil
	case errors.Is(err, ErrThrottled):
		s.log.Info("login throttled")
		s.out.line(tag + " NO [AUTHENTICATIONFAILED] too many failed logins, try again later")
		return nil
	case err != nil:
		s.log.Warn("login not possible", "reason", reason(err))
		s.out.line(tag + " NO [UNAVAILABLE] login is not possible now")
		return nil
	}
	s.loggedIn.Store(true)
	s.log = s.log.With("account", account.Name)
	up, err := s.connectOrYield(ctx, account, upPassword)
	if err != nil {
		s.log.Warn("upstream not usable", "reason", reason(err))
		if errors.Is(err, errUpstreamRefused) && upPassword == password {
			// passthrough: the person has to give another password
			s.out.line(tag + " NO [AUTHENTICATIONFAILED] the upstream server refused this password (was it changed there? `letterlock account password ADDRESS` takes the new one)")
			return nil
		}
		// Never AUTHENTICATIONFAILED: clients would ask for our password.
		s.out.line(tag + " NO [UNAVAILABLE] " + hint(err))
		return nil
	}
	s.account = account
	s.mu.Lock()
	s.up = up
	s.mu.Unlock()
	if s.ctx.Err() != nil { // cut off meanwhile
		_ = up.conn.Close()
		return s.ctx.Err()
	}
	s.conn.read.Store(int64(s.srv.c.IdleTimeout))
	s.in.Limits(s.srv.c.Limits)
	s.relay = newRelay(s)
	s.log.Info("login")
	s.local(tag, "OK [CAPABILITY "+s.capabilities()+"] logged in")
	go s.relay.respond() // before anything can fail: whoever ends the session waits for it
	go s.relay.keepAlive()
	return s.introduce()
}

func hint(err error) string {
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.As(err, &certificate):
		return "the upstream server's TLS certificate is not valid for it, so nothing was sent: `letterlock status` tells why"
	case errors.Is(err, errUpstreamPolicy):
		return "the upstream server cannot be trusted with the password (no TLS, or no login that we know)"
	case errors.Is(err, errUpstreamRefused):
		return "the upstream server refused the stored password: give it anew"
	case errors.Is(err, errUpstreamLimit):
		return "the upstream server allows no more connections: close some, or try again later"
	}
	return "the upstream server cannot be reached or used, try again later"
}

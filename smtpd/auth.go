package smtpd

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"net"
	"strings"
	"time"

	"letterlock.org/letterlock/smtpd/wire"
)

// maxLogins is how many logins may fail on one connection.
const maxLogins = 3

// mayLogIn tells whether AUTH is offered: passwords go over TLS, or over
// loopback, where no network sees them.
func (s *session) mayLogIn() bool {
	return s.account == nil && s.listener.logsIn() && s.private()
}

func (l Listener) logsIn() bool { return l.Login != nil && (l.LogsIn == nil || l.LogsIn()) }

// private tells whether the client may send a password over this connection.
func (s *session) private() bool {
	if s.conn.secure() {
		return true
	}
	a, ok := s.conn.raw.RemoteAddr().(*net.TCPAddr)
	b, ok2 := s.conn.raw.LocalAddr().(*net.TCPAddr)
	return ok && ok2 && a.IP.IsLoopback() && b.IP.IsLoopback()
}

// auth is AUTH with PLAIN or LOGIN: RFC 4954.
func (s *session) auth(args string) error {
	mech, initial, _ := strings.Cut(args, " ")
	initial = strings.TrimLeft(initial, " ")
	switch {
	case !s.greeted || !s.extended:
		return permanent(503, "5.5.1", "EHLO first")
	case !s.listener.logsIn():
		return permanent(502, "5.5.1", "nobody logs in here")
	case s.account != nil:
		return permanent(503, "5.5.1", "you are logged in already")
	case s.env != nil:
		return permanent(503, "5.5.1", "not within a message")
	case !s.private():
		return permanent(538, "5.7.11", "use STARTTLS before you log in")
	case strings.EqualFold(mech, "PLAIN"):
		return s.authPlain(initial)
	case strings.EqualFold(mech, "LOGIN"):
		return s.authLogin(initial)
	}
	return permanent(504, "5.5.4", "use PLAIN or LOGIN")
}

// authPlain is SASL PLAIN, RFC 4616.
func (s *session) authPlain(initial string) error {
	response, err := s.response("", initial)
	if err != nil {
		return err
	}
	parts := bytes.Split(response, []byte{0})
	if len(parts) != 3 {
		return permanent(501, "5.5.2", "malformed PLAIN response")
	}
	// Nobody acts for another: CVE-2023-27582 was an authzid taken for the user.
	if len(parts[0]) > 0 && !bytes.Equal(parts[0], parts[1]) {
		return s.refused(ErrCredentials)
	}
	return s.login(string(parts[1]), string(parts[2]))
}

// authLogin is SASL LOGIN (draft-murchison-sasl-login).
func (s *session) authLogin(initial string) error {
	user, err := s.response("Username:", initial)
	if err != nil {
		return err
	}
	password, err := s.response("Password:", "")
	if err != nil {
		return err
	}
	return s.login(string(user), string(password))
}

// response decodes what the client answers to a challenge: initial if it has
// sent that along, "=" for an empty one (RFC 4954, Section 4).
func (s *session) response(challenge, initial string) ([]byte, error) {
	if initial == "" {
		s.conn.put(334, "", base64.StdEncoding.EncodeToString([]byte(challenge)))
		line, err := s.conn.in.Line(wire.MaxAuthLine)
		switch {
		case errors.Is(err, wire.ErrLong):
			return nil, permanent(500, "5.5.6", "line too long")
		case errors.Is(err, wire.ErrBareLineEnd):
			s.over = true
			return nil, permanent(500, "5.5.2", "bare CR or LF; lines end with CRLF")
		case err != nil:
			return nil, answer(421, "4.4.2", "nothing more was read")
		case string(line) == "*":
			return nil, permanent(501, "5.7.0", "as you like, no login")
		}
		initial = string(line)
	} else if initial == "=" {
		return nil, nil
	}
	b, err := base64.StdEncoding.Strict().DecodeString(initial)
	if err != nil {
		return nil, permanent(501, "5.5.2", "that is not base64")
	}
	return b, nil
}

// login checks a password and opens the account to the session.
func (s *session) login(user, password string) error {
	ctx, cancel := context.WithTimeout(s.ctx, time.Minute)
	defer cancel()
	a, err := s.listener.Login(ctx, s.peer.Remote, user, password)
	if err != nil {
		return s.refused(err)
	}
	if a == nil || len(a.Addresses) == 0 {
		return s.refused(errors.New("account without addresses"))
	}
	s.enter(a)
	return answer(235, "2.7.0", "welcome")
}

// trusted opens the account of a client that need not log in.
func (s *session) trusted() bool {
	if s.listener.Open == nil {
		return false
	}
	a := s.listener.Open(s.ctx, s.peer)
	if a == nil || len(a.Addresses) == 0 {
		return false
	}
	s.enter(a)
	return true
}

// enter opens an account to the session.
func (s *session) enter(a *Account) {
	s.account = a
	s.server.known(s.conn)
	s.log = s.log.With("account", a.key())
	s.server.remember(a)
}

// refused answers a failed login and ends the connection after a few.
func (s *session) refused(err error) error {
	s.logins++
	s.log.Info("login", "outcome", "refused", "remote", s.peer.Remote.String(), "reason", err)
	s.server.c.Count("login-refused")
	if s.logins >= maxLogins {
		s.over = true
	}
	if errors.Is(err, ErrCredentials) {
		return permanent(535, "5.7.8", "wrong user or password; `letterlock account show ADDRESS` prints both")
	}
	return answer(454, "4.7.0", "login is not possible now; `letterlock status` tells why")
}

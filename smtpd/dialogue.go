package smtpd

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"letterlock.org/letterlock/smtpd/wire"
)

// maxBad is how many commands may be malformed, unknown or out of order in one
// session; a message that was taken makes up for all.
const maxBad = 10

// run holds the dialogue until one side ends it. What it returns is why the
// connection could not be read any more.
func (s *session) run() error {
	s.conn.put(220, "", s.server.c.Domain+" ESMTP")
	for !s.over {
		line, err := s.conn.in.Line(s.lineLimit())
		switch {
		case errors.Is(err, wire.ErrLong):
			s.say(permanent(500, "5.5.2", "line too long"))
		case errors.Is(err, wire.ErrBareLineEnd):
			s.say(permanent(500, "5.5.2", "bare CR or LF; commands end with CRLF"))
			return err
		case errors.Is(err, errHTTP):
			s.conn.close()
			return err
		case err != nil:
			if isTimeout(err) {
				s.conn.put(421, "4.4.2", "you took too long")
			} else if s.conn.ended.Load() && !s.over {
				s.conn.put(421, "4.3.2", "the server ends this session")
			}
			return err
		default:
			c, err := wire.ParseCommand(line)
			if err != nil {
				err = permanent(500, "5.5.2", "that is no command")
			} else {
				err = s.command(c)
			}
			s.say(err)
			if s.env == nil && (c.Verb == "DATA" || c.Verb == "BDAT") {
				s.conn.flush() // the message isn't the client's any more, whatever comes behind it
			}
		}
	}
	return nil
}

// lineLimit is for the next command: AUTH's may be longer, and only it is
// expected before the login.
func (s *session) lineLimit() int {
	if s.account == nil {
		return wire.MaxAuthLine
	}
	return wire.MaxLine
}

// say sends a reply, after those that wait; nil was answered already, or waits.
// Too many bad commands end the session.
func (s *session) say(err error) {
	if err == nil {
		return
	}
	if len(s.nominees) > 0 {
		s.elect()
	}
	var r *ownReply
	if !errors.As(err, &r) {
		r = s.fault("answering", err).(*ownReply)
	}
	if r.Code >= 500 && r.Code <= 504 {
		if s.bad++; s.bad > maxBad {
			r = &ownReply{421, "4.7.0", "too many errors"}
		}
	}
	s.conn.put(r.Code, r.Status, r.Text)
	if r.Code == 421 {
		s.over = true
	}
}

// command runs one command and returns its reply, nil where it has answered
// itself or will. RFC 5321, Section 4.1.1; those that may not have arguments are strict
// about it.
func (s *session) command(c wire.Command) error {
	if err := s.renew(); err != nil {
		return err
	}
	switch c.Verb {
	case "DATA", "RSET", "QUIT", "STARTTLS":
		if c.Args != "" {
			return permanent(501, "5.5.4", c.Verb+" takes no argument")
		}
	case "AUTH":
	default:
		if len(c.Verb)+1+len(c.Args)+2 > wire.MaxLine {
			return permanent(500, "5.5.2", "line too long")
		}
	}
	switch c.Verb {
	case "EHLO", "HELO":
		return s.hello(c)
	case "STARTTLS":
		return s.startTLS()
	case "AUTH":
		return s.auth(c.Args)
	case "MAIL":
		return s.mailCommand(c.Args)
	case "RCPT":
		s.nominate(c.Args)
		return nil
	case "DATA":
		return s.data()
	case "BDAT":
		return s.chunk(c.Args)
	case "RSET":
		s.reset()
		return answer(250, "2.0.0", "forgotten")
	case "NOOP":
		return answer(250, "2.0.0", "I have done nothing")
	case "QUIT":
		s.over = true
		return answer(221, "2.0.0", "goodbye")
	case "VRFY": // RFC 5321, Section 7.3: it tells nobody who exists
		return answer(252, "2.5.0", "cannot tell; send it and I will try")
	case "HELP":
		return answer(214, "2.0.0", "this is Letterlock, which encrypts mail; RFC 5321 lists the commands")
	case "EXPN":
		return permanent(502, "5.5.1", "there are no lists here")
	case "XCLIENT", "XFORWARD":
		return s.forwardCommand(c)
	}
	return permanent(500, "5.5.1", "unknown command")
}

// hello answers EHLO and HELO. Both end a transaction (RFC 5321, Section
// 4.1.4).
func (s *session) hello(c wire.Command) error {
	name, _, _ := strings.Cut(c.Args, " ")
	if name == "" || len(name) > 255 {
		return permanent(501, "5.5.4", c.Verb+" needs the name of your host")
	}
	s.reset()
	s.peer.Helo, s.greeted, s.extended = name, true, c.Verb == "EHLO"
	if !s.extended {
		return s.conn.put(250, "", s.server.c.Domain)
	}
	return s.conn.put(250, "", append([]string{s.server.c.Domain}, s.extensions()...)...)
}

// extensions are what EHLO offers: what we can keep, and the upstream with us.
func (s *session) extensions() []string {
	out := []string{"PIPELINING", "ENHANCEDSTATUSCODES", "CHUNKING", "SIZE " + strconv.FormatInt(s.maxSize(), 10),
		fmt.Sprintf("LIMITS RCPTMAX=%d", s.server.c.MaxRecipients)} // RFC 9422
	if s.caps.EightBit {
		out = append(out, "8BITMIME")
	}
	if s.caps.UTF8 {
		out = append(out, "SMTPUTF8")
	}
	if s.caps.DSN {
		out = append(out, "DSN")
	}
	if s.server.c.TLS != nil && !s.conn.secure() {
		out = append(out, "STARTTLS")
	}
	if s.mayLogIn() {
		out = append(out, "AUTH PLAIN LOGIN")
	}
	if s.mayForward() {
		out = append(out, xclientOffer, xforwardOffer)
	}
	return out
}

func (s *session) maxSize() int64 { return s.server.maxSize(s.caps) }

// startTLS switches to TLS (RFC 3207). Commands that were sent behind it before
// TLS may be somebody else's: then there is no switch.
func (s *session) startTLS() error {
	switch {
	case s.server.c.TLS == nil:
		return permanent(502, "5.5.1", "there is no TLS here")
	case s.conn.secure():
		return permanent(503, "5.5.1", "TLS is on already")
	case s.env != nil || s.account != nil:
		return permanent(503, "5.5.1", "too late for STARTTLS")
	case s.conn.in.Buffered() > 0:
		s.over = true
		s.log.Info("session", "outcome", "refused", "reason", "commands before TLS")
		return permanent(554, "5.5.1", "commands behind STARTTLS, before TLS: somebody may be in between")
	}
	s.conn.put(220, "2.0.0", "go ahead")
	if err := s.conn.flush(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(s.ctx, s.server.c.Timeouts.Connect)
	defer cancel()
	if err := s.conn.handshake(ctx, s.server.c.TLS); err != nil {
		s.log.Debug("session", "err", fmt.Errorf("TLS handshake: %w", err))
		s.over = true
		s.conn.close()
		return nil
	}
	// RFC 3207, Section 4.2: what the client has said before is forgotten; but not
	// whom an MTA said it speaks for (XCLIENT): the client must not become the MTA.
	s.peer = Peer{Remote: s.peer.Remote, Via: s.peer.Via, Login: s.peer.Login}
	if s.peer.Via == nil {
		s.peer.TLS = s.conn.secured()
	}
	s.greeted, s.extended = false, false
	return nil
}

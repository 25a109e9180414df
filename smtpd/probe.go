package smtpd

import (
	"errors"
	"fmt"
	"slices"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/smtpd/wire"
)

// probe tries recipients on the upstream's own transaction, the only place where
// SMTP has an answer per recipient, and settles them.
func (s *session) probe(ns []*nominee) {
	if len(ns) == 0 {
		return
	}
	rs := make([]recipient, len(ns))
	for i, n := range ns {
		rs[i] = n.recipient
	}
	answers, err := s.probeAll(rs)
	for i, n := range ns {
		if n.reply = err; err == nil {
			s.probed(n, answers[i])
		}
	}
}

// probeAll asks about recipients in one flight. The error is the reply to all.
func (s *session) probeAll(rs []recipient) ([]reply, error) {
	if s.env.probe != nil && s.up != nil && !s.up.broken {
		if answers, err := s.up.askAll(rcptLines(rs, s.up.caps), s.server.c.Timeouts.Command); err == nil {
			return answers, nil
		}
		// The open transaction is lost; a new one asks for these recipients.
	}
	s.env.probe = nil
	if s.env.shut != nil {
		return nil, s.env.shut
	}
	answers, err := s.begin(rs, s.env.opts.Body == wire.Body8Bit, 0)
	if err != nil {
		reply := s.fault("asking the mail server", err)
		if errors.Is(err, errNoConnection) {
			s.env.shut = reply
		}
		return nil, reply
	}
	if !answers[0].ok() {
		reply := upstreamReply(answers[0])
		if s.up == nil { // a 421: it has hung up
			s.env.shut = reply
		}
		return nil, reply
	}
	s.env.probe = []string{}
	return answers[1:], nil
}

func (s *session) probed(n *nominee, answer reply) {
	answer = answer.atRcpt(len(s.env.probe))
	if !answer.ok() {
		s.server.c.Count("upstream-refused")
		s.log.Info("submission", "outcome", "refused", "recipient", n.address.String(), "reason", "upstream: "+answer.Error())
		n.reply = upstreamReply(answer)
		s.turnedAway(n.address, answer.Code/100 == 5)
		return
	}
	s.turnedAway(n.address, false)
	s.env.probe = append(s.env.probe, n.address.Key())
	n.take()
}

// turnedAway notes what the upstream said of a recipient last.
func (s *session) turnedAway(a address.Address, never bool) {
	if !never {
		delete(s.env.never, a)
		return
	}
	if s.env.never == nil {
		s.env.never = map[address.Address]bool{}
	}
	s.env.never[a] = true
}

// begin starts a transaction on the session's own connection, on a fresh one
// where that turns out to be dead, or to have had its fill. One that is broken is
// never used again: a reply that came too late would be taken for the next one's.
func (s *session) begin(rcpts []recipient, eight bool, size int64) ([]reply, error) {
	for {
		if s.up != nil && s.up.broken {
			s.up.close()
			s.up = nil
		}
		fresh := s.up == nil
		if fresh {
			c, err := s.server.upstream(s.ctx, s.account)
			if err != nil {
				return nil, fmt.Errorf("%w: %w", errNoConnection, err)
			}
			s.up, fresh = c, !c.reused
		}
		rs, err := s.beginOn(s.up, rcpts, eight, size)
		if err == nil && rs[0].Code != 421 || !s.up.broken {
			return rs, err
		}
		s.up.close()
		s.up = nil
		if fresh {
			if err == nil {
				return rs, nil
			}
			return nil, err
		}
	}
}

// beginOn starts a transaction on a connection. size is that of the copy, 0 where it
// isn't made yet: what is declared must be right (RFC 1870, Section 6.3, lets a server
// refuse what is larger), and how long a copy gets is known only when it is. What the
// client declares tells no more: whether its message will be encrypted is not known
// before the last recipient is. The most that the upstream offers to take holds for it
// all the same, see maxSize.
func (s *session) beginOn(c *client, rcpts []recipient, eight bool, size int64) ([]reply, error) {
	mail, err := c.mailLine(s.envelopeFrom(), s.params(eight, size))
	if err != nil {
		return nil, err
	}
	return c.begin(mail, rcptLines(rcpts, c.caps))
}

// rcptLines are the RCPT commands of recipients.
func rcptLines(rs []recipient, caps Capabilities) []string {
	lines := make([]string, len(rs))
	for i, r := range rs {
		lines[i] = rcptLine(r.address.String(), r.notify, r.orcpt, caps)
	}
	return lines
}

// sameSet tells whether the open probing transaction has exactly these.
func sameSet(probe []string, rs []recipient) bool {
	if probe == nil || len(probe) != len(rs) {
		return false
	}
	for _, r := range rs {
		if !slices.Contains(probe, r.address.Key()) {
			return false
		}
	}
	return true
}

package smtpd

import (
	"slices"

	"letterlock.org/letterlock/smtpd/wire"
)

// probe tries a recipient on the upstream's own transaction, the only place
// where SMTP has an answer per recipient.
func (s *session) probe(r recipient) error {
	if s.env.probe != nil && s.up != nil && !s.up.broken {
		rs, err := s.up.askAll([]string{s.rcptLine(r)}, s.server.c.Timeouts.Command)
		if err == nil {
			return s.probed(r, rs[0])
		}
		// The open transaction is lost; a new one asks for this recipient.
	}
	s.env.probe = nil
	rs, err := s.begin([]recipient{r}, s.env.opts.Body == wire.Body8Bit)
	if err != nil {
		return s.fault("asking the mail server", err)
	}
	if !rs[0].ok() {
		return upstreamReply(rs[0])
	}
	s.env.probe = []string{}
	return s.probed(r, rs[1])
}

func (s *session) probed(r recipient, answer reply) error {
	if !answer.ok() {
		s.server.c.Count("upstream-refused")
		s.log.Info("submission", "outcome", "refused", "recipient", r.address.String(), "reason", "upstream: "+answer.Error())
		return upstreamReply(answer)
	}
	s.env.probe = append(s.env.probe, r.address.Key())
	return nil
}

// begin starts a transaction on the session's own connection, on a fresh one
// where that turns out to be dead.
func (s *session) begin(rcpts []recipient, eight bool) ([]reply, error) {
	for {
		fresh := s.up == nil
		if fresh {
			c, err := s.server.upstream(s.ctx, s.account)
			if err != nil {
				return nil, err
			}
			s.up, fresh = c, !c.reused
		}
		rs, err := s.beginOn(s.up, rcpts, eight)
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

// beginOn starts a transaction on a connection.
func (s *session) beginOn(c *client, rcpts []recipient, eight bool) ([]reply, error) {
	mail, err := mailLine(s.envelopeFrom(), s.params(eight), c.caps)
	if err != nil {
		return nil, err
	}
	lines := make([]string, len(rcpts))
	for i, r := range rcpts {
		lines[i] = rcptLine(r.address.String(), r.notify, r.orcpt, c.caps)
	}
	return c.begin(mail, lines)
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

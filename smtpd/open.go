package smtpd

import (
	"context"
	"errors"
	"fmt"

	"letterlock.org/letterlock/smtpd/wire"
)

// errNoConnection means that no transaction could be opened: nothing was said
// about the message or its recipients.
var errNoConnection = errors.New("no connection to the mail server")

// open brings a group's transaction to the point where only the final dot is
// missing. The first group has the session's own connection, and its open
// probing transaction where that has just these recipients.
func (s *session) open(ctx context.Context, g *group, first bool) (*client, error) {
	if first && s.up != nil && !s.up.broken && s.fits(g) {
		err := s.send(s.up, g)
		if err == nil || !s.up.broken || errors.Is(err, errMidway) {
			return s.up, err
		}
		// It has hung up while the client was sending: once more from the start.
	}
	if first {
		rs, err := s.begin(g.rcpts, g.eight, g.body.Size())
		if err == nil {
			err = refusal(rs)
		}
		if err != nil {
			return nil, err
		}
		return s.up, s.send(s.up, g)
	}
	return s.another(ctx, g)
}

// fits tells whether the probing transaction can take the group's copy.
func (s *session) fits(g *group) bool {
	return sameSet(s.env.probe, g.rcpts) && (!g.eight || s.env.opts.Body == wire.Body8Bit)
}

// another opens a transaction on a connection of its own.
func (s *session) another(ctx context.Context, g *group) (*client, error) {
	for {
		c, err := s.server.upstream(ctx, s.account)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errNoConnection, err)
		}
		reused := c.reused
		rs, err := s.beginOn(c, g.rcpts, g.eight, g.body.Size())
		if err == nil {
			if err = refusal(rs); err == nil {
				if err = s.send(c, g); err == nil {
					return c, nil
				}
			}
			c.close()
			return nil, err
		}
		c.close()
		if !reused || !c.broken {
			return nil, fmt.Errorf("%w: %w", errNoConnection, err)
		}
	}
}

// refusal is the first reply to MAIL or RCPT that is no yes.
func refusal(rs []reply) error {
	for _, r := range rs {
		if !r.ok() {
			return r
		}
	}
	return nil
}

// errMidway means that the connection broke after the upstream had said 354.
var errMidway = errors.New("while the message was on its way")

// send gives the upstream the body, all but the final dot.
func (s *session) send(c *client, g *group) error {
	if err := g.suits(c.caps); err != nil {
		return err
	}
	return c.data(g.body)
}

// suits checks what the upstream must be able to take.
func (g *group) suits(caps Capabilities) error {
	if g.eight && !caps.EightBit { // RFC 6152, Section 3
		return permanent(554, "5.6.3", "the mail server takes no 8-bit text, and the message has some; let the mail program use quoted-printable")
	}
	if caps.Size > 0 && g.body.Size() > caps.Size { // RFC 1870, Section 6.1
		return permanent(552, "5.3.4", fmt.Sprintf("with its encryption the message has %d bytes, and the mail server takes %d", g.body.Size(), caps.Size))
	}
	return nil
}

package smtpd

import (
	"fmt"
	"io"

	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/policy"
	"letterlock.org/letterlock/smtpd/wire"
)

// aheadFrom is the bytes of a submission from which its copy goes upstream while
// it is being made. Of a short one, waiting for the reply to DATA would take
// longer.
const aheadFrom = 256 << 10

// ahead sends a copy upstream as it is written into its spool. What fails upstream
// doesn't keep the copy from being made: the spool is what counts, and the client
// is told afterwards, as if the copy had been sent from there.
type ahead struct {
	c     *client
	spool *message.Spool
	dots  wire.Stuffer
	err   error // of the upstream, the first
}

// Write implements io.Writer.
func (a *ahead) Write(p []byte) (int, error) {
	n, err := a.spool.Write(p)
	if err == nil && a.err == nil {
		a.err = a.dots.Next(p, a.c.add)
	}
	return n, err
}

// end sends what the last line lacks.
func (a *ahead) end() error {
	if a.err == nil {
		a.err = a.c.add([]byte(a.dots.End()))
	}
	if a.err != nil {
		return fmt.Errorf("%w: %w", errUpstream, a.err)
	}
	return nil
}

// runAhead lets the only copy of a long message go upstream while it is being made,
// if it is an encrypted one and the probing transaction can take it. All is decided
// then but what making it decides; where that fails, fallBack makes the transaction
// void. The error is the upstream's refusal.
func (s *session) runAhead(sub submission, groups []*group) error {
	if len(groups) != 1 || groups[0].action != policy.Encrypt || sub.src.Size() < aheadFrom || s.account.Relay != nil || s.account.inbound() != nil {
		return nil // a relay may yet put a field before it
	}
	if s.up == nil || s.up.broken || !s.fits(groups[0]) || s.up.caps.Size > 0 && sub.src.Size()/10*14 > s.up.caps.Size {
		return nil
	}
	if err := s.up.startData(); err != nil {
		if s.up.broken { // it has hung up while the client was sending: see open
			return nil
		}
		return err
	}
	s.up.ahead = &ahead{c: s.up}
	return nil
}

// toBoth is where a copy is written to: into its spool, and upstream where it runs
// ahead.
func (s *session) toBoth(spool *message.Spool) io.Writer {
	if s.up == nil || s.up.ahead == nil {
		return spool
	}
	s.up.ahead.spool = spool
	return s.up.ahead
}

// fallBack ends a transaction of which nothing came.
func (s *session) fallBack() {
	if s.up != nil && s.up.ahead != nil {
		s.up.close()
		s.up, s.env.probe = nil, nil
	}
}

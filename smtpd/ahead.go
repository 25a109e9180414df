package smtpd

import (
	"errors"
	"fmt"

	"letterlock.org/letterlock/policy"
	"letterlock.org/letterlock/smtpd/wire"
)

// aheadFrom is the bytes of a submission from which its copy goes upstream while
// it is being made. Of a short one, waiting for the reply to DATA would take
// longer.
const aheadFrom = 256 << 10

// ahead sends a copy upstream as it is written, and keeps nothing of it: the client
// has the message until it is answered, and whatever fails is its answer.
//
// As a message.Source it has a size only.
type ahead struct {
	c    *client
	dots wire.Stuffer
	size int64
	err  error // of the upstream, the first
}

// Write implements io.Writer.
func (a *ahead) Write(p []byte) (int, error) {
	a.size += int64(len(p))
	if a.err == nil {
		a.err = a.dots.Next(p, a.c.add)
	}
	return len(p), a.failed()
}

// end sends what the last line lacks.
func (a *ahead) end() error {
	if a.err == nil {
		a.err = a.c.add([]byte(a.dots.End()))
	}
	return a.failed()
}

func (a *ahead) failed() error {
	if a.err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", errUpstream, a.err)
}

// Size implements message.Source.
func (a *ahead) Size() int64 { return a.size }

// ReadAt implements message.Source.
func (a *ahead) ReadAt([]byte, int64) (int, error) {
	return 0, errors.New("the message is on its way and was not kept")
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

// running is the copy that goes upstream while it is made, nil for none.
func (s *session) running() *ahead {
	if s.up == nil {
		return nil
	}
	return s.up.ahead
}

// fallBack ends a transaction of which nothing came.
func (s *session) fallBack() {
	if s.running() != nil {
		s.up.close()
		s.up, s.env.probe = nil, nil
	}
}

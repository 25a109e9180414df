package smtpd

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"hash"

	"letterlock.org/letterlock/internal/message"
)

// intake takes the bytes of one message as they come: each is spooled and
// hashed once.
type intake struct {
	spool *message.Spool
	hash  hash.Hash
	// parser reads what is spooled as it comes: reading it again would take longer.
	parser *message.Parser
	left   int64 // bytes that it may still have
	other  bool  // some are NUL or beyond ASCII
	plain  bool  // see pgp.Protection
	err    error // the first; what follows is thrown away
}

func (s *session) newIntake() *intake {
	in := &intake{spool: message.NewSpool(s.server.c.Spool), hash: sha256.New(), parser: message.NewParser(message.Limits{}), left: s.maxSize()}
	if s.account.Relay != nil { // a trace field before what came
		trace := s.received()
		in.other = hasHigh(trace)
		in.parser.Write(trace)
		_, in.err = in.spool.Write(trace)
	}
	return in
}

// take adds the next bytes.
func (in *intake) take(p []byte) {
	if in.err != nil || len(p) == 0 {
		return
	}
	if in.left -= int64(len(p)); in.left < 0 {
		in.fail(fmt.Errorf("%w: more than this server takes", message.ErrTooLarge))
		return
	}
	in.other = in.other || hasHigh(p) || bytes.IndexByte(p, 0) >= 0
	in.hash.Write(p)
	in.parser.Write(p)
	if _, err := in.spool.Write(p); err != nil {
		in.fail(err)
	}
}

// fail frees what was taken: it is of no use any more.
func (in *intake) fail(err error) {
	in.err = err
	in.spool.Close()
}

// sum is the SHA-256 of the message.
func (in *intake) sum() (sum [32]byte) {
	in.hash.Sum(sum[:0])
	return sum
}

// close frees the spool. It may be called twice.
func (in *intake) close() { in.spool.Close() }

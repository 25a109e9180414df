package imapd

import (
	"bytes"
	"errors"
	"io"

	"letterlock.org/letterlock/imapd/index"
	"letterlock.org/letterlock/imapd/wire"
	"letterlock.org/letterlock/pgp"
)

// What is told of one message may come in several responses (RFC 3501, Section
// 7.4.2), a response for each item with some servers. As long as a message has no
// class its items are not the client's to see, so what came before is asked for
// once more when it has one.

// half is a part of what a class is found by.
type half struct {
	root      index.Root
	prefix    []byte
	hasHeader bool
	hasPrefix bool
}

// maxHalves bounds the messages of which halves are kept.
const maxHalves = 10_000

// noMore tells whether a response has no more items: it is over, or there is one
// that cannot be read, without which it is passed on.
func (s *session) noMore(err error) bool {
	if errors.Is(err, wire.ErrItem) {
		s.log.Warn("an item of a FETCH response of the upstream cannot be read and was dropped")
		return true
	}
	return err == io.EOF
}

// content tells whether a response said something of a message's content.
func (g *gathering) content() bool {
	return g.hasHeader || g.hasPrefix || len(g.contents) > 0
}

// split keeps what a response told of a message whose class it didn't tell. Where
// nothing was told of its content, it is asked for once more and no further: the
// client would have had nothing either.
func (j *fetchJob) split(g *gathering) error {
	if j.short == nil {
		j.short = map[uint32]bool{}
	}
	j.short[g.uid] = j.short[g.uid] || g.content()
	j.keepHalf(g)
	return j.dynamicOnly(g)
}

// nothing is said of a message of which there is not one byte. That is passed on, and
// not remembered: some servers give nothing for now, and the message another time.
func (j *fetchJob) nothing(g *gathering) {
	g.class = pgp.Plain
	if j.short[g.uid] {
		j.short[g.uid] = false
	}
}

// keepHalf keeps a part of what the class is found by.
func (j *fetchJob) keepHalf(g *gathering) {
	if g.uid == 0 || !g.hasHeader && !g.hasPrefix || len(j.halves) >= maxHalves {
		return
	}
	if j.halves == nil {
		j.halves = map[uint32]half{}
	}
	j.halves[g.uid] = half{g.root, bytes.Clone(g.prefix), g.hasHeader, g.hasPrefix}
}

// join adds what came in another response.
func (j *fetchJob) join(g *gathering) {
	h, ok := j.halves[g.uid]
	if !ok {
		return
	}
	if h.hasHeader && !g.hasHeader {
		g.root, g.hasHeader, g.halved = h.root, true, true
	}
	if h.hasPrefix && !g.hasPrefix {
		g.prefix, g.hasPrefix = h.prefix, true
	}
}

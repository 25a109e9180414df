package index

import (
	"sync"

	"letterlock.org/letterlock/internal/message"
)

// ReadBeginning reads the root header out of the first bytes of a message, and
// gives the text after it that the class may hang on; whole says that b is the
// message to its end. ok is false where b doesn't hold all that a class is told
// by: the header with the empty line that ends it and, where NeedsPrefix, as much
// of what follows as tells, at most PrefixBytes. text is a part of b.
func ReadBeginning(b []byte, whole bool) (root Root, text []byte, ok bool) {
	if root, ok = readRegular(b); !ok {
		h := message.ParseHeader(b)
		if len(h.Raw) == len(b) && !whole {
			return Root{}, nil, false
		}
		root = rootOf(h)
	}
	text = b[root.masks.Header:]
	text = text[:min(len(text), PrefixBytes)]
	return root, text, whole || root.suffices(text)
}

// beginnings knows how long a beginning of the account's messages has to be for
// ReadBeginning.
type beginnings struct {
	mu    sync.Mutex
	needs [256]int // guarded by mu: of the last messages that were classified
	n     int      // guarded by mu: how many there have been
}

// leastBeginnings is how many messages must have been seen before their
// beginnings are said to be alike.
const leastBeginnings = 16

func (b *beginnings) saw(need int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.needs[b.n%len(b.needs)] = need
	b.n++
}

// Beginning is for how many of a message's first bytes to ask so that they
// most likely suffice for ReadBeginning, 0 where ClassItems and PrefixItem cost
// less; known is false while too few messages were seen to tell.
//
// An upstream that opens a file for each item takes longer for two of them than
// for one, and longer the more it sends. beginningCosts are CPU time in units of
// what Dovecot takes to answer a header from its cache; messages that need more
// take apart beside.
func (l *Library) Beginning() (bytes int, known bool) {
	b := &l.begin
	b.mu.Lock()
	defer b.mu.Unlock()
	n := min(b.n, len(b.needs))
	if n < leastBeginnings {
		return 0, false
	}
	least := apart
	for _, c := range beginningCosts {
		short := 0
		for _, need := range b.needs[:n] {
			if need > c.bytes {
				short++
			}
		}
		if cost := c.cost + apart*float64(short)/float64(n); cost < least {
			least, bytes = cost, c.bytes
		}
	}
	return bytes, true
}

// apart is what ClassItems and PrefixItem cost.
const apart = 3.71

var beginningCosts = []struct {
	bytes int
	cost  float64
}{{512, 3.03}, {1 << 10, 3.08}, {2 << 10, 3.16}, {4 << 10, 3.24}, {8 << 10, 3.54}}

// Beginning is the Library's.
func (m *Mailbox) Beginning() (bytes int, known bool) { return m.lib.Beginning() }

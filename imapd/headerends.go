package imapd

import (
	"crypto/sha256"
	"fmt"
	"hash"
	"math"
	"slices"
	"sync"

	"letterlock.org/letterlock/imapd/index"
	"letterlock.org/letterlock/imapd/wire"
)

// headerPrints is what a session's client was shown of the headers of messages
// that it reads in pieces. An upstream that gives other bytes with the next piece
// could have the client put a header together that nobody masked as one, so that
// its connection is cut.
type headerPrints struct {
	mu   sync.Mutex
	of   map[piecesOf]headerPrint // guarded by mu
	text map[piecesOf]int64       // guarded by mu: where the first piece began that was passed as text unread
	raw  map[uint32][32]byte      // guarded by mu: of which ciphertext something was shown
}

// piecesOf is what pieces are put together to: a message, or its header.
type piecesOf struct {
	uid    uint32
	header bool
}

func (w *responseWriter) piecesOf(i wire.FetchItem) piecesOf {
	return piecesOf{w.uid, i.Section != nil && i.Section.Kind == "HEADER"}
}

// headerPrint is the fingerprint of a header's first n bytes, as they were shown.
// Of all, where over.
type headerPrint struct {
	n    int64
	sum  [sha256.Size]byte
	over bool
}

// maxPrints bounds the messages that are noted.
const maxPrints = 50_000

// note remembers something of a message, as far as there is room.
func note[K comparable, V any](m *map[K]V, key K, change func(V) V) {
	if *m == nil {
		*m = map[K]V{}
	}
	if v, known := (*m)[key]; known || len(*m) < maxPrints {
		(*m)[key] = change(v)
	}
}

// saw notes what was shown of a header.
func (h *headerPrints) saw(of piecesOf, p headerPrint) {
	h.mu.Lock()
	defer h.mu.Unlock()
	note(&h.of, of, func(was headerPrint) headerPrint {
		if p.n > was.n || p.over && !was.over {
			return p
		}
		return was
	})
}

// passed notes that a piece from offset at on is passed as text.
func (h *headerPrints) passed(of piecesOf, at int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	note(&h.text, of, func(was int64) int64 {
		if was > 0 {
			at = min(at, was)
		}
		return at
	})
}

// rendered notes that something of a rendering is shown, and tells whether what was
// shown before is of the same ciphertext: else one message could lend its header,
// and what it says of its signature, to another one's text.
func (h *headerPrints) rendered(uid uint32, raw [32]byte) (same bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	was, known := h.raw[uid]
	note(&h.raw, uid, func([32]byte) [32]byte { return raw })
	return !known || was == raw
}

// wasRendered tells whether something of a rendering was shown.
func (h *headerPrints) wasRendered(uid uint32) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, known := h.raw[uid]
	return known
}

// print is what was shown of a header, and up to where it must have ended.
func (h *headerPrints) print(of piecesOf) (p headerPrint, limit int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	limit = math.MaxInt64
	if at := h.text[of]; at > 0 {
		limit = at
	}
	return h.of[of], limit
}

// furthestHeader is up to where pieces of uids may be of the header, as far as
// that is known and matters, and how much of each message has to be read to
// compare what comes with what was shown, or comes beside it.
func (j *fetchJob) furthestHeader(lib *index.Mailbox, uids []uint32) (end, shown int64) {
	if !slices.ContainsFunc(j.items, func(i wire.FetchItem) bool { return i.Partial != nil }) {
		return 0, 0
	}
	ahead := int64(0)
	for _, uid := range uids {
		masks, _ := lib.Masks(uid)
		end = max(end, masks.Header)
		if len(masks.Ranges) >= index.MaxRanges {
			ahead = int64(len(ours)) // tells whether a piece ends within an imitation
		}
		for _, header := range []bool{false, true} {
			p, _ := j.box.headers.print(piecesOf{uid, header})
			if end, shown = max(end, p.n), max(shown, p.n); !p.over && p.n >= reach {
				end = math.MaxInt64
			}
		}
	}
	near, first := 0, int64(0)
	for _, i := range j.items {
		if i.Partial != nil && i.Section != nil && beginsWithHeader(i.Section) && i.Partial.Offset < max(reach, end) {
			if near++; near > 1 {
				shown = max(shown, first, i.Partial.Offset+i.Partial.Count)
			}
			first = max(first, i.Partial.Offset+i.Partial.Count)
		}
	}
	if ahead > 0 && near > 0 {
		shown = max(shown, first+ahead)
	}
	return end, shown
}

// printing compares a header with the one that was shown before, as it comes by.
type printing struct {
	hash  hash.Hash
	n     int64
	was   headerPrint
	limit int64
}

func (h *headerPrints) printing(of piecesOf) *printing {
	p := &printing{hash: sha256.New()}
	p.was, p.limit = h.print(of)
	return p
}

var errSwapped = fmt.Errorf("%w: a message has another header than it had", wire.ErrDesync)

// add takes the next bytes of the header; over tells that these are its last.
func (p *printing) add(b []byte, over bool) error {
	if left := p.was.n - p.n; left > 0 && int64(len(b)) >= left {
		p.hash.Write(b[:left])
		p.n, b = p.was.n, b[left:]
		if [sha256.Size]byte(p.hash.Sum(nil)) != p.was.sum {
			return errSwapped
		}
	}
	p.hash.Write(b)
	p.n += int64(len(b))
	switch {
	case p.was.over && p.n > p.was.n, over && p.n < p.was.n, over && p.n > p.limit, !over && p.n >= p.limit:
		return errSwapped
	}
	return nil
}

// finish is called at the end of what is read.
func (p *printing) finish(over bool) (headerPrint, error) {
	if p.n < p.was.n {
		return headerPrint{}, errSwapped
	}
	return headerPrint{n: p.n, sum: [sha256.Size]byte(p.hash.Sum(nil)), over: over}, nil
}

package index

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"letterlock.org/letterlock/imapd/render"
	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/pgp"
)

// What to FETCH of a UID to classify it. BODYSTRUCTURE is not among it: the
// Content-Type of the root says as much, and an upstream answers it from disk.
const (
	ClassItems  = "BODY.PEEK[HEADER]"
	PrefixItem  = "BODY.PEEK[TEXT]<0.512>"
	PrefixBytes = 512
)

// Classification is what a message's class is told by.
type Classification struct {
	UID uint32
	// Header is the whole root header as the upstream sent it.
	Header []byte
	// Prefix is the first PrefixBytes of the body, nil if it was not asked for.
	// It is looked at only where NeedsPrefix says so.
	Prefix []byte
}

// NeedsPrefix tells whether the class hangs on how the body begins.
func NeedsPrefix(header []byte) bool { return ReadRoot(header).NeedsPrefix() }

// Class is the class as far as it can be told without opening: Encrypted is
// everything that pgp.Open would look into, never less.
func (c Classification) Class() pgp.Class { return c.classified().Class }

func (c Classification) classified() Classified {
	return ReadRoot(c.Header).Classified(c.UID, c.Prefix)
}

// Root is what a root header says of a message's class, read once. It keeps
// nothing of the header's bytes.
type Root struct {
	shape   pgp.Shape
	masks   Masks
	seen    []keydir.Observation
	regular bool
}

// ReadRoot reads a whole root header.
func ReadRoot(header []byte) Root {
	if r, ok := readRegular(header); ok && int(r.masks.Header) == len(header) {
		return r
	}
	h := message.ParseHeader(header)
	h.Raw = header // to where the upstream sees its end
	return rootOf(h)
}

func rootOf(h message.Header) Root {
	ranges := render.Imitations(h.Raw)
	if len(ranges) > MaxRanges {
		ranges = slices.Clone(ranges[:MaxRanges])
	}
	return Root{shape: shapeOf(h), seen: observed(h), masks: Masks{Ranges: ranges, Header: int64(len(h.Raw))}}
}

// readRegular reads the header that b begins with, if it is regular. It looks
// only at the fields that tell something.
func readRegular(b []byte) (Root, bool) {
	var h message.Header
	autocrypt := false
	n := render.ReadRegular(b, func(start int, name, raw []byte) {
		switch {
		case sameName(name, "Content-Type"), sameName(name, "Content-Transfer-Encoding"), pgp.FromExchange(name):
			h.Fields = append(h.Fields, message.Field{Name: string(name), Raw: raw, Start: int64(start)})
		case sameName(name, "Autocrypt"):
			autocrypt = true
		}
	})
	if n == 0 {
		return Root{}, false
	}
	if h.Raw = b[:n:n]; autocrypt {
		h = message.ParseHeader(h.Raw)
	}
	r := rootOf(h)
	r.regular = true
	return r, true
}

func sameName(name []byte, is string) bool {
	return len(name) == len(is) && strings.EqualFold(string(name), is)
}

// Regular tells whether the header is regular, as render.ReadRegular means it.
func (r Root) Regular() bool { return r.regular }

// Masks says what imitates our fields; Header is set without any, too.
func (r Root) Masks() Masks { return r.masks }

// NeedsPrefix tells whether the class hangs on how the body begins.
func (r Root) NeedsPrefix() bool { return r.shape.NeedsText() }

// suffices tells whether text, which the body begins with, tells the class.
func (r Root) suffices(text []byte) bool {
	shape := r.shape
	shape.Text = text
	return pgp.Suffices(shape)
}

// needs is how many of the message's first bytes tell the class: the header and,
// in steps, of the text.
func (r Root) needs(text []byte) int {
	n := int(r.masks.Header)
	for _, step := range []int{0, 64, 256} {
		if len(text) <= step || r.suffices(text[:step]) {
			return n + min(step, len(text))
		}
	}
	return n + PrefixBytes
}

// Classified tells the class of the message whose root header r is, and whose
// body begins with prefix.
func (r Root) Classified(uid uint32, prefix []byte) Classified {
	shape := r.shape
	shape.Text = prefix[:min(len(prefix), PrefixBytes)]
	c := Classified{UID: uid, Class: pgp.Classify(shape), need: r.needs(shape.Text)}
	if r.masks.kept() {
		c.Masks = r.masks
	}
	if c.Class == pgp.Plain {
		c.seen = r.seen
	}
	return c
}

// Classified is a message whose class was found, without its bytes.
type Classified struct {
	UID   uint32
	Class pgp.Class
	Masks Masks // none where they are not kept
	seen  []keydir.Observation
	need  int // bytes of its beginning that the class was told by
}

// shapeOf reads a root header as message.Parse does: the first Content-Type
// counts, and a malformed one is text/plain.
func shapeOf(h message.Header) pgp.Shape {
	s := pgp.Shape{Type: "text", Subtype: "plain"}
	s.Encoding, _ = message.ParseParams(h.Get("Content-Transfer-Encoding"))
	typed := false
	for _, f := range h.Fields {
		s.Exchange = s.Exchange || pgp.FromExchange(f.Name)
		if typed || !f.Is("Content-Type") {
			continue
		}
		typed = true
		word, params := message.ParseParams(f.Value())
		s.Params = message.DecodeParams(params)
		if t, sub, ok := strings.Cut(word, "/"); ok {
			s.Type, s.Subtype = t, sub
		}
	}
	return s
}

// Classify remembers the classes of messages, as Remember does.
func (m *Mailbox) Classify(ctx context.Context, messages []Classification) error {
	found := make([]Classified, len(messages))
	for i, c := range messages {
		found[i] = c.classified()
	}
	return m.Remember(ctx, found)
}

// Remember keeps the classes of messages, on disk when it returns, in one
// transaction. A UID that has a class keeps it.
func (m *Mailbox) Remember(ctx context.Context, found []Classified) error {
	type result struct {
		uid   uint32
		e     entry
		masks Masks
	}
	results := make([]result, 0, len(found))
	var seen []keydir.Observation
	m.mu.RLock()
	for _, c := range found {
		if m.entries[c.UID].class != pgp.Unclassified {
			continue
		}
		r := result{uid: c.UID, e: entry{class: c.Class}, masks: c.Masks}
		if r.e.class == pgp.Plain {
			r.e.state = settled
		}
		seen = append(seen, c.seen...)
		m.lib.begin.saw(c.need)
		results = append(results, r)
	}
	m.mu.RUnlock()
	if len(results) == 0 {
		return nil
	}
	err := m.lib.c.Store.Update(ctx, func(tx store.Tx) error {
		for _, r := range results {
			if err := m.add(tx, r.uid, r.e, r.masks); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("storing classes: %w", err)
	}
	m.lib.observeLater(seen)
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range results {
		if m.entries[r.uid].class != pgp.Unclassified {
			continue // somebody else was faster, and may have opened it by now
		}
		m.entries[r.uid] = r.e
		if r.masks.kept() {
			m.masks[r.uid] = r.masks
		}
	}
	return nil
}

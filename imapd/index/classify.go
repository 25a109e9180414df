package index

import (
	"context"
	"fmt"
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
func NeedsPrefix(header []byte) bool {
	shape := shapeOf(message.ParseHeader(header))
	return shape.Type == "text" && shape.Subtype == "plain"
}

// Class is the class as far as it can be told without opening: Encrypted is
// everything that pgp.Open would look into, never less.
func (c Classification) Class() pgp.Class {
	shape := shapeOf(message.ParseHeader(c.Header))
	shape.Text = c.Prefix[:min(len(c.Prefix), PrefixBytes)]
	return pgp.Classify(shape)
}

// shapeOf reads a root header as message.Parse does: the first Content-Type
// counts, and a malformed one is text/plain.
func shapeOf(h message.Header) pgp.Shape {
	s := pgp.Shape{Type: "text", Subtype: "plain"}
	s.Encoding, _ = message.ParseParams(h.Get("Content-Transfer-Encoding"))
	for _, f := range h.Fields {
		if !f.Is("Content-Type") {
			continue
		}
		word, params := message.ParseParams(f.Value())
		s.Params = message.DecodeParams(params)
		if t, sub, ok := strings.Cut(word, "/"); ok {
			s.Type, s.Subtype = t, sub
		}
		break
	}
	return s
}

// Classify remembers the classes of messages, on disk when it returns, in one
// transaction. A UID that has a class keeps it.
func (m *Mailbox) Classify(ctx context.Context, messages []Classification) error {
	type result struct {
		uid   uint32
		e     entry
		masks Masks
	}
	var results []result
	var seen []keydir.Observation
	m.mu.RLock()
	for _, c := range messages {
		if m.entries[c.UID].class != pgp.Unclassified {
			continue
		}
		r := result{uid: c.UID, e: entry{class: c.Class()}}
		if r.e.class == pgp.Plain {
			r.e.state = settled
		}
		if r.masks.Ranges = render.Imitations(c.Header); r.masks.Ranges != nil {
			r.masks.Header = int64(len(c.Header))
		}
		if r.e.class == pgp.Plain {
			seen = append(seen, observed(message.ParseHeader(c.Header))...)
		}
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
		if r.masks.Ranges != nil {
			m.masks[r.uid] = r.masks
		}
	}
	return nil
}

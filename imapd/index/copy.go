package index

import (
	"context"
	"errors"
	"fmt"

	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/pgp"
)

// Pair is a UID and the UID of its copy, as COPYUID tells them (RFC 4315).
type Pair struct{ From, To uint32 }

// Copy copies what is known of messages to their copies in dst, which may be m
// itself. A message that stays Opaque is not copied: its copy is tried anew,
// which is how a message is opened with a key that came later.
func (m *Mailbox) Copy(ctx context.Context, dst *Mailbox, pairs []Pair) error {
	type copied struct {
		e     entry
		masks Masks
	}
	done := map[uint32]copied{}
	err := m.lib.c.Store.Update(ctx, func(tx store.Tx) error {
		clear(done)
		for _, p := range pairs {
			e := m.entry(p.From)
			if e.class == pgp.Unclassified || e.class == pgp.Opaque || dst.entry(p.To).class != pgp.Unclassified {
				continue
			}
			e.modseq = 0
			if e.state&kwAll != 0 { // flags of the copy may have been told already
				e.modseq = unseen
			}
			masks, _ := m.Masks(p.From)
			if err := dst.add(tx, p.To, e, masks); err != nil {
				return err
			}
			if err := m.copyRow(tx, dst, p); err != nil {
				return err
			}
			done[p.To] = copied{e, masks}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("copying index rows: %w", err)
	}
	dst.mu.Lock()
	defer dst.mu.Unlock()
	for uid, c := range done {
		if dst.entries[uid].class != pgp.Unclassified {
			continue
		}
		if c.e.modseq != 0 {
			c.e.modseq = dst.newest()
			if c.e.modseq != unseen {
				dst.unfiled[uid] = true
			}
			dst.tell(uid)
		}
		dst.entries[uid] = c.e
		if c.masks.kept() {
			dst.masks[uid] = c.masks
		}
	}
	return nil
}

// copyRow copies the row and text of an opened message, with a MAC of its own.
func (m *Mailbox) copyRow(tx store.Tx, dst *Mailbox, p Pair) error {
	r, err := m.readRow(tx, p.From)
	if errors.Is(err, store.ErrNoRow) {
		return nil
	}
	if err != nil {
		return err
	}
	r.UID = p.To
	if err := dst.writeRow(tx, r); err != nil {
		return err
	}
	_, err = tx.Exec(`INSERT INTO index_text (mailbox, uid, kind, piece, text)
		SELECT ?, ?, kind, piece, text FROM index_text WHERE mailbox = ? AND uid = ?
		ON CONFLICT (mailbox, uid, kind, piece) DO NOTHING`, dst.id, int64(p.To), m.id, int64(p.From))
	return err
}

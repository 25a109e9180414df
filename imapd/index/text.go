package index

import (
	"bytes"
	"context"
	"errors"

	"letterlock.org/letterlock/imapd/search"
	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/internal/store"
)

// Texts are kept folded and scanned, not put into FTS5: IMAP asks for any
// substring, also of one or two characters and across words, which trigrams
// only narrow down and words miss. A scan is exact as it stands and takes half
// a second for 50,000 messages of 4 KB (BenchmarkSearch), in as
// many bytes as the text has.

// pieceBytes is how much text one row of index_text has: enough that a scan
// reads long runs, little enough that it does not hold a large message.
const pieceBytes = 256 << 10

// writeText stores the folded text of a message, instead of what there was.
func (m *Mailbox) writeText(tx store.Tx, uid uint32, texts []search.Text) error {
	if _, err := tx.Exec(`DELETE FROM index_text WHERE mailbox = ? AND uid = ?`, m.id, int64(uid)); err != nil {
		return err
	}
	for _, t := range texts {
		for piece := 0; len(t.Text) > 0; piece++ {
			n := min(len(t.Text), pieceBytes)
			_, err := tx.Exec(`INSERT INTO index_text (mailbox, uid, kind, piece, text) VALUES (?, ?, ?, ?, ?)`,
				m.id, int64(uid), int64(t.Kind), int64(piece), t.Text[:n])
			if err != nil {
				return err
			}
			t.Text = t.Text[n:]
		}
	}
	return nil
}

// Search gives those of uids, which are ascending and Encrypted, that match a
// term. unknown is those that cannot be told from what is stored: they are
// opened with Rendering, and then asked again, or matched with
// search.Term.Match if they are unknown still.
func (m *Mailbox) Search(ctx context.Context, uids []uint32, t search.Term) (hits, unknown []uint32, err error) {
	if len(uids) == 0 {
		return nil, nil, nil
	}
	if t.NeedsText() {
		return m.scanTexts(ctx, uids, t)
	}
	return m.scanHeaders(ctx, uids, t)
}

// scanHeaders looks at what the rows have.
func (m *Mailbox) scanHeaders(ctx context.Context, uids []uint32, t search.Term) (hits, unknown []uint32, err error) {
	err = m.lib.c.Store.View(ctx, func(tx store.Tx) error {
		hits, unknown = nil, nil
		for _, uid := range uids {
			r, err := m.readRow(tx, uid)
			switch {
			case errors.Is(err, store.ErrNoRow):
				unknown = append(unknown, uid)
			case err != nil:
				return err
			case t.MatchHeader(message.ParseHeader(r.Header), r.Size):
				hits = append(hits, uid)
			}
		}
		return nil
	})
	return hits, unknown, err
}

// scanTexts reads the stored texts once from the first to the last of uids.
func (m *Mailbox) scanTexts(ctx context.Context, uids []uint32, t search.Term) (hits, unknown []uint32, err error) {
	least := int64(search.Bodies)
	if t.Key == "TEXT" {
		least = int64(search.Headers)
	}
	found := map[uint32]bool{}
	err = m.lib.c.Store.View(ctx, func(tx store.Tx) error {
		clear(found)
		var last, lastKind int64 = -1, -1
		var tail []byte
		return tx.Rows(`SELECT uid, kind, text FROM index_text WHERE mailbox = ? AND uid BETWEEN ? AND ? AND kind >= ? ORDER BY uid, kind, piece`,
			[]any{m.id, int64(uids[0]), int64(uids[len(uids)-1]), least}, func(scan func(...any) error) error {
				var uid, kind int64
				var text []byte
				if err := scan(&uid, &kind, &text); err != nil {
					return err
				}
				if uid != last || kind != lastKind {
					tail = tail[:0]
				}
				last, lastKind = uid, kind
				if found[uint32(uid)] {
					return nil
				}
				if spans(tail, text, t.Words) || bytes.Contains(text, t.Words) {
					found[uint32(uid)] = true
				}
				keep := min(len(text), max(0, len(t.Words)-1))
				tail = append(tail[:0], text[len(text)-keep:]...)
				return ctx.Err()
			})
	})
	if err != nil {
		return nil, nil, err
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	for _, uid := range uids {
		switch {
		case m.entries[uid].state&hasText == 0:
			unknown = append(unknown, uid)
		case found[uid]:
			hits = append(hits, uid)
		}
	}
	return hits, unknown, nil
}

// spans tells whether words lie across the border of two pieces.
func spans(tail, text, words []byte) bool {
	if len(tail) == 0 || len(words) < 2 {
		return false
	}
	border := append(bytes.Clone(tail), text[:min(len(text), len(words)-1)]...)
	return bytes.Contains(border, words)
}

package index

import (
	"context"
	"crypto/hmac"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"

	"letterlock.org/letterlock/imapd/render"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/pgp"
)

// load reads the classes of a mailbox into memory.
func (l *Library) load(ctx context.Context, key mailboxKey) (*Mailbox, error) {
	id, err := l.mailboxID(ctx, key)
	if err != nil {
		return nil, err
	}
	m := &Mailbox{
		lib: l, key: key, id: id,
		entries:  map[uint32]entry{},
		masks:    map[uint32]Masks{},
		again:    map[uint32]bool{},
		watchers: map[chan<- struct{}]*watcher{},
		unfiled:  map[uint32]bool{},
		flights:  flights{under: map[uint32]*flight{}},
	}
	dropped := 0
	err = l.c.Store.View(ctx, func(tx store.Tx) error {
		dropped = 0
		err := tx.Rows(`SELECT uid, class, state, modseq, header, masks, mac FROM index_message WHERE mailbox = ?`,
			[]any{id}, func(scan func(...any) error) error {
				var r messageRow
				if err := scan(&r.uid, &r.class, &r.state, &r.modseq, &r.header, &r.masks, &r.mac); err != nil {
					return err
				}
				if !m.accept(r) {
					dropped++
				}
				return nil
			})
		if err != nil {
			return err
		}
		return m.readAgain(tx)
	})
	if err != nil {
		return nil, err
	}
	if dropped > 0 {
		l.c.Logger.Warn("index rows were changed outside of letterlock; their messages are classified again", "rows", dropped)
	}
	return m, nil
}

// readAgain finds the signed messages that another transform settled.
func (m *Mailbox) readAgain(tx store.Tx) error {
	return tx.Rows(`SELECT uid FROM index_row WHERE mailbox = ? AND class = ? AND transform <> ?`,
		[]any{m.id, string(pgp.Signed), m.lib.transform}, func(scan func(...any) error) error {
			var uid int64
			if err := scan(&uid); err != nil {
				return err
			}
			if e := m.entries[uint32(uid)]; e.class == pgp.Signed && e.state&settled != 0 {
				m.again[uint32(uid)] = true
			}
			return nil
		})
}

// mailboxID finds the row of a mailbox, or makes it.
func (l *Library) mailboxID(ctx context.Context, key mailboxKey) (id int64, err error) {
	args := []any{l.c.Account, key.name, int64(key.uidvalidity)}
	const find = `SELECT id FROM index_mailbox WHERE account = ? AND name = ? AND uidvalidity = ?`
	err = l.c.Store.View(ctx, func(tx store.Tx) error { return tx.Row(find, args, &id) })
	if !errors.Is(err, store.ErrNoRow) {
		return id, err
	}
	err = l.c.Store.Update(ctx, func(tx store.Tx) error {
		_, err := tx.Exec(`INSERT INTO index_mailbox (id, account, name, uidvalidity)
			SELECT COALESCE(MAX(id), 0) + 1, CAST(? AS TEXT), CAST(? AS TEXT), ? FROM index_mailbox WHERE true
			ON CONFLICT (account, name, uidvalidity) DO NOTHING`, args...)
		if err != nil {
			return err
		}
		return tx.Row(find, args, &id)
	})
	// The number may be that of a mailbox which was swept: nothing that is cached
	// under it is of this one.
	l.cache.removeAll(id)
	return id, err
}

// messageRow is a row of index_message.
type messageRow struct {
	uid, state, modseq, header int64
	class                      string
	masks, mac                 []byte
}

// accept puts a row into memory; false if it does not fit its MAC.
func (m *Mailbox) accept(r messageRow) bool {
	e := entry{class: pgp.Class(r.class), state: state(r.state), modseq: uint64(r.modseq)}
	uid := uint32(r.uid)
	if want := m.entryMAC(uid, e); want != nil && !hmac.Equal(want, r.mac) {
		return false
	}
	m.entries[uid] = e
	if masks := (Masks{Ranges: decodeRanges(r.masks), Header: r.header}); masks.kept() {
		m.masks[uid] = masks
	}
	return true
}

// entryMAC authenticates an entry that says more than that a message is plain;
// nil for one that does not. It names the mailbox by what it is, not by its
// row, so that rows cannot change places.
func (m *Mailbox) entryMAC(uid uint32, e entry) []byte {
	if e.class == pgp.Plain && e.state&kwAll == 0 {
		return nil
	}
	return m.lib.c.Store.MAC("index message", []byte(m.lib.c.Account), []byte(m.key.name),
		number(uint64(m.key.uidvalidity)), number(uint64(uid)), []byte(e.class), number(uint64(e.state)))
}

func number(n uint64) []byte { return strconv.AppendUint(nil, n, 10) }

const insertMessage = `INSERT INTO index_message (mailbox, uid, class, state, modseq, header, masks, reason, mac)
	VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (mailbox, uid) `

// add writes the entry of a UID that has none, with its masks.
func (m *Mailbox) add(tx store.Tx, uid uint32, e entry, masks Masks) error {
	_, err := tx.Exec(insertMessage+`DO NOTHING`, m.id, int64(uid), string(e.class), int64(e.state), int64(e.modseq),
		masks.Header, encodeRanges(masks.Ranges), "", m.entryMAC(uid, e))
	return err
}

// put writes an entry anew; masks that are stored stay.
func (m *Mailbox) put(tx store.Tx, uid uint32, e entry, reason string) error {
	_, err := tx.Exec(insertMessage+`DO UPDATE SET class = excluded.class, state = excluded.state,
		modseq = excluded.modseq, reason = excluded.reason, mac = excluded.mac`,
		m.id, int64(uid), string(e.class), int64(e.state), int64(e.modseq), 0, nil, reason, m.entryMAC(uid, e))
	return err
}

// remove drops what is kept of uids, in memory and on disk.
func (m *Mailbox) remove(ctx context.Context, uids []uint32) error {
	if len(uids) == 0 {
		return nil
	}
	err := m.lib.c.Store.Update(ctx, func(tx store.Tx) error {
		for _, uid := range uids {
			for _, table := range []string{"index_message", "index_row", "index_text"} {
				if _, err := tx.Exec(`DELETE FROM `+table+` WHERE mailbox = ? AND uid = ?`, m.id, int64(uid)); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("removing rows of expunged messages: %w", err)
	}
	m.mu.Lock()
	for _, uid := range uids {
		delete(m.entries, uid)
		delete(m.masks, uid)
		delete(m.unfiled, uid)
	}
	m.mu.Unlock()
	m.lib.cache.remove(m, uids)
	return nil
}

func encodeRanges(ranges []render.Range) []byte {
	var b []byte
	for _, r := range ranges {
		b = binary.AppendUvarint(b, uint64(r.Off))
		b = binary.AppendUvarint(b, uint64(r.Len))
	}
	return b
}

func decodeRanges(b []byte) []render.Range {
	var ranges []render.Range
	for len(b) > 0 {
		off, n := binary.Uvarint(b)
		if n <= 0 {
			return nil
		}
		length, k := binary.Uvarint(b[n:])
		if k <= 0 {
			return nil
		}
		ranges = append(ranges, render.Range{Off: int64(off), Len: int64(length)})
		b = b[n+k:]
	}
	return ranges
}

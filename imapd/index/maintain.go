package index

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/pgp"
)

// Reconcile drops the rows of messages that are gone: all but existing, which
// is ascending, below uidNext. Messages from uidNext on came after existing was
// listed.
func (m *Mailbox) Reconcile(ctx context.Context, existing []uint32, uidNext uint32) error {
	var gone []uint32
	for _, uid := range m.Known() {
		if _, ok := slices.BinarySearch(existing, uid); !ok && uid < uidNext {
			gone = append(gone, uid)
		}
	}
	return m.remove(ctx, gone)
}

// Sweep drops the rows of mailboxes that are not live: by name, the UIDVALIDITY
// that each has now, 0 for one that exists but could not be asked: its rows
// stay, as do those of mailboxes that somebody holds.
func (l *Library) Sweep(ctx context.Context, live map[string]uint32) error {
	held := l.unload(live)
	err := l.c.Store.Update(ctx, func(tx store.Tx) error {
		var stale []int64
		err := tx.Rows(`SELECT id, name, uidvalidity FROM index_mailbox WHERE account = ?`, []any{l.c.Account},
			func(scan func(...any) error) error {
				var id, uidvalidity int64
				var name string
				if err := scan(&id, &name, &uidvalidity); err != nil {
					return err
				}
				if !held[id] && !isLive(live, name, uint32(uidvalidity)) {
					stale = append(stale, id)
				}
				return nil
			})
		if err != nil {
			return err
		}
		for _, id := range stale {
			for _, table := range []string{"index_message", "index_row", "index_text"} {
				if _, err := tx.Exec(`DELETE FROM `+table+` WHERE mailbox = ?`, id); err != nil {
					return err
				}
			}
			if _, err := tx.Exec(`DELETE FROM index_mailbox WHERE id = ?`, id); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return l.prune(ctx)
}

func isLive(live map[string]uint32, name string, uidvalidity uint32) bool {
	now, ok := live[name]
	return ok && (now == 0 || now == uidvalidity)
}

// unload forgets mailboxes that are not live and that nobody holds; it gives
// the row of every other one that is in memory.
func (l *Library) unload(live map[string]uint32) map[int64]bool {
	l.mu.Lock()
	l.idle = slices.DeleteFunc(l.idle, func(k mailboxKey) bool {
		dead := !isLive(live, k.name, k.uidvalidity)
		if dead {
			delete(l.mailboxes, k)
		}
		return dead
	})
	l.mu.Unlock()
	held := map[int64]bool{}
	for _, m := range l.open() {
		held[m.id] = true
	}
	return held
}

// Recheck asks anew how sure each signer is, and changes the keywords where
// that has changed: call it after a person confirmed or accepted a certificate.
// Frozen verdicts, and so the messages, stay as they are.
func (l *Library) Recheck(ctx context.Context) error {
	var keys []mailboxKey
	err := l.c.Store.View(ctx, func(tx store.Tx) error {
		keys = nil
		return tx.Rows(`SELECT name, uidvalidity FROM index_mailbox WHERE account = ?`, []any{l.c.Account},
			func(scan func(...any) error) error {
				var name string
				var uidvalidity int64
				err := scan(&name, &uidvalidity)
				keys = append(keys, mailboxKey{name, uint32(uidvalidity)})
				return err
			})
	})
	if err != nil {
		return fmt.Errorf("listing indexed mailboxes: %w", err)
	}
	for _, key := range keys {
		m, err := l.Mailbox(ctx, key.name, key.uidvalidity)
		if err != nil {
			return err
		}
		err = m.recheck(ctx)
		m.Close()
		if err != nil {
			return fmt.Errorf("checking signers again: %w", err)
		}
	}
	return nil
}

// recheck is Recheck of one mailbox.
func (m *Mailbox) recheck(ctx context.Context) error {
	var rows []*Row
	err := m.Rows(ctx, m.Known(), func(r *Row) error {
		if r.Verdict.Signer != "" {
			rows = append(rows, &Row{UID: r.UID, Class: r.Class, Verdict: r.Verdict, From: r.From})
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, r := range rows {
		identity, err := m.lib.identity(ctx, r)
		if err != nil {
			return err
		}
		m.mu.RLock()
		e, known := m.entries[r.UID]
		m.mu.RUnlock()
		changed := e.state&^kwAll | keywordsOf(r.Class, r.Verdict, identity)
		if !known || changed == e.state {
			continue
		}
		e.state = changed
		if err := m.change(ctx, r.UID, e, func(tx store.Tx, e entry) error { return m.restate(tx, r.UID, e) }); err != nil {
			return err
		}
	}
	return nil
}

// restate writes an entry anew; why the message is not shown, if it isn't, stays.
func (m *Mailbox) restate(tx store.Tx, uid uint32, e entry) error {
	var reason string
	err := tx.Row(`SELECT reason FROM index_message WHERE mailbox = ? AND uid = ?`, []any{m.id, int64(uid)}, &reason)
	if err != nil && !errors.Is(err, store.ErrNoRow) {
		return err
	}
	return m.put(tx, uid, e, reason)
}

// Unopened counts messages of a mailbox that stay as they arrived, or are not shown
// ([ErrSwapped]), by the reason, which is in words for a person and says nothing of
// their content.
type Unopened struct {
	Mailbox string
	Reason  string
	Count   int
}

// Unopened lists why messages could not be opened, for letterlock status.
func (l *Library) Unopened(ctx context.Context) ([]Unopened, error) {
	var all []Unopened
	err := l.c.Store.View(ctx, func(tx store.Tx) error {
		all = nil
		return tx.Rows(`SELECT b.name, m.reason, COUNT(*) FROM index_message m JOIN index_mailbox b ON b.id = m.mailbox
			WHERE b.account = ? AND (m.class = ? OR m.class = ? AND m.reason <> '') GROUP BY b.name, m.reason ORDER BY b.name, m.reason`,
			[]any{l.c.Account, string(pgp.Opaque), string(pgp.Encrypted)}, func(scan func(...any) error) error {
				var u Unopened
				err := scan(&u.Mailbox, &u.Reason, &u.Count)
				all = append(all, u)
				return err
			})
	})
	if err != nil {
		return nil, fmt.Errorf("reading why messages stay closed: %w", err)
	}
	return all, nil
}

// Reason is why a message stays as it arrived; "" for one that does not.
func (m *Mailbox) Reason(ctx context.Context, uid uint32) (reason string, err error) {
	err = m.lib.c.Store.View(ctx, func(tx store.Tx) error {
		return tx.Row(`SELECT reason FROM index_message WHERE mailbox = ? AND uid = ?`, []any{m.id, int64(uid)}, &reason)
	})
	if errors.Is(err, store.ErrNoRow) {
		err = nil
	}
	return reason, err
}

package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/internal/store"
)

// Schema is the queue's tables. queue_body holds bodies in pieces, so that a
// large one never has to be in memory as a whole.
var Schema = store.Schema{Name: "queue", Steps: []string{
	`CREATE TABLE queue_entry (
		id TEXT PRIMARY KEY, account TEXT NOT NULL, submission TEXT NOT NULL,
		state TEXT NOT NULL, due INTEGER NOT NULL, touched INTEGER NOT NULL,
		body INTEGER NOT NULL, entry BLOB NOT NULL)`,
	`CREATE INDEX queue_entry_due ON queue_entry (state, due)`,
	`CREATE TABLE queue_body (
		id TEXT NOT NULL, n INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (id, n))`,
	// One page is written for a submission's row, not one in each of three trees:
	// rows lie in the order of their IDs, which begin with the time, and only
	// what waits is indexed.
	`CREATE TABLE queue_ordered (
		id TEXT PRIMARY KEY, account TEXT NOT NULL, submission TEXT NOT NULL,
		state TEXT NOT NULL, due INTEGER NOT NULL, touched INTEGER NOT NULL,
		body INTEGER NOT NULL, entry BLOB NOT NULL) WITHOUT ROWID;
	INSERT INTO queue_ordered SELECT id, account, submission, state, due, touched, body, entry FROM queue_entry;
	DROP TABLE queue_entry;
	ALTER TABLE queue_ordered RENAME TO queue_entry;
	CREATE INDEX queue_entry_due ON queue_entry (due) WHERE state = 'waiting'`,
}}

// Change is the new state of one entry.
type Change struct {
	Entry Entry
	// Body is stored where the entry had none; nil leaves what there is.
	Body message.Source
	// Forget removes the entry: nothing of it was sent and nobody waits.
	Forget bool
	// Bare: the store has no body of it, so none is looked for.
	Bare bool
}

// Begin syncs entries before the first final dot: Sending ones without body,
// Prepared ones with it. After an error nothing may be sent.
func (q *Queue) Begin(ctx context.Context, changes []Change) error {
	return q.Settle(ctx, changes)
}

// Settle syncs what became of entries. Recipients that are Failed, and those
// that became Unknown after the client had left them to us, are reported to the
// sender by a new entry in the same sync, once.
func (q *Queue) Settle(ctx context.Context, changes []Change) error {
	err := q.write(ctx, q.apply(changes))
	if err == nil {
		q.note(changes)
	}
	for _, c := range changes {
		if s := c.Entry.State; s == Waiting || s == Failed || s == Unknown {
			q.Wake()
		}
	}
	return err
}

// SettleLater is Settle without waiting for the sync, for what is already
// decided by the upstream's answer: if it gets lost, the entry becomes Unknown.
// It goes with the next write that somebody waits for.
func (q *Queue) SettleLater(changes []Change) {
	q.async.Add(1)
	q.writeLater(q.apply(changes), func(err error) {
		defer q.async.Done()
		if err != nil {
			q.c.Logger.Error("journal not written", "err", err)
		}
		q.note(changes)
	})
}

// apply makes the statements of some changes. The function that it returns may
// run more than once.
func (q *Queue) apply(changes []Change) func(store.Tx) (int64, error) {
	now := q.c.Now()
	var reports []report
	for i := range changes {
		changes[i].Entry.Queued = changes[i].Entry.Queued || changes[i].Entry.State == Waiting
		if r, ok := reportOn(&changes[i].Entry, now, q.c.Lifetime); ok && !changes[i].Forget {
			reports = append(reports, r)
		}
	}
	return func(tx store.Tx) (grown int64, err error) {
		for _, c := range changes {
			n, err := q.put(tx, c, now)
			if err != nil {
				return 0, err
			}
			grown += n
		}
		for _, r := range reports {
			n, err := q.put(tx, Change{Entry: r.entry, Body: message.Bytes(r.body)}, now)
			if err != nil {
				return 0, err
			}
			grown += n
		}
		return grown, nil
	}
}

// put writes one entry and keeps its body as long as it may be sent again. It
// returns by how many bytes the bodies grew.
func (q *Queue) put(tx store.Tx, c Change, now time.Time) (int64, error) {
	e := c.Entry
	var had int64
	if !c.Bare {
		err := tx.Row(`SELECT body FROM queue_entry WHERE id = ?`, []any{e.ID}, &had)
		if err != nil && !errors.Is(err, store.ErrNoRow) {
			return 0, err
		}
	}
	keep := !c.Forget && (e.State == Prepared || e.State == Waiting || e.State == Held || e.State == Sending || e.State == Unknown)
	has := had
	if had > 0 && !keep {
		if _, err := tx.Exec(`DELETE FROM queue_body WHERE id = ?`, e.ID); err != nil {
			return 0, err
		}
		has = 0
	}
	if c.Forget {
		_, err := tx.Exec(`DELETE FROM queue_entry WHERE id = ?`, e.ID)
		return has - had, err
	}
	if had == 0 && keep && c.Body != nil {
		if err := putBody(tx, e.ID, c.Body); err != nil {
			return 0, err
		}
		has = c.Body.Size()
	}
	row, err := json.Marshal(packed(e))
	if err != nil {
		return 0, err
	}
	var due int64
	if e.State == Waiting {
		due = e.Next.UnixMicro()
	}
	_, err = tx.Exec(`INSERT INTO queue_entry (id, account, submission, state, due, touched, body, entry)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET state = excluded.state, due = excluded.due,
			touched = excluded.touched, body = excluded.body, entry = excluded.entry`,
		e.ID, e.Account, e.Submission, string(e.State), due, now.UnixMicro(), has, row)
	return has - had, err
}

// packed is e without what has columns of its own.
func packed(e Entry) Entry {
	e.ID, e.Account, e.Submission = "", "", ""
	return e
}

func (q *Queue) entries(ctx context.Context, where string, args ...any) (es []Entry, err error) {
	err = q.c.Store.View(ctx, func(tx store.Tx) error {
		es = nil
		return tx.Rows(`SELECT id, account, submission, entry FROM queue_entry `+where, args, func(scan func(...any) error) error {
			var id, account, submission string
			var row []byte
			var e Entry
			if err := scan(&id, &account, &submission, &row); err != nil {
				return err
			}
			if err := json.Unmarshal(row, &e); err != nil {
				return fmt.Errorf("queue entry: %w", err)
			}
			e.ID, e.Account, e.Submission = id, account, submission
			es = append(es, e)
			return nil
		})
	})
	return es, err
}

// Overall is the state of an entry with these recipients.
func Overall(rs []Recipient) State {
	seen := map[State]bool{}
	for _, r := range rs {
		seen[r.State] = true
	}
	for _, s := range []State{Sending, Waiting, Unknown, Failed} {
		if seen[s] {
			return s
		}
	}
	return Sent
}

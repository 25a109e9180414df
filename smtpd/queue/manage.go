package queue

import (
	"context"
	"errors"
	"fmt"

	"letterlock.org/letterlock/audit"
	"letterlock.org/letterlock/internal/store"
)

// listPage is how many entries of a state are read at once.
const listPage = 200

// Each calls f for every entry that still concerns somebody, all but Sent ones:
// by state, the oldest first, but first what the daybook has. It reads them in pages. state "" is every state.
// The first page of each state is of one moment, so that in a queue of usual size
// an entry that changes its state meanwhile is neither missed nor seen twice.
func (q *Queue) Each(ctx context.Context, state State, f func(Entry) error) error {
	states := []State{Sending, Prepared, Waiting, Held, Unknown, Failed}
	if state != "" {
		states = []State{state}
	}
	pages := make([][]row, len(states))
	live := q.underway()
	err := q.c.Store.View(ctx, func(tx store.Tx) (err error) {
		for i, s := range states {
			if pages[i], err = q.page(tx, s, ""); err != nil {
				return err
			}
		}
		live, err = q.withoutRow(tx, live)
		return err
	})
	if err != nil {
		return err
	}
	if state == "" || state == Sending {
		for _, e := range live {
			if err := f(e); err != nil {
				return err
			}
		}
	}
	for i, s := range states {
		for rs := pages[i]; len(rs) > 0; {
			for _, r := range rs {
				if err := f(r.Entry); err != nil {
					return err
				}
			}
			if len(rs) < listPage {
				break
			}
			last := rs[len(rs)-1].ID
			if err := q.c.Store.View(ctx, func(tx store.Tx) (err error) { rs, err = q.page(tx, s, last); return err }); err != nil {
				return err
			}
		}
	}
	return nil
}

// withoutRow leaves out what has left the daybook.
func (q *Queue) withoutRow(tx store.Tx, live []Entry) (left []Entry, err error) {
	for _, e := range live {
		var one int64
		err := tx.Row(`SELECT 1 FROM queue_item WHERE id = ?`, []any{e.ID}, &one)
		if errors.Is(err, store.ErrNoRow) {
			left = append(left, e)
		} else if err != nil {
			return nil, err
		}
	}
	return left, nil
}

// page reads entries in a state, those after an ID.
func (q *Queue) page(tx store.Tx, s State, after string) ([]row, error) {
	if s == Sending {
		return q.rowsIn(tx, `WHERE node <> '' AND state = 'sending' AND id > ? ORDER BY id LIMIT ?`, after, listPage)
	}
	return q.rowsIn(tx, `WHERE state = ? AND state <> 'sent' AND state <> 'sending' AND id > ? ORDER BY id LIMIT ?`, string(s), after, listPage)
}

// List returns at most limit entries of one state, or of all but Sent.
func (q *Queue) List(ctx context.Context, state State, limit int) (es []Entry, err error) {
	enough := errors.New("enough")
	err = q.Each(ctx, state, func(e Entry) error {
		if len(es) == limit {
			return enough
		}
		es = append(es, e)
		return nil
	})
	if err == enough {
		err = nil
	}
	return es, err
}

// Show returns one entry, whatever its state.
func (q *Queue) Show(ctx context.Context, id string) (Entry, error) {
	r, err := q.row(ctx, id)
	return r.Entry, err
}

// Drop gives up what waits, is held or is unknown: nothing more is sent, nobody
// is told, and the client's repetition of it counts as delivered.
func (q *Queue) Drop(ctx context.Context, id string) error {
	var dropped []Recipient
	e, err := q.change(ctx, id, func(r *Recipient, _ bool) {
		r.State, r.Text = Sent, "dropped by hand"
		dropped = append(dropped, *r)
	}, Waiting, Held, Unknown)
	if err == nil {
		q.c.Audit.Append(records(e, Entry{Recipients: dropped}, audit.Dropped)...)
	}
	return err
}

// Retry sends what waits now, and what is Unknown again, knowing that it may
// arrive twice. An unknown entry without body can only be sent by the client:
// its repetition is then accepted.
func (q *Queue) Retry(ctx context.Context, id string) error {
	_, err := q.change(ctx, id, again, Waiting, Unknown)
	return err
}

// Release decides now about what is held, and returns who stays held and why.
// It doesn't go around the rules: what they would encrypt goes; with clear, what
// they let go in clear too. ErrNotServing means that it will be looked at later,
// without clear.
func (q *Queue) Release(ctx context.Context, id string, clear bool) (stay []Recipient, err error) {
	q.mu.Lock()
	idle := q.decider == nil
	q.mu.Unlock()
	if !idle {
		return q.decide(ctx, id, clear, false)
	}
	if err := q.dueNow(ctx, `id = ? AND state = 'held'`, id); err != nil {
		return nil, err
	}
	return nil, ErrNotServing
}

func again(r *Recipient, body bool) {
	if body {
		r.State = Waiting
	} else {
		r.State = "" // left out of what was delivered
	}
}

// change sets the recipients of an entry that are in one of the states, and returns
// the entry as it is then.
func (q *Queue) change(ctx context.Context, id string, set func(r *Recipient, body bool), states ...State) (Entry, error) {
	if ok, err := q.own(ctx, id); err != nil {
		return Entry{}, err
	} else if !ok {
		if _, err := q.row(ctx, id); err != nil {
			return Entry{}, err
		}
		return Entry{}, ErrWorking
	}
	defer q.disown(id)
	r, err := q.row(ctx, id)
	if err != nil {
		return Entry{}, err
	}
	e, found := r.Entry, false
	var left []Recipient
	for _, rc := range e.Recipients {
		for _, s := range states {
			if rc.State == s {
				set(&rc, r.body > 0)
				found = true
				break
			}
		}
		if rc.State != "" {
			left = append(left, rc)
		}
	}
	if !found {
		return Entry{}, fmt.Errorf("%w: it is %s", ErrNoEntry, e.State)
	}
	e.Recipients, e.Next = left, q.c.Now()
	e.State = Overall(left)
	if e.State == Waiting && !e.Next.Before(e.Expires) {
		e.Expires = e.Next.Add(q.c.Lifetime) // a person wants it tried
	}
	q.c.Logger.Info("queue changed by hand", "entry", id, "account", e.Account, "was", r.State, "is", e.State)
	return e, q.Settle(ctx, []Change{{Entry: e, Forget: len(left) == 0}})
}

// Hurry has what waits for an account tried now, such as after its first login.
func (q *Queue) Hurry(ctx context.Context, account string) error {
	err := q.dueNow(ctx, `account = ? AND state = 'waiting' AND node = ''`, account)
	if errors.Is(err, ErrNoEntry) {
		return nil
	}
	q.mu.Lock()
	q.hurried = append(q.hurried, account)
	q.mu.Unlock()
	q.Wake()
	return err
}

// dueNow makes entries due; ErrNoEntry if there were none.
func (q *Queue) dueNow(ctx context.Context, where string, arg any) error {
	var n int64
	err := q.update(ctx, func(tx store.Tx) (err error) {
		n, err = tx.Exec(`UPDATE queue_item SET due = ? WHERE `+where, q.c.Now().UnixMicro(), arg)
		return err
	})
	if err == nil && n == 0 {
		err = ErrNoEntry
	}
	return err
}

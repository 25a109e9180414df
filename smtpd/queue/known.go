package queue

import (
	"context"
	"slices"
	"strconv"

	"letterlock.org/letterlock/internal/store"
)

// Earlier returns the entries of the same submission, from an earlier attempt.
func (q *Queue) Earlier(ctx context.Context, key string) (es []Entry, err error) {
	if key == "" {
		return nil, nil
	}
	q.mu.Lock()
	ids := slices.Clone(q.known[short(key)])
	q.mu.Unlock()
	for _, id := range ids {
		some, err := q.entries(ctx, `WHERE id = ? AND submission = ?`, id, key)
		if err != nil {
			return nil, err
		}
		es = append(es, some...)
	}
	return es, nil
}

// short is a key of the known submissions: collisions cost a query.
func short(submission string) uint64 {
	n, _ := strconv.ParseUint(submission[:16], 16, 64)
	return n
}

// note keeps the known submissions as they are in the store.
func (q *Queue) note(changes []Change) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, c := range changes {
		if c.Entry.Submission != "" {
			q.know(c.Entry.ID, c.Entry.Submission, c.Forget)
		}
	}
}

// know notes one entry. Caller holds mu.
func (q *Queue) know(id, submission string, forget bool) {
	k := short(submission)
	at := slices.Index(q.known[k], id)
	switch {
	case forget && at >= 0:
		if q.known[k] = slices.Delete(q.known[k], at, at+1); len(q.known[k]) == 0 {
			delete(q.known, k)
		}
	case !forget && at < 0:
		q.known[k] = append(q.known[k], id)
	}
}

// recover settles what the last process left and counts what is stored.
func (q *Queue) recover(ctx context.Context) error {
	es, err := q.entries(ctx, `WHERE state IN ('prepared', 'sending')`)
	if err != nil {
		return err
	}
	var changes []Change
	for _, e := range es {
		for i, r := range e.Recipients {
			if r.State == Sending {
				e.Recipients[i].State = Unknown
				e.Recipients[i].Text = "letterlock stopped while the mail server was answering"
			}
		}
		c := Change{Entry: e, Forget: e.State == Prepared}
		c.Entry.State = Overall(e.Recipients)
		changes = append(changes, c)
	}
	if len(changes) > 0 {
		if err := q.Settle(ctx, changes); err != nil {
			return err
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.c.Store.View(ctx, func(tx store.Tx) error {
		q.stored = 0
		clear(q.known)
		return tx.Rows(`SELECT id, submission, body FROM queue_entry`, nil, func(scan func(...any) error) error {
			var id, submission string
			var body int64
			if err := scan(&id, &submission, &body); err != nil {
				return err
			}
			q.stored += body
			if submission != "" {
				q.know(id, submission, false)
			}
			return nil
		})
	})
}

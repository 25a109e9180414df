package queue

import (
	"context"
	"fmt"
	"sync"
	"time"

	"letterlock.org/letterlock/internal/store"
)

// Reserve makes sure that n bytes of bodies can be put in later; ErrFull if not.
func (q *Queue) Reserve(n int64) (release func(), err error) {
	if q.c.Free != nil {
		if free, err := q.c.Free(); err == nil && free-n < q.c.MinFree {
			return nil, fmt.Errorf("the disk has %d bytes left: %w", free, ErrFull)
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.stored+q.reserved+n > q.c.MaxBytes {
		return nil, ErrFull
	}
	q.reserved += n
	return sync.OnceFunc(func() {
		q.mu.Lock()
		q.reserved -= n
		q.mu.Unlock()
	}), nil
}

// Count is how many entries there are in one state, and the bytes of their
// bodies.
type Count struct {
	Entries, Bytes int64
	Oldest         time.Time // when the first of them was made; zero of none
}

// Counts counts what is not sent, by state. It reads an index, not the entries.
func (q *Queue) Counts(ctx context.Context) (counts map[State]Count, err error) {
	live := q.underway()
	err = q.c.Store.View(ctx, func(tx store.Tx) error {
		counts = map[State]Count{}
		each := func(scan func(...any) error) error {
			var state string
			var c Count
			var first string
			err := scan(&state, &c.Entries, &c.Bytes, &first)
			c.Oldest = madeAt(first)
			counts[State(state)] = c
			return err
		}
		if err := tx.Rows(`SELECT state, COUNT(*), SUM(body), MIN(id) FROM queue_item
			WHERE state <> 'sent' AND state <> 'sending' GROUP BY state`, nil, each); err != nil {
			return err
		}
		return tx.Rows(`SELECT state, COUNT(*), SUM(body), MIN(id) FROM queue_item
			WHERE node <> '' AND state = 'sending' GROUP BY state`, nil, each)
	})
	if err == nil && len(live) > 0 {
		c := counts[Sending]
		c.Entries += int64(len(live))
		if at := madeAt(live[0].ID); c.Oldest.IsZero() || at.Before(c.Oldest) {
			c.Oldest = at
		}
		counts[Sending] = c
	}
	return counts, err
}

// count finds out how much is stored: at start, and now and then where others
// store too.
func (q *Queue) count(ctx context.Context) error {
	counts, err := q.Counts(ctx)
	if err != nil {
		return err
	}
	var n int64
	for _, c := range counts {
		n += c.Bytes
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.stored = n
	return nil
}

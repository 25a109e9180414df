package queue

import (
	"context"
	"time"

	"letterlock.org/letterlock/internal/store"
)

// write is one journal write; many share one transaction, and so one sync.
type write struct {
	f     func(store.Tx) (int64, error)
	grown int64
	done  chan error
}

// write runs f in a synced transaction, together with others that wait at the
// same time. Whether ctx ends or not, it says what happened.
func (q *Queue) write(ctx context.Context, f func(store.Tx) (int64, error)) error {
	w := &write{f: f, done: make(chan error, 1)}
	q.mu.Lock()
	q.pending = append(q.pending, w)
	lead := !q.leading
	q.leading = true
	q.mu.Unlock()
	if lead {
		q.lead()
	}
	return <-w.done
}

// lead writes what is pending once, and leaves what came meanwhile to another
// goroutine, so that nobody waits for the syncs of others.
func (q *Queue) lead() {
	q.mu.Lock()
	batch := q.pending
	q.pending = nil
	q.mu.Unlock()
	if err := q.run(batch); err != nil && len(batch) > 1 {
		// One bad write must not spoil the others.
		for _, w := range batch {
			w.done <- q.run([]*write{w})
		}
	} else {
		for _, w := range batch {
			w.done <- err
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.pending) == 0 {
		q.leading = false
		return
	}
	go q.lead()
}

// run writes a batch in one transaction.
func (q *Queue) run(batch []*write) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	err := q.c.Store.Update(ctx, func(tx store.Tx) (err error) {
		for _, w := range batch {
			if w.grown, err = w.f(tx); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, w := range batch {
		q.stored += w.grown
	}
	return nil
}

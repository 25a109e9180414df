package queue

import (
	"context"
	"slices"
	"time"

	"letterlock.org/letterlock/internal/store"
)

// write is one journal write; many share one transaction, and so one sync.
type write struct {
	f     func(store.Tx, *page) (int64, error) // page: of the daybook, nil without one
	grown int64
	done  func(error)
	lazy  bool // nobody waits for it
}

// lazyWrites is how long a write that nobody waits for may wait itself.
const lazyWrites = 100 * time.Millisecond

// write runs f in a synced transaction, together with others that wait at the
// same time. Whether ctx ends or not, it says what happened. begins is the entry
// of a session that nobody has to wait for any more; nil for others.
func (q *Queue) write(ctx context.Context, begins *Entry, f func(store.Tx, *page) (int64, error)) error {
	done := make(chan error, 1)
	w := &write{f: f, done: func(err error) { done <- err }}
	q.mu.Lock()
	q.pending = append(q.pending, w)
	q.came(begins)
	lead := !q.leading
	q.leading = true
	q.mu.Unlock()
	if lead {
		q.lead()
	}
	return <-done
}

// writeLater is write for who doesn't wait; done is called with what happened.
func (q *Queue) writeLater(f func(store.Tx, *page) (int64, error), done func(error)) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.pending = append(q.pending, &write{f: f, done: done, lazy: true})
	if !q.leading && q.lazy == nil {
		q.lazy = time.AfterFunc(lazyWrites, q.lazily)
	}
}

// lazily leads what nobody has led meanwhile.
func (q *Queue) lazily() {
	q.mu.Lock()
	q.lazy = nil
	lead := !q.leading && len(q.pending) > 0
	q.leading = q.leading || lead
	q.mu.Unlock()
	if lead {
		q.lead()
	}
}

// lead writes what is pending once, and leaves what came meanwhile to another
// goroutine, so that nobody waits for the syncs of others.
func (q *Queue) lead() {
	q.gather()
	q.mu.Lock()
	batch := q.pending
	q.pending = nil
	q.mu.Unlock()
	if err := q.run(batch); err != nil && len(batch) > 1 {
		// One bad write must not spoil the others.
		for _, w := range batch {
			w.done(q.run([]*write{w}))
		}
	} else {
		for _, w := range batch {
			w.done(err)
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.leading = slices.ContainsFunc(q.pending, func(w *write) bool { return !w.lazy }); q.leading {
		go q.lead()
	} else if len(q.pending) > 0 && q.lazy == nil {
		q.lazy = time.AfterFunc(lazyWrites, q.lazily)
	}
}

// run writes a batch in one transaction.
func (q *Queue) run(batch []*write) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var p *page
	whole := false
	err := q.update(ctx, func(tx store.Tx) (err error) {
		whole = false
		if q.book != nil {
			if p, err = q.newPage(tx); err != nil {
				return err
			}
		}
		for _, w := range batch {
			if w.grown, err = w.f(tx, p); err != nil {
				return err
			}
		}
		if p != nil {
			err = q.putPage(tx, p)
		}
		whole = err == nil
		return err
	})
	if err != nil {
		if whole && q.book != nil { // the commit failed: who knows
			q.book.stale = true
		}
		return err
	}
	if p != nil {
		q.turn(p)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, w := range batch {
		q.stored += w.grown
	}
	return nil
}

package queue

import (
	"context"
	"time"

	"letterlock.org/letterlock/internal/store"
)

// write is one journal write; many share one transaction, and so one sync.
type write struct {
	f     func(store.Tx, *page) (int64, error) // page: of the daybook, nil without one
	grown int64
	done  func(error)
	taken bool // it is being written, or was; Queue.mu guards it
}

// lazyWrites is how long a write that nobody waits for may wait itself.
const lazyWrites = 100 * time.Millisecond

// idleWriter is how long the goroutine that writes waits for more; another one
// begins with a small stack, and SQLite wants a large one.
const idleWriter = 5 * time.Second

// write runs f in a synced transaction, together with others that wait at the
// same time. It says what happened, however long that takes: no context ends it, since who
// doesn't know whether it was written can do nothing right.
func (q *Queue) write(f func(store.Tx, *page) (int64, error)) error {
	done := make(chan error, 1)
	q.mu.Lock()
	q.pending = append(q.pending, &write{f: f, done: func(err error) { done <- err }})
	q.urgent()
	q.mu.Unlock()
	return <-done
}

// writeLater is write for who doesn't wait; done is called with what happened.
func (q *Queue) writeLater(f func(store.Tx, *page) (int64, error), done func(error)) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.pending = append(q.pending, &write{f: f, done: done})
	if !q.hurry && q.lazy == nil {
		q.lazy = time.AfterFunc(lazyWrites, q.lazily)
	}
}

// lazily has written what nobody waits for.
func (q *Queue) lazily() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.lazy = nil
	if len(q.pending) > 0 {
		q.urgent()
	}
}

// urgent has somebody write what is pending. The caller holds mu.
func (q *Queue) urgent() {
	q.hurry = true
	if q.writing {
		signal(q.more)
		return
	}
	q.writing = true
	go q.writer()
}

// writer writes what is pending, one batch after another, as long as somebody
// waits: what comes during one sync shares the next.
func (q *Queue) writer() {
	idle := time.NewTimer(idleWriter)
	defer idle.Stop()
	for {
		q.mu.Lock()
		hurry := q.hurry
		q.mu.Unlock()
		if hurry {
			q.gather()
			q.writeBatch()
			continue
		}
		idle.Reset(idleWriter)
		select {
		case <-q.more:
			continue
		case <-q.closing:
		case <-idle.C:
		}
		q.mu.Lock()
		if q.writing = q.hurry; !q.writing {
			q.mu.Unlock()
			return
		}
		q.mu.Unlock()
	}
}

// writeBatch writes what is pending once. Only the writer calls it.
func (q *Queue) writeBatch() {
	q.mu.Lock()
	batch := q.pending
	q.pending, q.hurry = nil, false
	for _, w := range batch {
		w.taken = true
	}
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

package queue

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"letterlock.org/letterlock/internal/store"
)

// Term is a time during which others could not take this node for dead.
type Term int

// lease is when this node has said for the last time that it lives.
type lease struct {
	mu   sync.Mutex // guards what follows
	at   time.Time
	term Term
}

// renewed notes that the lease was renewed by what time it was then.
func (l *lease) renewed(at time.Time, length time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.look(at, length)
	l.at = at
}

// look begins a new term if the lease has run out. A machine that sleeps may stop
// either clock, the wall's or the one that only goes forward.
func (l *lease) look(now time.Time, length time.Duration) {
	if now.Sub(l.at) >= length || now.Round(0).Sub(l.at.Round(0)) >= length {
		l.term++
		l.at = now
	}
}

// Term is the present one, for [Queue.Still].
func (q *Queue) Term() Term {
	q.lease.mu.Lock()
	defer q.lease.mu.Unlock()
	q.lease.look(q.c.Now(), q.c.Lease)
	return q.lease.term
}

// Still makes sure, right before a final dot, that an entry which this node took
// in that term is still its own. If it stood still for longer than its lease,
// another may have settled the entry, and the client repeated its message there:
// ErrLost, and the dot must not be sent, nor after any other error. What can't be
// recognised when it is repeated counts as lost. The store is asked only where
// the term is over.
func (q *Queue) Still(ctx context.Context, e Entry, since Term) error {
	now := q.c.Now()
	if !q.c.Shared || q.Term() == since {
		return nil
	}
	if e.Submission == "" && !e.Queued && !e.Report {
		return fmt.Errorf("entry %s: %w", e.ID, ErrLost)
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	err := q.update(ctx, func(tx store.Tx) error {
		var node string
		err := tx.Row(`SELECT node FROM queue_item WHERE id = ? FOR UPDATE`, []any{e.ID}, &node)
		if errors.Is(err, store.ErrNoRow) || err == nil && node != q.c.Node {
			return fmt.Errorf("entry %s: %w", e.ID, ErrLost)
		}
		if err != nil {
			return err
		}
		return q.renewIn(tx, now)
	})
	if err == nil {
		q.lease.renewed(now, q.c.Lease)
	}
	return err
}

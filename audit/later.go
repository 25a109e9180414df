package audit

import (
	"context"
	"errors"
	"time"

	"letterlock.org/letterlock/internal/store"
)

// Bounds on one write: rows in a transaction, and its time.
const (
	maxBatch  = 500
	writeTime = 30 * time.Second
)

// Append implements Log.
func (b *Book) Append(rs ...Record) {
	rows, err := b.rows(rs)
	b.mu.Lock()
	defer b.mu.Unlock()
	room := max(b.c.Buffer-len(b.pending), 0)
	if err != nil || b.closed {
		room = 0
	}
	if n := len(rs) - room; n > 0 {
		b.lose(n)
		rows = rows[:min(len(rows), room)]
	}
	b.pending = append(b.pending, rows...)
	b.schedule(b.c.Delay)
}

// schedule has what is pending written. Caller holds mu.
func (b *Book) schedule(after time.Duration) {
	if b.timer == nil && !b.writing && len(b.pending) > 0 {
		b.timer = time.AfterFunc(after, b.flush)
	}
}

// lose counts records that are gone. Caller holds mu.
func (b *Book) lose(n int) {
	if b.lost == 0 {
		b.c.Logger.Error("audit records are lost: the store doesn't take them")
	}
	b.lost += int64(n)
}

// flush writes what is pending, batch by batch, until nothing is or a write fails.
func (b *Book) flush() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.timer = nil
	if b.writing {
		return
	}
	b.writing = true
	var err error
	for err == nil && len(b.pending) > 0 {
		batch := b.pending[:min(len(b.pending), maxBatch)]
		b.mu.Unlock()
		err = b.writeBatch(batch)
		b.mu.Lock()
		if err == nil {
			b.pending = b.pending[len(batch):]
		}
	}
	b.writing = false
	b.idle.Broadcast()
	if err != nil && !b.failing {
		b.c.Logger.Error("audit records wait: the store doesn't take them", "err", err)
	}
	b.failing = err != nil
	if err == nil {
		b.pending = nil // the memory of a rush
	} else if !b.closed {
		b.schedule(max(b.c.Delay, time.Second))
	}
}

func (b *Book) writeBatch(batch []row) error {
	ctx, cancel := context.WithTimeout(context.Background(), writeTime)
	defer cancel()
	return b.write(ctx, batch)
}

// Flush returns when everything that was appended before is written, or the
// store has failed to.
func (b *Book) Flush() error {
	b.mu.Lock()
	for b.writing {
		b.idle.Wait()
	}
	b.mu.Unlock()
	b.flush()
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.writing {
		b.idle.Wait()
	}
	if b.failing {
		return errors.New("the store doesn't take audit records")
	}
	return nil
}

// Close writes what is pending. What is appended after is lost.
func (b *Book) Close() error {
	err := b.Flush()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	if b.timer != nil {
		b.timer.Stop()
		b.timer = nil
	}
	return err
}

// Status is how a Book keeps up.
type Status struct {
	Pending int           // records that are not on disk yet
	Lag     time.Duration // how long the oldest of them has waited
	Lost    int64         // records lost since the start
	Failing bool          // the store didn't take the last ones
}

// refusedFor is how long a required record that could not be written is told of,
// where no other is tried: who sends no mail for that can't find out that it is over.
const refusedFor = time.Minute

// Status tells how the Book keeps up.
func (b *Book) Status() Status {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := Status{Pending: len(b.pending), Lost: b.lost, Failing: b.failing}
	if !b.refused.IsZero() && b.c.Now().Sub(b.refused) < refusedFor {
		s.Failing = true
	}
	if s.Pending > 0 {
		s.Lag = b.c.Now().Sub(b.pending[0].at)
	}
	return s
}

// Run prunes every hour until ctx ends.
func (b *Book) Run(ctx context.Context) {
	for {
		if _, err := b.Prune(ctx); err != nil && ctx.Err() == nil {
			b.c.Logger.Error("old audit records were not removed", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Hour):
		}
	}
}

// Prune removes what is older than Config.Keep, in pieces that don't keep others
// from writing, and returns how many records those were.
func (b *Book) Prune(ctx context.Context) (removed int64, err error) {
	if b.c.Keep <= 0 {
		return 0, nil
	}
	before := rowTime(b.c.Now().Add(-b.c.Keep))
	for {
		var n int64
		err := b.c.Store.Update(ctx, func(tx store.Tx) (err error) {
			n, err = tx.Exec(`DELETE FROM audit_record WHERE id IN (SELECT id FROM audit_record WHERE id < ? ORDER BY id LIMIT 1000)`, before)
			return err
		})
		removed += n
		if err != nil || n == 0 {
			return removed, err
		}
	}
}

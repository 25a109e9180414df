package store

import (
	"context"
	"errors"
	"fmt"
)

// maxBatch bounds how many functions share a commit.
const maxBatch = 128

// batch is an open transaction that several callers of Update share. Each runs
// its function in its own goroutine, while it holds mu, and within a savepoint if
// others' work is there already; who leaves and sees nobody waiting commits for
// all. So one sync serves everyone who came during the sync before.
type batch struct {
	n    int           // functions that succeeded
	done chan struct{} // closed once what follows is settled
	err  error
	// again means that the transaction was lost through no fault of most: each
	// is to run alone.
	again bool
}

// Update implements Store.
func (s *sqlite) Update(ctx context.Context, f func(Tx) error) error {
	b, err := s.join(ctx, f)
	if err != nil {
		return err
	}
	<-b.done
	if b.again {
		return s.alone(ctx, f)
	}
	return b.err
}

// join runs f within the shared transaction and gives the batch to wait for.
func (s *sqlite) join(ctx context.Context, f func(Tx) error) (*batch, error) {
	s.waiting.Add(1)
	s.mu.Lock()
	s.waiting.Add(-1)
	defer s.leave()
	if s.closed {
		return nil, ErrClosed
	}
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	if s.batch == nil {
		if err := s.writer.control("BEGIN IMMEDIATE"); err != nil {
			return nil, fmt.Errorf("beginning to write the store: %w", err)
		}
		s.batch = &batch{done: make(chan struct{})}
	}
	b := s.batch
	if err := s.run(ctx, f); err != nil {
		return nil, err
	}
	b.n++
	return b, nil
}

// leave commits unless somebody follows who will.
func (s *sqlite) leave() {
	if s.batch != nil && (s.waiting.Load() == 0 || s.batch.n >= maxBatch) {
		s.commit()
	}
	s.mu.Unlock()
}

// run runs f within the open batch. Where f fails, panics or ends its goroutine,
// only what f did is undone. Caller holds mu.
func (s *sqlite) run(ctx context.Context, f func(Tx) error) (err error) {
	first := s.batch.n == 0 // all that is to be undone is f's
	if !first {
		if err := s.writer.control("SAVEPOINT update_call"); err != nil {
			return fmt.Errorf("beginning to write the store: %w", err)
		}
	}
	tx := &tx{c: s.writer, ctx: ctx, write: true}
	ok := false
	defer func() {
		tx.done = true
		switch {
		case !s.writer.inTransaction():
			// Some errors (disk full, I/O) make SQLite roll back everything.
			s.settle(nil, true)
			if err == nil {
				err = errors.New("the store's transaction was ended from within")
			}
		case first && ok:
		case first:
			s.writer.rollback()
			s.settle(nil, false)
		case ok:
			if rerr := s.writer.control("RELEASE update_call"); rerr != nil {
				err = fmt.Errorf("writing the store: %w", rerr)
				s.writer.rollback()
				s.settle(nil, true)
			}
		default:
			if s.writer.exec("ROLLBACK TO update_call; RELEASE update_call") != nil {
				s.writer.rollback()
				s.settle(nil, true)
			}
		}
	}()
	if err := f(tx); err != nil {
		return err
	}
	ok = true
	return nil
}

// commit ends the open batch. Caller holds mu.
func (s *sqlite) commit() {
	err := s.writer.control("COMMIT")
	if err == nil {
		s.settle(nil, false)
		return
	}
	s.writer.rollback()
	s.settle(fmt.Errorf("committing to the store: %w", s.ofDisk(err)), s.batch.n > 1)
}

// settle tells everyone in the open batch what became of it. Caller holds mu.
func (s *sqlite) settle(err error, again bool) {
	if b := s.batch; b != nil {
		b.err, b.again = err, again
		s.batch = nil
		close(b.done)
	}
}

// alone runs f in a transaction of its own.
func (s *sqlite) alone(ctx context.Context, f func(Tx) error) error {
	s.waiting.Add(1)
	s.mu.Lock()
	s.waiting.Add(-1)
	defer s.leave()
	if s.batch != nil {
		s.commit()
	}
	if s.closed {
		return ErrClosed
	}
	if err := s.usable(ctx); err != nil {
		return err
	}
	if err := s.writer.control("BEGIN IMMEDIATE"); err != nil {
		return fmt.Errorf("beginning to write the store: %w", err)
	}
	own := &batch{done: make(chan struct{})}
	s.batch = own
	if err := s.run(ctx, f); err != nil {
		return err // the rest of the batch is empty; leave ends it
	}
	own.n++
	s.commit()
	return own.err
}

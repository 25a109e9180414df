package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// commits numbers this process's commits. Each leaves a row in store_commit with
// what it commits, so that its outcome can be looked up when the server's answer
// was lost. (pg_xact_status doesn't do: a server that crashed may give the
// number of a transaction that was not committed to another.)
type commits struct {
	node int64 // this process, by chance

	mu      sync.Mutex // guards the rest
	last    int64
	pending map[int64]bool // whose answer is awaited
}

// sweepEvery is after how many commits the rows of settled ones are deleted.
const sweepEvery = 2000

func (c *commits) next() (n int64, sweep bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pending == nil {
		c.pending = map[int64]bool{}
	}
	c.last++
	c.pending[c.last] = true
	return c.last, c.last%sweepEvery == 0
}

func (c *commits) settled(n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.pending, n)
}

// oldest is the first whose row is still needed.
func (c *commits) oldest() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.last + 1
	for p := range c.pending {
		n = min(n, p)
	}
	return n
}

// sweep deletes rows that nobody needs any more; an error leaves them to the next.
func (s *postgres) sweep() {
	if s.enter(background) != nil {
		return
	}
	defer s.work.Done()
	ctx, cancel := context.WithTimeout(background, pgTime)
	defer cancel()
	t, err := s.begin(ctx, "BEGIN ISOLATION LEVEL READ COMMITTED")
	if err != nil {
		return
	}
	defer t.end()
	if _, err := t.c.query(ctx, "DELETE FROM store_commit WHERE node = $1::bigint AND n < $2::bigint OR at < now() - interval '1 day'",
		fmt.Sprint(s.commits.node), fmt.Sprint(s.commits.oldest())); err == nil {
		t.c.exec(ctx, "COMMIT")
	}
}

// commit commits, or finds out what became of it.
func (t *pgTx) commit() error {
	if err := t.drain(); err != nil {
		return err
	}
	if t.c.TxStatus() != 'T' {
		return errors.New("the store's transaction was ended from within")
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.ctx), pgTime)
	defer cancel()
	if !t.wrote {
		_, err := t.c.exec(ctx, "COMMIT")
		return err
	}
	n, sweep := t.s.commits.next()
	defer t.s.commits.settled(n)
	_, err := t.c.exec(ctx, fmt.Sprintf("INSERT INTO store_commit (node, n) VALUES (%d, %d); COMMIT", t.s.commits.node, n))
	if err == nil {
		if sweep {
			go t.s.sweep()
		}
		return nil
	}
	var e *pgError
	if errors.As(err, &e) && !e.fatal {
		return fmt.Errorf("committing to the store: %w", err)
	}
	t.c.bad = true
	backend := t.c.backend
	t.end()
	return t.s.settle(backend, n, err)
}

// settleTime bounds the search for the outcome of a commit.
const settleTime = 60 * time.Second

// settle finds out whether a commit was made whose answer was lost. First the
// process that served it must be gone, or it might commit yet.
func (s *postgres) settle(backend string, n int64, cause error) error {
	ctx, cancel := context.WithTimeout(background, settleTime)
	defer cancel()
	for {
		gone, made, err := s.outcome(ctx, backend, n)
		switch {
		case err == nil && gone && made:
			return nil
		case err == nil && gone:
			return fmt.Errorf("committing to the store: not done: %w", cause)
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("committing to the store: %w: %w", ErrUnsettled, cause)
		}
	}
}

// outcome ends the server process of a lost connection and tells whether it is
// gone, and whether it had made the commit.
func (s *postgres) outcome(ctx context.Context, backend string, n int64) (gone, made bool, err error) {
	t, err := s.begin(ctx, "BEGIN ISOLATION LEVEL READ COMMITTED")
	if err != nil {
		return false, false, err
	}
	defer t.end()
	rows, err := t.c.query(ctx, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE "+backendName+" = $1", backend)
	if err != nil || len(rows) > 0 {
		return false, false, err
	}
	rows, err = t.c.query(ctx, "SELECT 1 FROM store_commit WHERE node = $1::bigint AND n = $2::bigint", fmt.Sprint(s.commits.node), fmt.Sprint(n))
	return true, len(rows) > 0, err
}

// backendName tells a server process from all others, before and after.
const backendName = "pid || ' ' || extract(epoch from backend_start)"

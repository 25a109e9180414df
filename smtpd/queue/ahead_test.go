package queue_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/smtpd/queue"
)

// leavingHeld is a sender and a decider that leaves all held.
type leavingHeld struct {
	*world
	decided atomic.Int32
}

func (c *leavingHeld) Decide(_ context.Context, e queue.Entry, _ message.Source, _ bool) (queue.Verdict, error) {
	c.decided.Add(1)
	return queue.Verdict{Stay: e.Recipients}, nil
}

// TestWhatAClockAheadPutOffIsNotForgotten: a machine that begins with a wrong date
// puts off for an hour, years ahead; when it has the right date, that is now.
func TestWhatAClockAheadPutOffIsNotForgotten(t *testing.T) {
	w := newWorld(t, queue.Config{})
	w.stop()
	c := &leavingHeld{world: w}
	run := func() (stop func()) {
		q, err := queue.New(queue.Config{Store: w.st, Now: w.time})
		if err != nil {
			t.Fatal(err)
		}
		w.q = q
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { q.Run(ctx, c); close(done) }()
		return func() { cancel(); <-done; q.Close() }
	}
	const years = 4 * 365 * 24 * time.Hour
	w.now = w.now.Add(years)
	w.answer = func(e queue.Entry, _ []byte, _ queue.Attempt) ([]queue.Recipient, error) {
		return nil, fmt.Errorf("no network yet: %w", queue.ErrUpstream)
	}
	stop := run()
	letter, held := w.put(queue.Waiting, "text", "bob@x"), w.put(queue.Held, "text to come", "dan@x")
	put := func(e queue.Entry, s queue.State) bool {
		got, err := w.q.Show(t.Context(), e.ID)
		return err == nil && got.State == s && got.Next.After(w.time().Add(10*time.Second))
	}
	w.until("tried and put off", func() bool { return w.attempts() == 1 && put(letter, queue.Waiting) && put(held, queue.Held) })
	stop()
	decided := c.decided.Load()

	w.now, w.answer = w.now.Add(-years), nil
	stop = run()
	defer func() { stop() }()
	w.until("sent", func() bool {
		got, err := w.q.Show(t.Context(), letter.ID)
		return err == nil && got.State == queue.Sent
	})
	w.until("decided again", func() bool { return c.decided.Load() > decided })
}

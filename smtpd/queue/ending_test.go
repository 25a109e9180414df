package queue_test

import (
	"context"
	"errors"
	"testing"

	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/smtpd/queue"
)

// ending is a sender that is given up right before its final dot.
type ending struct{ begun chan bool }

func (s *ending) Send(ctx context.Context, e queue.Entry, _ message.Source, attempt queue.Attempt) ([]queue.Recipient, error) {
	err := attempt(ctx, []string{e.Recipients[0].Key})
	s.begun <- true
	<-ctx.Done()
	return nil, errors.Join(err, errors.New("another node may have it"))
}

// TestAnEndBeforeTheFinalDot: what was surely not sent is not told of as unknown after
// the next start.
func TestAnEndBeforeTheFinalDot(t *testing.T) {
	w := newWorld(t, queue.Config{})
	w.stop()
	c := queue.Config{Store: w.st, Now: w.time}
	q, err := queue.New(c)
	if err != nil {
		t.Fatal(err)
	}
	w.q = q
	w.put(queue.Waiting, "text", "bob@x")
	ctx, cancel := context.WithCancel(t.Context())
	s, done := &ending{make(chan bool, 1)}, make(chan struct{})
	go func() { q.Run(ctx, s); close(done) }()
	<-s.begun
	cancel()
	<-done
	q.Close()
	if w.q, err = queue.New(c); err != nil {
		t.Fatal(err)
	}
	defer w.q.Close()
	if got := w.list(); got != "waiting bob@x=waiting" {
		t.Errorf("the next process finds %q", got)
	}
}

package queue_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/smtpd/queue"
)

// learning is a sender that decides about held mail: a certificate becomes known
// while the first decision is under way, which didn't see it.
type learning struct {
	*world
	decided atomic.Int32
}

func (l *learning) Decide(ctx context.Context, e queue.Entry, _ message.Source, _ bool) (queue.Verdict, error) {
	if l.decided.Add(1) == 1 {
		l.mu.Lock()
		l.now = l.now.Add(time.Second)
		l.mu.Unlock()
		if err := l.q.Learned(ctx, "bob@x"); err != nil {
			l.t.Error(err)
		}
	}
	return queue.Verdict{Stay: e.Recipients}, nil
}

func TestWhatIsLearntWhileItIsDecidedIsDecidedAgain(t *testing.T) {
	w := newWorld(t, queue.Config{})
	w.stop()
	q, err := queue.New(queue.Config{Store: w.st, Now: w.time})
	if err != nil {
		t.Fatal(err)
	}
	w.q = q
	w.put(queue.Held, "text", "bob@x")
	l := &learning{world: w}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { q.Run(ctx, l); close(done) }()
	t.Cleanup(func() { cancel(); <-done; q.Close() })
	w.until("decided a second time, and not an hour later", func() bool {
		w.q.Wake()
		return l.decided.Load() >= 2
	})
}

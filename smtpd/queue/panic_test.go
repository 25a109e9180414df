package queue_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/smtpd/queue"
)

// TestASenderThatPanics: what was surely not sent is tried again, and of what may
// have been, that is said. Others go.
func TestASenderThatPanics(t *testing.T) {
	for _, tt := range []struct {
		name  string
		begun bool
		want  queue.State
	}{
		{"before the final dot", false, queue.Waiting},
		{"behind it", true, queue.Unknown},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, queue.Config{})
			w.mu.Lock()
			w.answer = func(e queue.Entry, _ []byte, attempt queue.Attempt) ([]queue.Recipient, error) {
				if !strings.HasPrefix(e.Recipients[0].Key, "bob") {
					return all(e, queue.Sent), nil
				}
				if tt.begun {
					if err := attempt(context.Background(), []string{e.Recipients[0].Key}); err != nil {
						return nil, err
					}
				}
				panic("hostile bytes")
			}
			w.mu.Unlock()
			poison, other := w.put(queue.Waiting, "text", "bob@x"), w.put(queue.Waiting, "text", "carol@y")
			state := func(e queue.Entry) queue.State {
				got, err := w.q.Show(t.Context(), e.ID)
				if err != nil {
					t.Fatal(err)
				}
				if got.Recipients[0].State != got.State || e.ID == poison.ID && got.Attempts == 0 {
					return ""
				}
				return got.State
			}
			w.until("both were tried", func() bool { return state(poison) == tt.want && state(other) == queue.Sent })
		})
	}
}

// deciding is a sender that can decide nothing.
type deciding struct {
	*world
	n atomic.Int32
}

func (d *deciding) Decide(context.Context, queue.Entry, message.Source, bool) (queue.Verdict, error) {
	d.n.Add(1)
	panic("hostile bytes")
}

// TestADecisionThatPanics leaves what it was about held.
func TestADecisionThatPanics(t *testing.T) {
	w := newWorld(t, queue.Config{})
	w.stop()
	q, err := queue.New(queue.Config{Store: w.st, Now: w.time})
	if err != nil {
		t.Fatal(err)
	}
	w.q = q
	e := w.put(queue.Held, "text", "bob@x")
	d := &deciding{world: w}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { q.Run(ctx, d); close(done) }()
	t.Cleanup(func() { cancel(); <-done; q.Close() })
	w.until("decided, in vain", func() bool {
		got, err := q.Show(t.Context(), e.ID)
		return err == nil && d.n.Load() > 0 && got.State == queue.Held && strings.Contains(got.LastError, "panic with a string")
	})
}

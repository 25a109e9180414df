package queue_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/smtpd/queue"
)

// deaf takes reports, and loses its answers.
type deaf struct {
	t     *testing.T
	hang  bool // it never answers
	tries atomic.Int64
	sent  atomic.Int64 // tries whose answers are lost before one is heard
}

func (d *deaf) Send(ctx context.Context, e queue.Entry, _ message.Source, attempt queue.Attempt) ([]queue.Recipient, error) {
	if !e.Report {
		return all(e, queue.Failed), nil
	}
	if err := attempt(context.Background(), []string{e.Recipients[0].Key}); err != nil {
		return nil, err
	}
	n := d.tries.Add(1)
	if d.hang {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if n <= d.sent.Load() {
		return all(e, queue.Unknown), nil
	}
	return all(e, queue.Sent), nil
}

// TestAReportWhoseAnswerIsLostGoesAgain: it is all that the sender hears. But not
// for ever.
func TestAReportWhoseAnswerIsLostGoesAgain(t *testing.T) {
	for _, tt := range []struct {
		name        string
		lost, tries int64
	}{{"once", 1, 2}, {"always", 100, 3}} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, queue.Config{})
			w.stop()
			d := &deaf{t: t}
			d.sent.Store(tt.lost)
			w.run(d)
			w.put(queue.Waiting, "text", "bob@x")
			// The clock must not pass before the letter was tried: its delay would be
			// reported too.
			w.until("given up", func() bool { return strings.Contains(w.list(), "failed bob@x=failed") })
			w.until("reported", func() bool { w.pass(); return d.tries.Load() >= tt.tries })
			w.until("its answer is written down", func() bool {
				return !strings.Contains(w.list(), "report waiting") && !strings.Contains(w.list(), "sending")
			})
			for range 20 {
				w.advance(time.Hour)
				time.Sleep(time.Millisecond)
			}
			if n := d.tries.Load(); n != tt.tries {
				t.Errorf("sent %d times, want %d", n, tt.tries)
			}
		})
	}
}

// TestAReportGoesAgainAfterACrash: the same where the process died before it
// heard the answer.
func TestAReportGoesAgainAfterACrash(t *testing.T) {
	st, err := store.OpenMemory(queue.Schema)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	first := &world{t: t, st: &cut{Store: st}, now: time.Unix(1_800_000_000, 0), bodies: map[string][]byte{}}
	first.open(queue.Config{Store: first.st, Now: first.time})
	first.stop()
	d := &deaf{t: t, hang: true}
	first.run(d)
	first.put(queue.Waiting, "text", "bob@x")
	first.until("on its way", func() bool { return d.tries.Load() == 1 })
	first.st.(*cut).cut()
	first.stop()
	next := &world{t: t, st: st, now: first.time(), bodies: map[string][]byte{}}
	next.open(queue.Config{Store: st, Now: next.time})
	next.until("the report went again", func() bool { return next.attempts() == 1 && next.sent[0].Report })
}

// run starts the queue with a sender of its own.
func (w *world) run(s queue.Sender) {
	q, err := queue.New(queue.Config{Store: w.st, Now: w.time})
	if err != nil {
		w.t.Fatal(err)
	}
	w.q = q
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { q.Run(ctx, s); close(done) }()
	w.stop = func() { cancel(); <-done }
	w.t.Cleanup(w.stop)
}

package queue_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/smtpd/queue"
)

// reviewing is a sender that is asked about copies in clear.
type reviewing struct {
	*world
	review func(e queue.Entry, body string) (queue.Review, error)
	asked  atomic.Int32
}

func (r *reviewing) Review(_ context.Context, e queue.Entry, body message.Source) (queue.Review, error) {
	r.asked.Add(1)
	b, err := message.ReadAll(body, 1<<20)
	if err != nil {
		r.t.Error(err)
	}
	return r.review(e, string(b))
}

// newReviewing is a queue with one copy in clear that waits for bob and carol, and a
// sealed one of the same for dave.
func newReviewing(t *testing.T, st func(store.Store) store.Store, review func(e queue.Entry, body string) (queue.Review, error)) (*reviewing, queue.Entry) {
	t.Helper()
	w := newWorld(t, queue.Config{})
	w.stop()
	r := &reviewing{world: w, review: review}
	if st != nil {
		w.st = st(w.st)
	}
	w.run(r)
	e := queue.Entry{ID: queue.NewID(), Account: "alice@example.org", From: "alice@example.org", MessageID: "<1@x>", State: queue.Waiting, Clear: true,
		Created: w.time(), Next: w.time(), Expires: w.time().Add(1_000_000 * time.Hour), Size: 4,
		Recipients: []queue.Recipient{{Address: "bob@x", Key: "bob@x", State: queue.Waiting}, {Address: "carol@x", Key: "carol@x", State: queue.Waiting}}}
	sealed := e
	sealed.ID, sealed.Clear = queue.NewID(), false
	sealed.Recipients = []queue.Recipient{{Address: "dave@x", Key: "dave@x", State: queue.Waiting}}
	text := message.Bytes([]byte("text"))
	if err := w.q.Settle([]queue.Change{{Entry: e, Body: text}, {Entry: sealed, Body: text}}); err != nil {
		t.Fatal(err)
	}
	return r, e
}

// inPlaceOf is a sealed entry for some of those of e.
func inPlaceOf(e queue.Entry, state queue.State, who ...queue.Recipient) queue.Change {
	next := e
	next.ID, next.Clear, next.State, next.Size, next.Recipients = queue.NewID(), false, state, 6, nil
	for _, r := range who {
		r.State = state
		next.Recipients = append(next.Recipients, r)
	}
	return queue.Change{Entry: next, Body: message.Bytes([]byte("sealed"))}
}

// got says who was sent what, in the order of their names.
func (r *reviewing) got(who string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for _, e := range r.sent {
		for _, rc := range e.Recipients {
			if rc.Key == who && rc.State == queue.Waiting && !e.Report {
				out = append(out, string(r.bodies[e.ID]))
			}
		}
	}
	return strings.Join(out, " ")
}

func TestACopyInClearIsAskedAboutAtEachAttempt(t *testing.T) {
	bob := func(e queue.Entry) queue.Recipient { return e.Recipients[0] }
	for _, tt := range []struct {
		name       string
		review     func(e queue.Entry) queue.Review // at the first attempt
		bob, carol string                           // what they get
		list       string                           // in the end
	}{
		{"it may go", func(queue.Entry) queue.Review { return queue.Review{} }, "text", "text", ""},
		{"one is sealed", func(e queue.Entry) queue.Review {
			return queue.Review{Go: []queue.Change{inPlaceOf(e, queue.Waiting, bob(e))}}
		}, "sealed", "text", ""},
		{"all are sealed", func(e queue.Entry) queue.Review {
			return queue.Review{Go: []queue.Change{inPlaceOf(e, queue.Waiting, e.Recipients...)}}
		}, "sealed", "sealed", ""},
		{"one is refused", func(e queue.Entry) queue.Review {
			r := bob(e)
			r.State, r.Code, r.Status, r.Text = queue.Failed, 550, "5.7.1", "no"
			return queue.Review{Refused: []queue.Recipient{r}}
		}, "", "text", "failed bob@x=failed carol@x=sent"},
		{"one is held", func(e queue.Entry) queue.Review {
			return queue.Review{Go: []queue.Change{inPlaceOf(e, queue.Held, bob(e))}}
		}, "", "text", "held bob@x=held"},
		{"all wait", func(e queue.Entry) queue.Review {
			rs := append([]queue.Recipient(nil), e.Recipients...)
			rs[0].Text = "nobody knows"
			return queue.Review{Later: rs}
		}, "text", "text", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var once atomic.Bool
			r, e := newReviewing(t, nil, func(e queue.Entry, body string) (queue.Review, error) {
				if body != "text" {
					t.Errorf("asked about %q", body)
				}
				if once.Swap(true) {
					return queue.Review{}, nil
				}
				return tt.review(e), nil
			})
			r.until("the first was asked about", func() bool { return once.Load() })
			r.until("it is settled", func() bool {
				r.advance(time.Hour)
				return r.got("bob@x") == tt.bob && r.got("carol@x") == tt.carol && r.got("dave@x") == "text" && strings.Contains(r.list(), tt.list)
			})
			if strings.Contains(tt.list, "failed") {
				r.until("the sender is told", func() bool {
					r.mu.Lock()
					defer r.mu.Unlock()
					for _, s := range r.sent {
						if s.Report && strings.Contains(string(r.bodies[s.ID]), "550 5.7.1 no") {
							return true
						}
					}
					return false
				})
			}
			if _, err := r.q.Show(t.Context(), e.ID); (err != nil) != (tt.name == "all are sealed") {
				t.Errorf("the entry: %v", err)
			}
		})
	}
}

// TestNothingGoesWhileTheRulesCantBeAsked, neither where they fail nor where they
// panic; and it goes when they can be.
func TestNothingGoesWhileTheRulesCantBeAsked(t *testing.T) {
	for _, panics := range []bool{false, true} {
		var well atomic.Bool
		r, e := newReviewing(t, nil, func(queue.Entry, string) (queue.Review, error) {
			switch {
			case well.Load():
				return queue.Review{}, nil
			case panics:
				panic("hostile bytes")
			}
			return queue.Review{}, errors.New("down")
		})
		r.until("it was tried", func() bool {
			got, err := r.q.Show(t.Context(), e.ID)
			return err == nil && got.Attempts > 0 && got.State == queue.Waiting && got.LastError != ""
		})
		if r.got("bob@x") != "" {
			t.Error("it went")
		}
		well.Store(true)
		r.until("it goes", func() bool { r.advance(time.Hour); return r.got("bob@x") == "text" })
	}
}

// unsettling is a store that takes no writes of some kind for a while; how says whether
// they are done all the same.
type unsettling struct {
	store.Store
	mu    sync.Mutex
	times int
	done  bool
}

func (r *unsettling) Update(ctx context.Context, f func(store.Tx) error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.times == 0 {
		return r.Store.Update(ctx, f)
	}
	r.times--
	if r.done {
		if err := r.Store.Update(ctx, f); err != nil {
			return err
		}
	}
	return store.ErrUnsettled
}

// TestAJournalThatDoesNotTakeWhatTheRulesSay: whether or not it did, bob has one copy,
// the sealed one.
func TestAJournalThatDoesNotTakeWhatTheRulesSay(t *testing.T) {
	for _, done := range []bool{false, true} {
		var st *unsettling
		wrap := func(s store.Store) store.Store { st = &unsettling{Store: s, done: done}; return st }
		var once atomic.Bool
		r, _ := newReviewing(t, wrap, func(e queue.Entry, _ string) (queue.Review, error) {
			if !once.Swap(true) {
				st.mu.Lock()
				st.times = 1
				st.mu.Unlock()
			}
			for _, r := range e.Recipients {
				if r.Key == "bob@x" {
					return queue.Review{Go: []queue.Change{inPlaceOf(e, queue.Waiting, r)}}, nil
				}
			}
			return queue.Review{}, nil
		})
		r.until("all have it", func() bool {
			r.advance(time.Hour)
			return r.got("bob@x") != "" && r.got("carol@x") != "" && r.got("dave@x") != ""
		})
		for range 5 {
			r.advance(time.Hour)
			time.Sleep(time.Millisecond)
		}
		if r.got("bob@x") != "sealed" || r.got("carol@x") != "text" {
			t.Errorf("done %v: bob has %q, carol %q", done, r.got("bob@x"), r.got("carol@x"))
		}
	}
}

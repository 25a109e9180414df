package queue_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/smtpd/queue"
)

// unsettled is a shared store that loses the answer to one claim.
type unsettled struct {
	store.Store
	lose atomic.Bool
}

func (*unsettled) Shared() bool { return true }

func (u *unsettled) Update(ctx context.Context, f func(store.Tx) error) error {
	s := &spy{Store: u.Store, shared: true, asked: map[string][]any{}}
	if err := s.Update(ctx, f); err != nil {
		return err
	}
	for query := range s.asked {
		if strings.Contains(query, "SKIP LOCKED") && u.lose.CompareAndSwap(true, false) {
			return store.ErrUnsettled
		}
	}
	return nil
}

// TestAClaimWhoseAnswerIsLostIsGivenBack: else nobody would ever send what the
// node has claimed without knowing it, as long as it lives.
func TestAClaimWhoseAnswerIsLostIsGivenBack(t *testing.T) {
	st, err := store.OpenMemory(queue.Schema)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	u := &unsettled{Store: st}
	u.lose.Store(true)
	w := &world{t: t, st: u, now: time.Unix(1_800_000_000, 0), bodies: map[string][]byte{}}
	w.open(queue.Config{Store: u, Now: w.time})
	e := w.put(queue.Waiting, "text", "bob@x")
	w.until("claimed", func() bool { return !u.lose.Load() })
	w.until("sent", func() bool {
		w.advance(2 * time.Minute) // slowly, so that it doesn't grow old while a slow machine looks
		time.Sleep(20 * time.Millisecond)
		got, err := w.q.Show(t.Context(), e.ID)
		return err == nil && got.State == queue.Sent
	})
}

// TestChoresAndWorkersLoseNothingBetweenThem has entries become due for the
// sender and for the notice that they are late at the same times.
func TestChoresAndWorkersLoseNothingBetweenThem(t *testing.T) {
	st, err := store.OpenMemory(queue.Schema)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	w := &world{t: t, st: &spy{Store: st, shared: true, asked: map[string][]any{}}, now: time.Unix(1_800_000_000, 0), bodies: map[string][]byte{}}
	var tries atomic.Int64
	w.answer = func(e queue.Entry, _ []byte, attempt queue.Attempt) ([]queue.Recipient, error) {
		if tries.Add(1) < 60 {
			return all(e, queue.Waiting), nil
		}
		if err := attempt(context.Background(), []string{e.Recipients[0].Key}); err != nil && !errors.Is(err, queue.ErrLost) {
			return nil, err
		}
		return all(e, queue.Sent), nil
	}
	w.open(queue.Config{Store: w.st, Now: w.time})
	for i := range 30 {
		w.put(queue.Waiting, "text", fmt.Sprintf("bob@domain%d", i))
	}
	w.until("all are sent", func() bool { w.pass(); return w.list() == "" })
}

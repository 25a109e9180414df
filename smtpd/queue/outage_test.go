package queue_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/smtpd/queue"
)

// outage is a store that fails to write while it is down.
type outage struct {
	store.Store
	down  atomic.Bool
	tries atomic.Int64
}

func (o *outage) Update(ctx context.Context, f func(store.Tx) error) error {
	if o.down.Load() {
		o.tries.Add(1)
		return errCut
	}
	return o.Store.Update(ctx, f)
}

// TestAnOutageForgetsNothingThatIsKnown: what the upstream has answered is
// written as soon as the store is there again; an entry that stayed on its way as
// long as its node lives would be told of as unknown, or as being worked on.
func TestAnOutageForgetsNothingThatIsKnown(t *testing.T) {
	st, err := store.OpenMemory(queue.Schema)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	o := &outage{Store: st}
	w := &world{t: t, st: o, now: time.Unix(1_800_000_000, 0), bodies: map[string][]byte{}}
	w.open(queue.Config{Store: o, Now: w.time})
	e := w.put(queue.Sending, "", "bob@x")
	other := w.put(queue.Prepared, "", "carol@x")
	o.down.Store(true)
	e.State, e.Recipients[0].State = queue.Sent, queue.Sent
	gone := other
	gone.State = queue.Held
	w.q.SettleLater([]queue.Change{{Entry: e, Bare: true}, {Entry: gone, IfOpen: true, Forget: true}})
	w.until("tried in vain", func() bool { return o.tries.Load() >= 2 })
	if es, err := w.q.Earlier(t.Context(), e.Submission, "bob@x"); err != nil || len(es) != 2 || !slices.ContainsFunc(es, func(o queue.Entry) bool { return o.ID == e.ID && o.State == queue.Sent }) {
		t.Errorf("meanwhile: %+v, %v", es, err)
	}
	if _, err := w.q.Earlier(t.Context(), e.Submission, "carol@x"); !errors.Is(err, queue.ErrBusy) {
		t.Errorf("what isn't forgotten yet: %v", err)
	}
	o.down.Store(false)
	w.until("written", func() bool { return w.list() == "" })
}

// TestIfOpenLeavesWhatHasGoneOn: a change that comes late takes nothing back.
func TestIfOpenLeavesWhatHasGoneOn(t *testing.T) {
	w := newWorld(t, queue.Config{})
	w.stop()
	waits, open := w.put(queue.Waiting, "text", "bob@x"), w.put(queue.Sending, "", "carol@x")
	err := w.q.Settle([]queue.Change{{Entry: waits, IfOpen: true, Forget: true}, {Entry: open, IfOpen: true, Forget: true}})
	if got := w.list(); err != nil || got != "waiting bob@x=waiting" {
		t.Errorf("left %q, %v", got, err)
	}
}

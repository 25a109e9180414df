package queue_test

import (
	"fmt"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/smtpd/queue"
)

// TestNodesHearOfEachOthersBacklog: what one node puts in, another sends at once; the
// clock stands, so that no sweep finds it.
func TestNodesHearOfEachOthersBacklog(t *testing.T) {
	onEachStore(t, func(t *testing.T, open func() store.Store) {
		now := time.Unix(1_800_000_000, 0)
		busy := &world{t: t, st: open(), now: now, bodies: map[string][]byte{}}
		var err error
		if busy.q, err = queue.New(queue.Config{Store: busy.st, Now: busy.time}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { busy.q.Close() })
		idle := &world{t: t, st: open(), now: now, bodies: map[string][]byte{}}
		idle.open(queue.Config{Store: idle.st, Now: idle.time})
		for i := range 4 {
			busy.put(queue.Waiting, "text", fmt.Sprintf("bob@domain%d.example", i))
			idle.until("the other node sends it", func() bool { return idle.attempts() == i+1 })
		}
	})
}

// TestCountsTellTheOldest: how long the first entry of each state is there.
func TestCountsTellTheOldest(t *testing.T) {
	w := newWorld(t, queue.Config{})
	w.answer = func(e queue.Entry, _ []byte, _ queue.Attempt) ([]queue.Recipient, error) {
		return all(e, queue.Waiting), nil
	}
	before := time.Now().Truncate(time.Millisecond)
	w.put(queue.Unknown, "", "first@x")
	between := time.Now()
	time.Sleep(2 * time.Millisecond) // IDs count milliseconds
	w.put(queue.Unknown, "", "second@x")
	counts, err := w.q.Counts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if at := counts[queue.Unknown].Oldest; counts[queue.Unknown].Entries != 2 || at.Before(before) || at.After(between) {
		t.Errorf("%d entries, the oldest of %v, want it between %v and %v", counts[queue.Unknown].Entries, at, before, between)
	}
	if at := counts[queue.Held].Oldest; !at.IsZero() {
		t.Errorf("of none, the oldest is of %v", at)
	}
}

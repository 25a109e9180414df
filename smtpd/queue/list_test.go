package queue_test

import (
	"context"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/smtpd/queue"
)

// meanwhile is a store in which something happens after the first look.
type meanwhile struct {
	store.Store
	then func()
}

func (m *meanwhile) View(ctx context.Context, f func(store.Tx) error) error {
	err := m.Store.View(ctx, f)
	if then := m.then; then != nil {
		m.then = nil
		then()
	}
	return err
}

// TestAListMissesNothingThatMoves: an entry whose attempt begins while the queue
// is listed is still in the list.
func TestAListMissesNothingThatMoves(t *testing.T) {
	st, err := store.OpenMemory(queue.Schema)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	m := &meanwhile{Store: st}
	q, err := queue.New(queue.Config{Store: m})
	if err != nil {
		t.Fatal(err)
	}
	e := queue.Entry{ID: queue.NewID(), Account: "alice@example.org", State: queue.Waiting, Created: time.Now(), Next: time.Now(),
		Recipients: []queue.Recipient{{Address: "bob@x", Key: "bob@x", State: queue.Waiting}}}
	if err := q.Settle(t.Context(), []queue.Change{{Entry: e}}); err != nil {
		t.Fatal(err)
	}
	m.then = func() {
		e.State, e.Recipients[0].State = queue.Sending, queue.Sending
		if err := q.Settle(t.Context(), []queue.Change{{Entry: e}}); err != nil {
			t.Error(err)
		}
	}
	if es, err := q.List(t.Context(), "", 10); err != nil || len(es) != 1 {
		t.Errorf("listed %d entries, %v", len(es), err)
	}
}

package queue_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/smtpd/queue"
)

// meanwhile is a store in which something happens after a look.
type meanwhile struct {
	store.Store
	then func() // once
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
	if err := q.Settle([]queue.Change{{Entry: e}}); err != nil {
		t.Fatal(err)
	}
	m.then = func() {
		e.State, e.Recipients[0].State = queue.Sending, queue.Sending
		if err := q.Settle([]queue.Change{{Entry: e}}); err != nil {
			t.Error(err)
		}
	}
	if es, err := q.List(t.Context(), "", 10); err != nil || len(es) != 1 {
		t.Errorf("listed %d entries, %v", len(es), err)
	}
}

// mixed puts n entries into a queue: every seventh is under way in the daybook, the
// others have rows in all states. It returns their IDs, the oldest first.
func (j *journal) mixed(n int) (es []queue.Entry) {
	j.t.Helper()
	states := []queue.State{queue.Prepared, queue.Waiting, queue.Held, queue.Unknown, queue.Failed, queue.Sending}
	for i := range n {
		e := j.letter(fmt.Sprintf("<%d@example.org>", i))
		e.ID = fmt.Sprintf("%028x", i+1)
		e.Recipients[0].Notify = "NEVER" // nor are there reports in the list
		err := error(nil)
		if i%7 == 3 {
			err = j.begin(e)
		} else {
			e = in(e, states[i%len(states)], "")
			err = j.settle(queue.Change{Entry: e})
		}
		if err != nil {
			j.t.Fatal(err)
		}
		es = append(es, e)
	}
	return es
}

// TestAListIsInTheOrderOfAge, whatever has a row and whatever is in the daybook, in
// all of its pages.
func TestAListIsInTheOrderOfAge(t *testing.T) {
	j := newJournal(t, queue.Config{})
	want := j.mixed(1300) // seven pages
	for _, state := range []queue.State{"", queue.Sending, queue.Waiting} {
		var all []string
		for _, e := range want {
			if state == "" || e.State == state {
				all = append(all, e.ID)
			}
		}
		for _, limit := range []int{0, 1, len(all) - 1, len(all), len(all) + 1} {
			es, err := j.q.List(t.Context(), state, limit)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, e := range es {
				got = append(got, e.ID)
			}
			if !slices.Equal(got, all[:min(limit, len(all))]) {
				t.Fatalf("state %q, limit %d: %d entries that aren't the oldest in their order", state, limit, len(got))
			}
		}
	}
}

// counted is a store that counts how often it is looked into.
type counted struct {
	store.Store
	views int
	open  bool
}

func (c *counted) View(ctx context.Context, f func(store.Tx) error) error {
	c.views++
	c.open = true
	defer func() { c.open = false }()
	return c.Store.View(ctx, f)
}

// TestAListIsReadInPages: it holds no more than a page of rows, and no transaction
// while somebody reads it.
func TestAListIsReadInPages(t *testing.T) {
	j := newJournal(t, queue.Config{})
	m := &counted{Store: j.st}
	j.open(m)
	j.mixed(1300)
	before := m.views
	n := 0
	if err := j.q.Each(t.Context(), "", func(queue.Entry) error {
		if n++; n == 100 && m.views != before+1 {
			t.Errorf("the store was asked %d times for the first 100", m.views-before)
		}
		if m.open {
			t.Fatal("a transaction is open")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if pages := m.views - before; n != 1300 || pages != 6 { // of 200 rows; 186 are in the daybook
		t.Errorf("%d entries, in %d pages", n, pages)
	}
}

// TestAListOfWhatMovesHasEverythingOnce: between its pages entries get other states,
// and leave the daybook for rows.
func TestAListOfWhatMovesHasEverythingOnce(t *testing.T) {
	j := newJournal(t, queue.Config{})
	es := j.mixed(1300)
	states := []queue.State{queue.Failed, queue.Waiting, queue.Unknown, queue.Held}
	n, last := 0, ""
	err := j.q.Each(t.Context(), "", func(e queue.Entry) error {
		if e.ID <= last {
			t.Fatalf("%s comes behind %s", e.ID, last)
		}
		last = e.ID
		if n++; n%40 == 0 && n < len(es) { // something moves that was listed, and something that was not
			for _, at := range []int{max(n-3, 0), min(n+150, len(es)-1), min(n+170, len(es)-1), max(len(es)-n/40, 0)} {
				moved := in(es[at], states[(n+at)%len(states)], "moved")
				if err := j.settle(queue.Change{Entry: moved}); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil || n != len(es) {
		t.Errorf("%d entries were listed of %d: %v", n, len(es), err)
	}
}

// TestAnEntryThatWasTamperedWithEndsNoList.
func TestAnEntryThatWasTamperedWithEndsNoList(t *testing.T) {
	j := newJournal(t, queue.Config{})
	es := j.mixed(600)
	if err := j.st.Update(t.Context(), func(tx store.Tx) error {
		_, err := tx.Exec(`UPDATE queue_item SET account = 'eve@example.org' WHERE id = ?`, es[1].ID)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if got, err := j.q.List(t.Context(), "", 1000); err != nil || len(got) != 599 {
		t.Errorf("%d entries are listed: %v", len(got), err)
	}
}

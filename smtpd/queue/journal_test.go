package queue_test

import (
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/smtpd/queue"
)

// journal is a queue that nothing sends from, over a store that may die.
type journal struct {
	t  *testing.T
	q  *queue.Queue
	st store.Store
	c  queue.Config
	at atomic.Int64 // now, in nanoseconds
}

func newJournal(t *testing.T, c queue.Config) *journal {
	t.Helper()
	st, err := store.OpenMemory(queue.Schema)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	j := &journal{t: t, st: st, c: c}
	j.later(1_800_000_000 * time.Second)
	j.open(st)
	return j
}

func (j *journal) now() time.Time { return time.Unix(0, j.at.Load()) }

func (j *journal) later(d time.Duration) { j.at.Add(int64(d)) }

// open is a new process.
func (j *journal) open(st store.Store) {
	j.t.Helper()
	if err := j.tryOpen(st); err != nil {
		j.t.Fatal(err)
	}
}

func (j *journal) tryOpen(st store.Store) (err error) {
	c := j.c
	c.Store, c.Now = st, j.now
	j.q, err = queue.New(c)
	return err
}

// letter is a submission to one recipient.
func (j *journal) letter(id string) queue.Entry {
	return queue.Entry{ID: queue.NewID(), Account: "alice@example.org", From: "alice@example.org", MessageID: id, State: queue.Sending,
		Submission: queue.Key("alice@example.org", id, [32]byte{2}), Created: j.now(), Next: j.now(), Expires: j.now().Add(48 * time.Hour), Size: 4,
		Recipients: []queue.Recipient{{Address: "bob@example.org", Key: "bob@example.org", State: queue.Sending}}}
}

// in is e in another state.
func in(e queue.Entry, s queue.State, text string) queue.Entry {
	e.State = s
	e.Recipients = slices.Clone(e.Recipients)
	for i := range e.Recipients {
		e.Recipients[i].State, e.Recipients[i].Text = s, text
	}
	return e
}

func (j *journal) begin(e queue.Entry) error {
	return j.q.Begin([]queue.Change{{Entry: e, Bare: true}})
}

func (j *journal) settle(c queue.Change) error {
	return j.q.Settle([]queue.Change{c})
}

// send is a submission that arrives.
func (j *journal) send(id string) queue.Entry {
	j.t.Helper()
	e := j.letter(id)
	done := in(e, queue.Sent, "taken")
	if err := errors.Join(j.begin(e), j.settle(queue.Change{Entry: done, Bare: true})); err != nil {
		j.t.Fatal(err)
	}
	return done
}

func (j *journal) number(query string) (n int64) {
	j.t.Helper()
	if err := j.st.View(j.t.Context(), func(tx store.Tx) error { return tx.Row(query, nil, &n) }); err != nil {
		j.t.Fatal(err)
	}
	return n
}

// known is the state in which Earlier and Show know an entry; they must
// agree. "" is not at all.
func (j *journal) known(e queue.Entry) queue.State {
	j.t.Helper()
	var state queue.State
	es, err := j.q.Earlier(j.t.Context(), e.Submission, "bob@example.org")
	if err != nil {
		j.t.Fatal(err)
	}
	if len(es) > 1 {
		j.t.Fatalf("%s is known %d times: %+v", e.MessageID, len(es), es)
	}
	if len(es) == 1 {
		if state = es[0].State; es[0].Recipients[0].State != state || es[0].ID != e.ID {
			j.t.Fatalf("%s is another: %+v", e.MessageID, es[0])
		}
	}
	shown, err := j.q.Show(j.t.Context(), e.ID)
	if err != nil && !errors.Is(err, queue.ErrNoEntry) {
		j.t.Fatal(err)
	}
	if shown.State != state {
		j.t.Fatalf("%s is shown as %q, and known as %q", e.MessageID, shown.State, state)
	}
	return state
}

// listed is how List has what isn't sent, each once.
func (j *journal) listed() map[string]queue.State {
	j.t.Helper()
	states := map[string]queue.State{}
	if err := j.q.Each(j.t.Context(), "", func(e queue.Entry) error {
		if states[e.ID] != "" {
			j.t.Fatalf("%s is listed twice: %q and %q", e.MessageID, states[e.ID], e.State)
		}
		states[e.ID] = e.State
		return nil
	}); err != nil {
		j.t.Fatal(err)
	}
	return states
}

package queue_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/smtpd/queue"
)

func (j *journal) pages() int64 {
	j.t.Helper()
	return j.number(`SELECT COUNT(*) FROM queue_page`)
}

func (j *journal) prepare(e queue.Entry) *queue.Beginning {
	return j.q.Prepare(queue.Change{Entry: e, Bare: true})
}

// TestSessionsThatComeShareASync: the first waits for those who are expected,
// however long that is allowed to take, and for nobody who has gone.
func TestSessionsThatComeShareASync(t *testing.T) {
	j := newJournal(t, queue.Config{Gather: time.Hour})
	var came []func()
	for range 17 {
		came = append(came, j.q.Expect())
	}
	begun := make(chan error)
	for i := range 16 {
		go func() {
			b := j.prepare(j.letter(fmt.Sprintf("<%d@x>", i)))
			came[i]()
			begun <- b.Wait()
		}()
	}
	came[16]() // refused, say
	came[16]()
	for range 16 {
		if err := <-begun; err != nil {
			t.Error(err)
		}
	}
	if n := j.pages(); n != 1 {
		t.Errorf("%d pages", n)
	}
	j.send("<alone@x>") // and doesn't wait
}

// TestWhoNeverComesIsWaitedForBriefly: a client may stop within its message.
func TestWhoNeverComesIsWaitedForBriefly(t *testing.T) {
	j := newJournal(t, queue.Config{Gather: 10 * time.Millisecond})
	defer j.q.Expect()()
	j.send("<1@x>")
}

// TestWhatIsPreparedGoesWithTheNextSync, and needs none of its own.
func TestWhatIsPreparedGoesWithTheNextSync(t *testing.T) {
	j := newJournal(t, queue.Config{})
	e := j.letter("<early@x>")
	b := j.prepare(e)
	time.Sleep(5 * time.Millisecond)
	if n := j.pages(); n != 0 {
		t.Fatalf("%d pages before anybody waits", n)
	}
	j.send("<other@x>")
	n := j.pages()
	if got := j.known(e); got != queue.Sending {
		t.Errorf("it is %q after another's sync", got)
	}
	b.Hurry()
	if err := b.Wait(); err != nil {
		t.Error(err)
	}
	if j.pages() != n {
		t.Error("it was synced again")
	}
	last := j.letter("<last@x>")
	if err := j.prepare(last).Wait(); err != nil {
		t.Error(err)
	}
	j.open(j.st)
	for _, e := range []queue.Entry{e, last} {
		if got := j.known(e); got != queue.Unknown {
			t.Errorf("%s is %q after a crash", e.MessageID, got)
		}
	}
}

// TestWhatIsWithdrawnIsNotThere: unless the journal has it already; then whoever
// withdraws it is told so, and settles it.
func TestWhatIsWithdrawnIsNotThere(t *testing.T) {
	j := newJournal(t, queue.Config{})
	e, late := j.letter("<1@x>"), j.letter("<2@x>")
	b := j.prepare(e)
	if b.Withdraw() {
		t.Error("it has begun, and nobody has written")
	}
	j.send("<other@x>")
	if got := j.known(e); got != "" {
		t.Errorf("it is %q", got)
	}
	b = j.prepare(late)
	j.send("<another@x>")
	if !b.Withdraw() {
		t.Fatal("it has not begun, and the journal has it")
	}
	if err := j.settle(queue.Change{Entry: late, Bare: true, Forget: true}); err != nil {
		t.Fatal(err)
	}
	if got := j.known(late); got != "" {
		t.Errorf("it is %q after it was forgotten", got)
	}
}

// TestAStoreThatFailsWhileOthersSync: who waits is told, who withdraws has nothing
// to settle.
func TestAStoreThatFailsWhileOthersSync(t *testing.T) {
	j := newJournal(t, queue.Config{})
	st := &refusing{Store: j.st}
	j.open(st)
	waits, goes := j.prepare(j.letter("<1@x>")), j.prepare(j.letter("<2@x>"))
	st.how = "before"
	if err := j.begin(j.letter("<3@x>")); !errors.Is(err, errRefused) {
		t.Fatal(err)
	}
	if err := waits.Wait(); !errors.Is(err, errRefused) {
		t.Error(err)
	}
	if goes.Withdraw() {
		t.Error("it has begun")
	}
}

// losing is a store that loses the answers to its commits, for a while.
type losing struct {
	store.Store
	shared bool
	lost   atomic.Bool
}

func (l *losing) Shared() bool { return l.shared }

func (l *losing) Update(ctx context.Context, f func(store.Tx) error) error {
	err := l.Store.Update(ctx, f)
	if err == nil && l.lost.Load() {
		return store.ErrUnsettled
	}
	return err
}

// TestWhatMayHaveBegunIsForgotten: nothing is sent after Begin has failed, so that
// nobody must find it under way for as long as this process lives.
func TestWhatMayHaveBegunIsForgotten(t *testing.T) {
	for _, shared := range []bool{true, false} {
		for name, begin := range map[string]func(*journal, queue.Entry) error{
			"waited for": func(j *journal, e queue.Entry) error { return j.begin(e) },
			"prepared":   func(j *journal, e queue.Entry) error { return j.prepare(e).Wait() },
			"withdrawn": func(j *journal, e queue.Entry) error {
				b := j.prepare(e)
				err := j.begin(j.letter("<other@x>"))
				if b.Withdraw() {
					t.Error("it has begun for certain")
				}
				return err
			},
			"with a body": func(j *journal, e queue.Entry) error {
				return j.q.Begin([]queue.Change{{Entry: in(e, queue.Prepared, ""), Body: message.Bytes([]byte("text"))}})
			},
		} {
			j := newJournal(t, queue.Config{})
			st := &losing{Store: j.st, shared: shared}
			j.open(st)
			e := j.letter("<1@x>")
			st.lost.Store(true)
			if err := begin(j, e); !errors.Is(err, store.ErrUnsettled) {
				t.Errorf("%s, shared %v: %v", name, shared, err)
			}
			st.lost.Store(false)
			j.send("<next@x>")
			if err := j.q.Close(); err != nil {
				t.Fatal(err)
			}
			if es, err := j.q.List(t.Context(), "", 10); err != nil || len(es) > 0 {
				t.Errorf("%s, shared %v: the journal still has %+v, %v", name, shared, es, err)
			}
			if n := j.number(`SELECT COUNT(*) FROM queue_piece`); n > 0 {
				t.Errorf("%s, shared %v: %d pieces of its body", name, shared, n)
			}
		}
	}
}

// TestWhatMayBeHeldStays: the client may have been told that it is.
func TestWhatMayBeHeldStays(t *testing.T) {
	j := newJournal(t, queue.Config{})
	st := &losing{Store: j.st, shared: true}
	j.open(st)
	e := in(j.letter("<1@x>"), queue.Held, "")
	st.lost.Store(true)
	if err := j.q.Begin([]queue.Change{{Entry: e, Body: message.Bytes([]byte("text"))}}); !errors.Is(err, store.ErrUnsettled) {
		t.Error(err)
	}
	st.lost.Store(false)
	if err := j.q.Close(); err != nil {
		t.Fatal(err)
	}
	if got := j.known(e); got != queue.Held {
		t.Errorf("it is %q", got)
	}
}

package queue_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"letterlock.org/letterlock/smtpd/queue"
)

func (j *journal) pages() int64 {
	j.t.Helper()
	return j.number(`SELECT COUNT(*) FROM queue_page`)
}

func (j *journal) prepare(e queue.Entry) *queue.Beginning {
	return j.q.Prepare(j.t.Context(), queue.Change{Entry: e, Bare: true})
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

package queue_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"letterlock.org/letterlock/smtpd/queue"
)

// TestWhatArrivesAtOnceLeavesNoRow: else each submission costs what a row does.
func TestWhatArrivesAtOnceLeavesNoRow(t *testing.T) {
	j := newJournal(t, queue.Config{})
	e := j.letter("<1@x>")
	if err := j.begin(e); err != nil {
		t.Fatal(err)
	}
	if got := j.known(e); got != queue.Sending {
		t.Errorf("while it is sent it is %q", got)
	}
	if n, err := j.q.Counts(t.Context()); err != nil || n[queue.Sending].Entries != 1 || n[queue.Sending].Oldest.IsZero() {
		t.Errorf("counted %v, %v", n, err)
	}
	j.q.SettleLater([]queue.Change{{Entry: in(e, queue.Sent, "so"), Bare: true}})
	es, err := j.q.Earlier(t.Context(), e.Submission, "bob@example.org")
	if err != nil || len(es) != 1 || es[0].State != queue.Sent {
		t.Errorf("before it is written: %v, %v", es, err)
	}
	if err := j.q.Close(); err != nil {
		t.Fatal(err)
	}
	if n := j.number(`SELECT COUNT(*) FROM queue_item`); n != 0 {
		t.Errorf("%d rows", n)
	}
	j.open(j.st)
	if shown, err := j.q.Show(t.Context(), e.ID); err != nil || shown.Recipients[0].Text != "so" {
		t.Errorf("after a start it is shown as %+v, %v", shown, err)
	}
}

// TestSubmissionsAreRecognisedInClosedVolumes, until they are too old; then
// nothing is left of them.
func TestSubmissionsAreRecognisedInClosedVolumes(t *testing.T) {
	j := newJournal(t, queue.Config{Volume: 2000, Remember: 5 * 24 * time.Hour})
	var sent []queue.Entry
	for i := range 300 {
		j.later(time.Minute)
		sent = append(sent, j.send(fmt.Sprintf("<%d@x>", i)))
	}
	live := j.letter("<live@x>")
	if err := j.begin(live); err != nil {
		t.Fatal(err)
	}
	volumes := j.number(`SELECT COUNT(*) FROM queue_volume`)
	if volumes < 10 {
		t.Errorf("%d volumes", volumes)
	}
	recognised := func(want queue.State) {
		t.Helper()
		for _, e := range sent {
			if got := j.known(e); got != want {
				t.Fatalf("%s is %q, want %q", e.MessageID, got, want)
			}
		}
	}
	recognised(queue.Sent)
	j.open(j.st)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { j.q.Run(ctx, silent{}); close(done) }()
	recognised(queue.Sent)
	cancel()
	<-done
	if got := j.known(live); got != queue.Unknown {
		t.Errorf("what was being sent is %q", got)
	}
	if es, err := j.q.Earlier(t.Context(), queue.Key("alice@example.org", "<new@x>", [32]byte{2})); err != nil || len(es) != 0 {
		t.Errorf("a new one is known: %v, %v", es, err)
	}
	j.later(6 * 24 * time.Hour)
	for range 2 { // the first closes the open volume
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		j.open(j.st)
		go func() { j.q.Run(ctx, silent{}); close(done) }()
		for began := time.Now(); j.number(`SELECT COUNT(*) FROM queue_volume WHERE closed < `+fmt.Sprint(j.now().Add(-5*24*time.Hour).UnixMicro())) > 0; time.Sleep(time.Millisecond) {
			if time.Since(began) > time.Minute {
				t.Fatal("old volumes stay")
			}
		}
		cancel()
		<-done
		j.later(6 * 24 * time.Hour)
	}
	recognised("")
	if n := j.number(`SELECT COUNT(*) FROM queue_page`) + j.number(`SELECT COUNT(*) FROM queue_found`); n > 4 {
		t.Errorf("%d pages and indexes of what is forgotten", n)
	}
	if j.send("<after@x>"); j.number(`SELECT COUNT(*) FROM queue_page`) == 0 {
		t.Error("nothing is written any more")
	}
}

// TestWhatAClockBehindSentIsRecognised: a client that repeats itself when the clock
// was set right meanwhile sends nothing twice.
func TestWhatAClockBehindSentIsRecognised(t *testing.T) {
	j := newJournal(t, queue.Config{})
	j.later(-30 * 24 * time.Hour)
	e := j.send("<1@x>")
	j.later(30 * 24 * time.Hour)
	for range 4 {
		if got := j.known(e); got != queue.Sent {
			t.Errorf("%v on it is %q", j.now(), got)
		}
		if err := j.q.Tidy(t.Context()); err != nil {
			t.Fatal(err)
		}
		j.later(24 * time.Hour)
	}
}

// TestVolumesOfAClockAheadGoToo: a clock that was years ahead for a while keeps
// nothing in the daybook that is older than what is remembered.
func TestVolumesOfAClockAheadGoToo(t *testing.T) {
	j := newJournal(t, queue.Config{Volume: 2000, Remember: 5 * 24 * time.Hour})
	send := func(from int) {
		for i := range 50 {
			j.later(time.Minute)
			j.send(fmt.Sprintf("<%d@x>", from+i))
		}
	}
	const years = 50 * 365 * 24 * time.Hour
	j.later(years)
	tidy := func() {
		t.Helper()
		if err := j.q.Tidy(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	send(0)
	tidy()
	j.later(-years)
	send(100)
	for range 4 { // it is seen that it was ahead; what is closed goes; so does what was open
		tidy()
		j.later(6 * 24 * time.Hour)
	}
	if n := j.number(`SELECT COUNT(*) FROM queue_volume`) + j.number(`SELECT COUNT(*) FROM queue_page`) + j.number(`SELECT COUNT(*) FROM queue_found`); n > 4 {
		t.Errorf("%d volumes, pages and indexes of what is forgotten", n)
	}
}

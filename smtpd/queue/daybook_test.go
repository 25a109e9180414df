package queue_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/smtpd/queue"
)

// silent sends nothing.
type silent struct{}

func (silent) Send(_ context.Context, e queue.Entry, _ message.Source, _ queue.Attempt) ([]queue.Recipient, error) {
	return e.Recipients, nil
}

// TestADamagedPageDoesNotStopTheOthers: a page that is not ours, or another's in
// its place, counts as not there, and is told of.
func TestADamagedPageDoesNotStopTheOthers(t *testing.T) {
	var log bytes.Buffer
	j := newJournal(t, queue.Config{})
	a, b, c := j.send("<a@x>"), j.send("<b@x>"), j.letter("<c@x>")
	if err := j.begin(c); err != nil {
		t.Fatal(err)
	}
	// Pages 1 and 2 are a's, 3 and 4 b's, 5 c's.
	err := j.st.Update(t.Context(), func(tx store.Tx) error {
		_, err := tx.Exec(`UPDATE queue_page SET data = (SELECT data FROM queue_page WHERE seq = 4) WHERE seq = 2`)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	j.c.Logger = slog.New(slog.NewTextHandler(&log, nil))
	j.open(j.st)
	for _, want := range []struct {
		e queue.Entry
		s queue.State
	}{{a, queue.Unknown}, {b, queue.Sent}, {c, queue.Unknown}} {
		if got := j.known(want.e); got != want.s {
			t.Errorf("%s is %q, want %q", want.e.MessageID, got, want.s)
		}
	}
	if !strings.Contains(log.String(), "queue page left alone") {
		t.Errorf("logged: %s", log.String())
	}
}

// refusing is a store whose commits fail after they were made, or before.
type refusing struct {
	store.Store
	how string
}

var errRefused = errors.New("the disk is full")

func (r *refusing) Update(ctx context.Context, f func(store.Tx) error) error {
	switch r.how {
	case "after":
		if err := r.Store.Update(ctx, f); err != nil {
			return err
		}
		return errRefused
	case "before":
		return r.Store.Update(ctx, func(tx store.Tx) error { return errors.Join(f(tx), errRefused) })
	}
	return r.Store.Update(ctx, f)
}

// TestAStoreThatFailedIsReadAgain: nobody knows what it has of the last write.
func TestAStoreThatFailedIsReadAgain(t *testing.T) {
	for _, how := range []string{"before", "after"} {
		j := newJournal(t, queue.Config{})
		st := &refusing{Store: j.st}
		j.open(st)
		first, second, third := j.send("<1@x>"), j.letter("<2@x>"), j.letter("<3@x>")
		if err := j.begin(second); err != nil {
			t.Fatal(err)
		}
		st.how = how
		if err := j.settle(queue.Change{Entry: in(second, queue.Sent, "so"), Bare: true}); !errors.Is(err, errRefused) {
			t.Fatal(err)
		}
		if err := j.begin(third); !errors.Is(err, errRefused) {
			t.Fatal(err)
		}
		st.how = ""
		j.send("<4@x>")
		if got := j.known(first); got != queue.Sent {
			t.Errorf("%s: the first is %q", how, got)
		}
		if got, want := j.known(second), map[string]queue.State{"before": queue.Sending, "after": queue.Sent}[how]; got != want {
			t.Errorf("%s: the second is %q, want %q", how, got, want)
		}
		if err := j.settle(queue.Change{Entry: in(second, queue.Sent, "so"), Bare: true, IfOpen: true}); err != nil {
			t.Fatal(err)
		}
		j.open(j.st)
		if got := j.known(second); got != queue.Sent {
			t.Errorf("%s: the second is %q after a start", how, got)
		}
	}
}

// TestSettledTwiceIsKnownOnce: who is not sure that it was written writes again.
func TestSettledTwiceIsKnownOnce(t *testing.T) {
	j := newJournal(t, queue.Config{Volume: 300})
	e := j.send("<1@x>")
	if err := j.settle(queue.Change{Entry: e, Bare: true}); err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		j.send(fmt.Sprintf("<other%d@x>", i))
	}
	if got := j.known(e); got != queue.Sent {
		t.Errorf("it is %q", got)
	}
}

// TestAStoreFromBeforeTheDaybook has rows of all that is in it now.
func TestAStoreFromBeforeTheDaybook(t *testing.T) {
	path := t.TempDir() + "/s.db"
	open := func(s store.Schema) *journal {
		st, err := store.Open(path, [32]byte{1}, s)
		if err != nil {
			t.Fatal(err)
		}
		j := &journal{t: t, st: st}
		j.later(1_800_000_000 * time.Second)
		return j
	}
	j := open(queue.Schema)
	j.open(j.st)
	all := map[queue.State]queue.Entry{}
	for i, s := range []queue.State{queue.Sending, queue.Sent, queue.Waiting, queue.Held, queue.Unknown, queue.Failed} {
		e := in(j.letter(fmt.Sprintf("<%d@x>", i)), s, "said")
		all[s] = e
		if err := j.settle(queue.Change{Entry: e, Body: message.Bytes([]byte("text"))}); err != nil { // as a row, since it is not Bare
			t.Fatal(err)
		}
	}
	before := len(queue.Schema.Steps) - 1
	err := j.st.Update(t.Context(), func(tx store.Tx) error {
		for _, s := range []string{`DROP TABLE queue_page`, `DROP TABLE queue_volume`, `DROP TABLE queue_found`} {
			if _, err := tx.Exec(s); err != nil {
				return err
			}
		}
		_, err := tx.Exec(`DELETE FROM store_schema WHERE name = 'queue' AND step > ?`, before)
		return err
	})
	if err := errors.Join(err, j.st.Close()); err != nil {
		t.Fatal(err)
	}
	older := store.Schema{Name: "queue", Steps: queue.Schema.Steps[:before]}
	if err := open(older).st.Close(); err != nil { // it is what an older program made
		t.Fatal(err)
	}
	j = open(queue.Schema)
	j.open(j.st)
	for was, e := range all {
		want := was
		if was == queue.Sending {
			want = queue.Unknown
		}
		if got := j.known(e); got != want {
			t.Errorf("what was %q is %q", was, got)
		}
	}
	j.send("<new@x>")
	if err := j.st.Close(); err != nil {
		t.Fatal(err)
	}
	if st, err := store.Open(path, [32]byte{1}, older); err == nil {
		st.Close()
		t.Error("an older program opens it, and doesn't see what the daybook has")
	}
}

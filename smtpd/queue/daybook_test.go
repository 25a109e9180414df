package queue_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/message"
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
	return j.q.Begin(j.t.Context(), []queue.Change{{Entry: e, Bare: true}})
}

func (j *journal) settle(c queue.Change) error {
	return j.q.Settle(j.t.Context(), []queue.Change{c})
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

// TestTheDaybookIsTrueToItsModel begins and settles at random, in small volumes;
// the process dies at some write, before or after it takes effect, or ends in
// peace, again and again. After each start, what was promised holds: what was
// synced is there, once, in the state that it was left in, or Unknown where its
// final dot may have been sent; of the write that died there is all or nothing.
func TestTheDaybookIsTrueToItsModel(t *testing.T) {
	seeds := uint64(12)
	if testing.Short() {
		seeds = 3
	}
	for seed := range seeds {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 11))
			j := newJournal(t, queue.Config{Volume: 1 << (6 + r.IntN(8))})
			may := map[string][]queue.State{} // by ID: what it may be now
			all := map[string]queue.Entry{}
			for range 12 {
				c := &crasher{Store: j.st, left: 1 + r.IntN(60), after: r.IntN(2) == 0}
				if err := j.tryOpen(c); errors.Is(err, errCut) {
					continue // it died in settling what the last one left
				} else if err != nil {
					t.Fatal(err)
				}
				listed := j.listed()
				for id, e := range all {
					got := j.known(e)
					if got != queue.Sent && listed[id] != got || got == queue.Sent && listed[id] != "" {
						t.Fatalf("%s is %q, and listed as %q", e.MessageID, got, listed[id])
					}
					if !slices.Contains(may[id], got) {
						t.Fatalf("%s is %q after a start, may be %q", e.MessageID, got, may[id])
					} else {
						may[id] = []queue.State{got}
					}
				}
				for j.step(r, all, may) {
				}
				for id, was := range may { // the process is gone
					if slices.Contains(was, queue.Sending) {
						may[id] = append(was, queue.Unknown)
					}
					may[id] = slices.DeleteFunc(may[id], func(s queue.State) bool { return s == queue.Sending })
				}
				c.die()
				j.q.Close()
			}
			if n := j.number(`SELECT COUNT(*) FROM queue_volume`); n == 0 {
				t.Error("no volume was closed")
			}
		})
	}
}

// die has everything fail from now on.
func (c *crasher) die() {
	c.mu.Lock()
	c.gone = true
	c.mu.Unlock()
}

// step does one thing at random; false if the store died or the process ends.
func (j *journal) step(r *rand.Rand, all map[string]queue.Entry, may map[string][]queue.State) bool {
	var open []string
	for id, states := range may {
		if slices.Equal(states, []queue.State{queue.Sending}) {
			open = append(open, id)
		}
	}
	slices.Sort(open)
	j.later(time.Second)
	n := r.IntN(40)
	switch {
	case n == 0:
		return false
	case n < 20 || len(open) == 0:
		var cs []queue.Change
		for range 1 + r.IntN(3) {
			e := j.letter(fmt.Sprintf("<%d@x>", len(all)))
			all[e.ID], may[e.ID] = e, []queue.State{"", queue.Sending}
			cs = append(cs, queue.Change{Entry: e, Bare: true})
		}
		err := j.q.Begin(j.t.Context(), cs)
		for _, c := range cs {
			if err == nil {
				may[c.Entry.ID] = []queue.State{queue.Sending}
			}
		}
		return err == nil
	}
	id := open[r.IntN(len(open))]
	e := all[id]
	to := []queue.State{queue.Sent, queue.Sent, queue.Sent, queue.Waiting, queue.Failed, queue.Unknown, ""}[r.IntN(7)]
	c := queue.Change{Entry: in(e, to, "said"), Bare: r.IntN(2) == 0, IfOpen: r.IntN(2) == 0}
	switch to {
	case queue.Waiting:
		c.Body = message.Bytes([]byte("text"))
	case "":
		c = queue.Change{Entry: e, Forget: true, Bare: true}
	}
	may[id] = []queue.State{queue.Sending, to}
	if to == queue.Sent && r.IntN(2) == 0 {
		j.q.SettleLater([]queue.Change{c})
		return true
	}
	if err := j.settle(c); err != nil {
		return false
	}
	may[id] = []queue.State{to}
	if got := j.known(e); got != to {
		j.t.Fatalf("%s is %q right after it was settled as %q", e.MessageID, got, to)
	}
	return true
}

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
		for i := 0; j.number(`SELECT COUNT(*) FROM queue_volume WHERE closed < `+fmt.Sprint(j.now().Add(-5*24*time.Hour).UnixMicro())) > 0; i++ {
			if i == 5000 {
				t.Fatal("old volumes stay")
			}
			time.Sleep(time.Millisecond)
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

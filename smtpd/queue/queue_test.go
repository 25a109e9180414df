package queue_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/smtpd/queue"
)

// world is a queue with a clock and a sender that tests control.
type world struct {
	t    *testing.T
	q    *queue.Queue
	st   store.Store
	stop func()

	mu     sync.Mutex
	now    time.Time
	answer func(e queue.Entry, body []byte, attempt queue.Attempt) ([]queue.Recipient, error)
	sent   []queue.Entry
	bodies map[string][]byte
}

func newWorld(t *testing.T, c queue.Config) *world {
	t.Helper()
	st, err := store.OpenMemory(queue.Schema)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, st: st, now: time.Unix(1_800_000_000, 0), bodies: map[string][]byte{}}
	t.Cleanup(func() { st.Close() })
	c.Store, c.Now = st, w.time
	w.open(c)
	return w
}

func (w *world) open(c queue.Config) {
	q, err := queue.New(c)
	if err != nil {
		w.t.Fatal(err)
	}
	w.q = q
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { q.Run(ctx, w); close(done) }()
	w.stop = sync.OnceFunc(func() { cancel(); <-done; q.Close() })
	w.t.Cleanup(w.stop)
}

func (w *world) time() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) advance(d time.Duration) {
	w.mu.Lock()
	w.now = w.now.Add(d)
	w.mu.Unlock()
	w.q.Wake()
}

// pass has the time go on by an hour, or to when something is due, unless something is
// due already: a worker may be slow, and what it has in hand must not grow old meanwhile.
func (w *world) pass() {
	w.t.Helper()
	es, err := w.q.List(w.t.Context(), queue.Waiting, 1000)
	if err != nil {
		w.t.Fatal(err)
	}
	now := w.time()
	var next time.Time
	for _, e := range es {
		if !e.Next.After(now) {
			return
		}
		if next.IsZero() || e.Next.Before(next) {
			next = e.Next
		}
	}
	if !next.IsZero() {
		w.advance(max(next.Sub(now), time.Hour))
	}
}

// Send implements queue.Sender.
func (w *world) Send(ctx context.Context, e queue.Entry, body message.Source, attempt queue.Attempt) ([]queue.Recipient, error) {
	var b bytes.Buffer
	if _, err := io.Copy(&b, message.Reader(body)); err != nil {
		w.t.Error(err)
	}
	w.mu.Lock()
	w.sent = append(w.sent, e)
	w.bodies[e.ID] = b.Bytes()
	answer := w.answer
	w.mu.Unlock()
	if answer == nil || e.Report {
		return all(e, queue.Sent), nil
	}
	return answer(e, b.Bytes(), attempt)
}

func all(e queue.Entry, s queue.State) []queue.Recipient {
	rs := slices.Clone(e.Recipients)
	for i := range rs {
		if rs[i].State == queue.Waiting {
			rs[i].State, rs[i].Code, rs[i].Status, rs[i].Text = s, 450, "4.2.0", "so"
		}
	}
	return rs
}

func (w *world) attempts() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.sent)
}

func (w *world) put(state queue.State, body string, to ...string) queue.Entry {
	w.t.Helper()
	now := w.time()
	e := queue.Entry{ID: queue.NewID(), Account: "alice@example.org", Submission: queue.Key("alice@example.org", "<1@x>", [32]byte{byte(len(body))}),
		From: "alice@example.org", MessageID: "<1@x>", State: state, Created: now, Next: now, Expires: now.Add(48 * time.Hour), Size: int64(len(body))}
	rs := state
	if state == queue.Prepared {
		rs = queue.Waiting
	}
	for _, a := range to {
		e.Recipients = append(e.Recipients, queue.Recipient{Address: a, Key: a, State: rs})
	}
	c := queue.Change{Entry: e}
	if body != "" {
		c.Body = message.Bytes([]byte(body))
	}
	if err := w.q.Settle([]queue.Change{c}); err != nil {
		w.t.Fatal(err)
	}
	return e
}

func (w *world) list() string {
	w.t.Helper()
	es, err := w.q.List(w.t.Context(), "", 1000)
	if err != nil {
		w.t.Fatal(err)
	}
	var out []string
	for _, e := range es {
		s := string(e.State)
		if e.Report {
			s = "report " + s
		}
		for _, r := range e.Recipients {
			s += " " + r.Address + "=" + string(r.State)
		}
		out = append(out, s)
	}
	return strings.Join(out, "; ")
}

// until waits for what must come about; only a failure waits for all of its time.
func (w *world) until(what string, ok func() bool) {
	w.t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if ok() {
			return
		}
	}
	w.t.Fatalf("never happened: %s; queue: %s", what, w.list())
}

func TestWhatWaitsIsSentWithItsBody(t *testing.T) {
	w := newWorld(t, queue.Config{})
	body := strings.Repeat("0123456789abcdef", 60_000) // several pieces
	e := w.put(queue.Waiting, body, "bob@x")
	w.until("sent", func() bool { return w.attempts() == 1 && w.list() == "" })
	if got := w.bodies[e.ID]; string(got) != body {
		t.Errorf("body of %d bytes, want %d", len(got), len(body))
	}
	earlier, err := w.q.Earlier(t.Context(), e.Submission)
	if err != nil || len(earlier) != 1 || earlier[0].Recipients[0].State != queue.Sent {
		t.Errorf("Earlier: %+v, %v", earlier, err)
	}
}

func TestRetriesBackOffAndExpireWithAReport(t *testing.T) {
	w := newWorld(t, queue.Config{Lifetime: 48 * time.Hour})
	w.answer = func(e queue.Entry, _ []byte, _ queue.Attempt) ([]queue.Recipient, error) {
		return all(e, queue.Waiting), nil
	}
	e := w.put(queue.Waiting, "text", "bob@x")
	noted := func(n int) func() bool { // the clock stands until an attempt is written down
		return func() bool {
			got, err := w.q.Show(t.Context(), e.ID)
			return err == nil && w.attempts() == n && got.Attempts == n
		}
	}
	w.until("tried at once", noted(1))
	w.advance(40 * time.Second) // less than three quarters of a minute
	time.Sleep(20 * time.Millisecond)
	if n := w.attempts(); n != 1 {
		t.Fatalf("%d attempts after 40 s", n)
	}
	w.advance(40 * time.Second)
	w.until("tried again", noted(2))
	w.advance(49 * time.Hour)
	told := func() (text string) { // beside it goes, or doesn't, a notice that it takes so long
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, r := range w.sent {
			if body := string(w.bodies[r.ID]); r.Report && strings.Contains(body, "Status: 5.4.7") {
				text += body
			}
		}
		return text
	}
	w.until("tried once more, given up and reported", func() bool { return told() != "" && w.list() == "failed bob@x=failed" })
	if text := told(); !strings.Contains(text, "<1@x>") || strings.Contains(text, "text\r\n") && !strings.Contains(text, "text/plain") {
		t.Errorf("report:\n%s", text)
	}
	if got, err := w.q.Show(t.Context(), e.ID); err != nil || got.Attempts != 3 {
		t.Errorf("%d attempts, %v", got.Attempts, err)
	}
}

// TestWhatSleptThroughItsTimeIsTriedOnceMore: the machine may have slept since the
// message came, or the clock may have jumped. A report of ours, such as a password
// that its sender has to know, is nobody's to report upon when it isn't sent.
func TestWhatSleptThroughItsTimeIsTriedOnceMore(t *testing.T) {
	w := newWorld(t, queue.Config{Lifetime: 48 * time.Hour})
	var up atomic.Bool
	w.answer = func(e queue.Entry, _ []byte, _ queue.Attempt) ([]queue.Recipient, error) {
		if !up.Load() {
			return nil, fmt.Errorf("asleep: %w", queue.ErrUpstream)
		}
		return all(e, queue.Sent), nil
	}
	letter := w.put(queue.Waiting, "text", "bob@x")
	w.until("tried, and that is written down", func() bool {
		got, err := w.q.Show(t.Context(), letter.ID)
		return err == nil && got.Attempts == 1
	})
	up.Store(true)
	report := queue.Entry{ID: queue.NewID(), Account: "alice@example.org", From: "alice@example.org", Report: true, State: queue.Waiting,
		Created: w.time(), Next: w.time().Add(time.Hour), Expires: w.time().Add(48 * time.Hour), Size: 4,
		Recipients: []queue.Recipient{{Address: "alice@example.org", Key: "alice@example.org", State: queue.Waiting}}}
	if err := w.q.Settle([]queue.Change{{Entry: report, Body: message.Bytes([]byte("told"))}}); err != nil {
		t.Fatal(err)
	}
	w.advance(72 * time.Hour)
	for _, e := range []queue.Entry{letter, report} {
		w.until("it has gone", func() bool {
			got, err := w.q.Show(t.Context(), e.ID)
			return err == nil && got.State == queue.Sent
		})
	}
}

func TestBackoff(t *testing.T) {
	for n, want := range map[int]time.Duration{0: time.Minute, 1: time.Minute, 2: 2 * time.Minute, 5: 16 * time.Minute, 7: time.Hour, 1000: time.Hour} {
		for range 100 {
			if d := queue.Backoff(n); d < want*3/4 || d > want*5/4 {
				t.Fatalf("Backoff(%d) = %v, want %v ± a quarter", n, d, want)
			}
		}
	}
}

func TestRecipientsPart(t *testing.T) {
	w := newWorld(t, queue.Config{})
	first := true
	w.answer = func(e queue.Entry, _ []byte, _ queue.Attempt) ([]queue.Recipient, error) {
		rs := all(e, queue.Sent)
		if first {
			first = false
			rs[1].State = queue.Waiting
			rs[2].State = queue.Failed
		}
		return rs, nil
	}
	w.put(queue.Waiting, "text", "bob@x", "carol@x", "dave@x")
	w.until("one is left", func() bool { return strings.Contains(w.list(), "waiting bob@x=sent carol@x=waiting dave@x=failed") })
	w.advance(2 * time.Minute)
	w.until("nobody is left", func() bool { return w.list() == "failed bob@x=sent carol@x=sent dave@x=failed" })
}

func TestNotifyNeverIsObeyed(t *testing.T) {
	w := newWorld(t, queue.Config{})
	e := w.put(queue.Sending, "", "bob@x")
	e.State = queue.Failed
	e.Recipients = []queue.Recipient{{Address: "bob@x", Key: "bob@x", State: queue.Failed, Notify: "NEVER"}}
	if err := w.q.Settle([]queue.Change{{Entry: e}}); err != nil {
		t.Fatal(err)
	}
	if got := w.list(); got != "failed bob@x=failed" {
		t.Errorf("queue: %s", got)
	}
}

func TestAfterARestart(t *testing.T) {
	for _, tt := range []struct {
		name  string
		state queue.State
		body  string
		want  string
	}{
		{"what was being sent is unknown", queue.Sending, "", "unknown bob@x=unknown"},
		{"what was only prepared is gone", queue.Prepared, "text", ""},
		{"what was sent is remembered, not listed", queue.Sent, "", ""},
		{"what is held stays", queue.Held, "text", "held bob@x=held"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, queue.Config{})
			w.put(tt.state, tt.body, "bob@x")
			w.stop()
			w.open(queue.Config{Store: w.st, Now: w.time})
			if got := w.list(); got != tt.want {
				t.Errorf("queue: %q, want %q", got, tt.want)
			}
		})
	}
}

func TestARestartInTheMiddleOfAnAttemptIsReported(t *testing.T) {
	w := newWorld(t, queue.Config{})
	hang := make(chan struct{})
	w.answer = func(e queue.Entry, _ []byte, attempt queue.Attempt) ([]queue.Recipient, error) {
		if err := attempt(context.Background(), []string{"bob@x"}); err != nil {
			t.Error(err)
		}
		<-hang
		return nil, errors.New("killed")
	}
	w.put(queue.Waiting, "text", "bob@x", "carol@x")
	w.until("on its way", func() bool { return strings.HasPrefix(w.list(), "sending") })
	// A second queue on the same store stands for the next process.
	next := &world{t: t, st: w.st, now: w.time(), bodies: map[string][]byte{}}
	next.open(queue.Config{Store: w.st, Now: next.time})
	next.until("the sender was told, and the other one served", func() bool {
		return next.attempts() == 2 && next.list() == "unknown bob@x=unknown carol@x=sent"
	})
	close(hang)
}

func TestByHand(t *testing.T) {
	for _, tt := range []struct {
		name   string
		state  queue.State
		body   string
		act    func(*queue.Queue, context.Context, string) error
		err    error
		want   string
		repeat queue.State // what a repetition of the client finds
	}{
		{"drop what waits", queue.Waiting, "text", (*queue.Queue).Drop, nil, "", queue.Sent},
		{"drop what is unknown", queue.Unknown, "", (*queue.Queue).Drop, nil, "", queue.Sent},
		{"retry what is unknown, by the client", queue.Unknown, "", (*queue.Queue).Retry, nil, "", ""},
		{"retry what is unknown, by ourselves", queue.Unknown, "text", (*queue.Queue).Retry, nil, "waiting bob@x=waiting", queue.Waiting},
		{"drop what is held", queue.Held, "text", (*queue.Queue).Drop, nil, "", queue.Sent},
		{"retry what is held", queue.Held, "text", (*queue.Queue).Retry, queue.ErrNoEntry, "held bob@x=held", queue.Held},
		{"drop what was sent", queue.Sent, "", (*queue.Queue).Drop, queue.ErrNoEntry, "", queue.Sent},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, queue.Config{})
			w.stop() // nothing is sent by itself
			e := w.put(tt.state, tt.body, "bob@x")
			if err := tt.act(w.q, t.Context(), e.ID); !errors.Is(err, tt.err) {
				t.Fatalf("error %v, want %v", err, tt.err)
			}
			if got := w.list(); got != tt.want {
				t.Errorf("queue %q, want %q", got, tt.want)
			}
			es, err := w.q.Earlier(t.Context(), e.Submission)
			if err != nil {
				t.Fatal(err)
			}
			var got queue.State
			if len(es) > 0 {
				got = es[0].Recipients[0].State
			}
			if got != tt.repeat {
				t.Errorf("a repetition finds %q, want %q", got, tt.repeat)
			}
		})
	}
}

func TestTheQueueIsBounded(t *testing.T) {
	free := int64(1000)
	w := newWorld(t, queue.Config{MaxBytes: 100, MinFree: 500, Free: func() (int64, error) { return free, nil }})
	w.stop()
	release, err := w.q.Reserve(60)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.q.Reserve(60); !errors.Is(err, queue.ErrFull) {
		t.Errorf("reserved twice: %v", err)
	}
	release()
	release() // twice is once
	e := w.put(queue.Waiting, strings.Repeat("x", 60), "bob@x")
	if _, err := w.q.Reserve(60); !errors.Is(err, queue.ErrFull) {
		t.Errorf("beside what is stored: %v", err)
	}
	if err := w.q.Drop(t.Context(), e.ID); err != nil {
		t.Fatal(err)
	}
	if got, err := w.q.Show(t.Context(), e.ID); err != nil || !got.Dropped() || !got.Recipients[0].Dropped() {
		t.Errorf("what was given up is told as %+v, %v", got, err)
	}
	if err := w.q.Drop(t.Context(), e.ID); !errors.Is(err, queue.ErrNoEntry) || err.Error() != "it is given up" {
		t.Errorf("given up once more: %v", err)
	}
	if release, err = w.q.Reserve(60); err != nil {
		t.Errorf("after that went: %v", err)
	} else {
		release()
	}
	free = 550
	if _, err := w.q.Reserve(60); !errors.Is(err, queue.ErrFull) {
		t.Errorf("on a full disk: %v", err)
	}
}

func TestOldEntriesAreForgotten(t *testing.T) {
	w := newWorld(t, queue.Config{Remember: 24 * time.Hour})
	e := w.put(queue.Sent, "", "bob@x")
	w.advance(25 * time.Hour)
	w.until("forgotten", func() bool {
		es, err := w.q.Earlier(t.Context(), e.Submission)
		return err == nil && len(es) == 0
	})
}

func TestKeyNamesWhatWasSubmitted(t *testing.T) {
	k := queue.Key("a", "<1>", [32]byte{1})
	for _, other := range []string{queue.Key("b", "<1>", [32]byte{1}), queue.Key("a", "<2>", [32]byte{1}), queue.Key("a", "<1>", [32]byte{2}), queue.Key("a<", "1>", [32]byte{1})} {
		if other == k {
			t.Error("two submissions have one key")
		}
	}
	if queue.Key("a", "", [32]byte{1}) != "" {
		t.Error("a message without Message-ID has a key")
	}
	release, ok := w0(t).Claim(k, "bob@x")
	if !ok {
		t.Fatal("not free")
	}
	release()
}

func w0(t *testing.T) *queue.Queue { return newWorld(t, queue.Config{}).q }

func TestClaimIsForOneAtATime(t *testing.T) {
	q := w0(t)
	release, ok := q.Claim("k", "bob@x")
	if _, again := q.Claim("k", "bob@x"); !ok || again {
		t.Errorf("claimed %v, again %v", ok, again)
	}
	other, ok := q.Claim("k", "carol@x") // an MTA hands in one message in parts
	if !ok {
		t.Error("other recipients are not free")
	}
	other()
	release()
	if _, ok := q.Claim("k", "bob@x"); !ok {
		t.Error("not free after release")
	}
}

// failing is a store that fails while told so.
type failing struct {
	store.Store
	mu  sync.Mutex
	err error
}

func (f *failing) Update(ctx context.Context, do func(store.Tx) error) error {
	f.mu.Lock()
	err := f.err
	f.mu.Unlock()
	if err != nil {
		return err
	}
	return f.Store.Update(ctx, do)
}

func TestManyWritersShareSyncsAndOneErrorIsEverybodysOwn(t *testing.T) {
	st, err := store.OpenMemory(queue.Schema)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	f := &failing{Store: st}
	q, err := queue.New(queue.Config{Store: f})
	if err != nil {
		t.Fatal(err)
	}
	begin := func(id string) error {
		return q.Begin([]queue.Change{{Entry: queue.Entry{ID: id, State: queue.Sending, Recipients: []queue.Recipient{{Address: "b@x", State: queue.Sending}}}}})
	}
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			if err := begin(fmt.Sprint(i)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if es, err := q.List(t.Context(), "", 1000); err != nil || len(es) != 50 {
		t.Errorf("%d entries, %v", len(es), err)
	}
	f.mu.Lock()
	f.err = errors.New("disk full")
	f.mu.Unlock()
	if err := begin("x"); err == nil {
		t.Error("no error of a full disk")
	}
	f.mu.Lock()
	f.err = nil
	f.mu.Unlock()
	if err := begin("y"); err != nil {
		t.Errorf("after it: %v", err)
	}
}

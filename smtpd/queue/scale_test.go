package queue_test

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/smtpd/queue"
)

// spy notes every statement that a store is asked.
type spy struct {
	store.Store
	shared bool
	mu     sync.Mutex
	asked  map[string][]any
}

func (s *spy) Shared() bool { return s.shared }

func (s *spy) View(ctx context.Context, f func(store.Tx) error) error {
	return s.Store.View(ctx, func(tx store.Tx) error { return f(spyTx{tx, s}) })
}

func (s *spy) Update(ctx context.Context, f func(store.Tx) error) error {
	return s.Store.Update(ctx, func(tx store.Tx) error { return f(spyTx{tx, s}) })
}

func (s *spy) note(query string, args []any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked[query] = args
}

type spyTx struct {
	store.Tx
	s *spy
}

func (t spyTx) Exec(query string, args ...any) (int64, error) {
	t.s.note(query, args)
	return t.Tx.Exec(query, args...)
}

func (t spyTx) Row(query string, args []any, dest ...any) error {
	t.s.note(query, args)
	return t.Tx.Row(query, args, dest...)
}

func (t spyTx) Rows(query string, args []any, each func(func(...any) error) error) error {
	t.s.note(query, args)
	return t.Tx.Rows(query, args, each)
}

// plans are the steps by which SQLite would answer.
func plans(t *testing.T, st store.Store, query string, args []any) (steps []string) {
	t.Helper()
	query, _, _ = strings.Cut(query, " FOR UPDATE")
	err := st.Update(t.Context(), func(tx store.Tx) error {
		steps = nil
		return tx.Rows("EXPLAIN QUERY PLAN "+query, args, func(scan func(...any) error) error {
			var id, parent, unused int64
			var detail string
			err := scan(&id, &parent, &unused, &detail)
			steps = append(steps, detail)
			return err
		})
	})
	if err != nil {
		t.Errorf("%s: %v", query, err)
	}
	return steps
}

// TestNoStatementReadsEverything has the queue do all that it does, and looks at
// the plan of every statement: none may pass over a table, or sort.
func TestNoStatementReadsEverything(t *testing.T) {
	for _, shared := range []bool{false, true} {
		t.Run(fmt.Sprintf("shared %v", shared), func(t *testing.T) {
			st, err := store.OpenMemory(queue.Schema)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { st.Close() })
			s := &spy{Store: st, shared: shared, asked: map[string][]any{}}
			everything(t, s)
			if len(s.asked) < 25 {
				t.Errorf("only %d statements were seen", len(s.asked))
			}
			for query, args := range s.asked {
				for _, step := range plans(t, st, query, args) {
					switch {
					case strings.HasPrefix(step, "SCAN") && !allowedScan(query, step):
						t.Errorf("reads everything: %s\n  %s", query, step)
					case strings.Contains(step, "TEMP B-TREE"):
						t.Errorf("sorts: %s\n  %s", query, step)
					}
				}
			}
		})
	}
}

// allowedScan: the count passes over a covering index of what isn't sent, once
// at start, and over what is under way; nodes are few; the old tables are in their order, and empty.
func allowedScan(query, step string) bool {
	return strings.Contains(query, "COUNT(*)") && (strings.Contains(step, "COVERING INDEX queue_item_state") || strings.Contains(step, "INDEX queue_item_node")) ||
		strings.Contains(step, "queue_node") || strings.Contains(query, "FROM queue_entry ORDER BY id LIMIT 1")
}

// everything is a life of a queue: sent, put off, held, late, expired, by hand.
func everything(t *testing.T, st store.Store) {
	w := &world{t: t, st: st, now: time.Unix(1_800_000_000, 0), bodies: map[string][]byte{}}
	w.answer = func(e queue.Entry, _ []byte, attempt queue.Attempt) ([]queue.Recipient, error) {
		switch e.Recipients[0].Address {
		case "slow@y":
			return all(e, queue.Waiting), nil
		case "bad@z":
			return all(e, queue.Failed), nil
		}
		if err := attempt(context.Background(), []string{e.Recipients[0].Key}); err != nil {
			return nil, err
		}
		return all(e, queue.Sent), nil
	}
	c := queue.Config{Store: st, Now: w.time, Lease: 20 * time.Second}
	w.open(c)
	release, _ := w.q.Claim(queue.Key("alice@example.org", "<1@x>", [32]byte{4}), "bob@x")
	if _, err := w.q.Earlier(t.Context(), queue.Key("alice@example.org", "<1@x>", [32]byte{4}), "bob@x"); err != nil {
		t.Fatal(err)
	}
	w.put(queue.Waiting, "text", "bob@x")
	release()
	slow, held := w.put(queue.Waiting, "textt", "slow@y"), w.put(queue.Held, "texttt", "carol@x")
	w.put(queue.Waiting, "texttttt", "bad@z")
	w.put(queue.Sending, "", "dave@x")
	w.until("sent", func() bool { return w.attempts() >= 4 })
	for _, err := range []error{
		w.q.Learned(t.Context(), "carol@x"), w.q.Hurry(t.Context(), "alice@example.org"), w.q.Retry(t.Context(), slow.ID),
	} {
		if err != nil && err != queue.ErrWorking {
			t.Error(err)
		}
	}
	if _, err := w.q.Release(t.Context(), held.ID, false); err != queue.ErrNotServing {
		t.Error(err)
	}
	w.advance(5 * time.Hour)
	w.until("the delay is told", func() bool { return w.reported("Not delivered yet") })
	w.advance(44 * time.Hour)
	w.until("it is given up", func() bool {
		l := w.list()
		return w.reported("Not delivered\r\n") && strings.Contains(l, "carol@x=failed") && strings.Contains(l, "slow@y=failed") && !strings.Contains(l, "report")
	})
	w.stop()
	w.open(c) // recover
	w.advance(200 * time.Hour)
	w.until("forgotten", func() bool {
		es, err := w.q.Earlier(t.Context(), slow.Submission)
		return err == nil && len(es) == 0
	})
	w.stop()
}

func (w *world) reported(subject string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.sent {
		if e.Report && strings.Contains(string(w.bodies[e.ID]), "Subject: "+subject) {
			return true
		}
	}
	return false
}

// BenchmarkQueueOf100000 puts 100,000 messages of 4 KB to 1,000 domains into a
// queue on disk, and starts a process on it: the time from its start to the first
// delivery, then deliveries/s of 20,000 to a sender that does nothing but the
// journal's part, and the process's peak of resident memory.
func BenchmarkQueueOf100000(b *testing.B) {
	if os.Getenv("LETTERLOCK_QUEUE_DIR") != "" {
		b.Skip("in the child")
	}
	dir := b.TempDir()
	began := time.Now()
	fill(b, dir, 100_000)
	b.ReportMetric(100_000/time.Since(began).Seconds(), "queued/s")
	for b.Loop() {
		cmd := exec.Command(os.Args[0], "-test.run=^TestQueueChild$")
		cmd.Env = append(os.Environ(), "LETTERLOCK_QUEUE_DIR="+dir)
		out, err := cmd.Output()
		if err != nil {
			b.Fatal(err)
		}
		for s := bufio.NewScanner(strings.NewReader(string(out))); s.Scan(); {
			var what string
			var n float64
			if k, _ := fmt.Sscan(s.Text(), &what, &n); k == 2 {
				b.ReportMetric(n, what)
			}
		}
	}
}

func fill(b *testing.B, dir string, n int) {
	st, err := store.Open(filepath.Join(dir, "s.db"), [32]byte{1}, queue.Schema)
	if err != nil {
		b.Fatal(err)
	}
	defer st.Close()
	q, err := queue.New(queue.Config{Store: st})
	if err != nil {
		b.Fatal(err)
	}
	defer q.Close()
	body := message.Bytes([]byte(strings.Repeat("0123456789abcdef", 256)))
	now := time.Now()
	for i := 0; i < n; i += 500 {
		var cs []queue.Change
		for k := i; k < i+500; k++ {
			to := fmt.Sprintf("user%d@domain%d.example", k, k%1000)
			cs = append(cs, queue.Change{Body: body, Entry: queue.Entry{
				ID: queue.NewID(), Account: "alice@example.org", From: "alice@example.org", MessageID: fmt.Sprintf("<%d@x>", k), State: queue.Waiting,
				Submission: queue.Key("alice@example.org", fmt.Sprintf("<%d@x>", k), [32]byte{1}), Recipients: []queue.Recipient{{Address: to, Key: to, State: queue.Waiting}},
				Created: now, Next: now, Expires: now.Add(48 * time.Hour), Size: body.Size(),
			}})
		}
		if err := q.Settle(cs); err != nil {
			b.Fatal(err)
		}
	}
}

// TestQueueChild is the process that BenchmarkQueueOf100000 measures.
func TestQueueChild(t *testing.T) {
	dir := os.Getenv("LETTERLOCK_QUEUE_DIR")
	if dir == "" {
		t.Skip("a helper of BenchmarkQueueOf100000")
	}
	began := time.Now()
	st, err := store.Open(filepath.Join(dir, "s.db"), [32]byte{1}, queue.Schema)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	q, err := queue.New(queue.Config{Store: st, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	s := &counting{first: make(chan struct{}), enough: make(chan struct{}), want: 20_000}
	go func() { q.Run(ctx, s); close(done) }()
	<-s.first
	first := time.Since(began)
	select {
	case <-s.enough:
	case <-time.After(5 * time.Minute):
	}
	rate := float64(s.n.Load()) / (time.Since(began) - first).Seconds()
	cancel()
	<-done
	if err := q.Close(); err != nil {
		t.Error(err)
	}
	fmt.Printf("ms-to-first %d\ndeliveries/s %.0f\npeak-MB %.1f\n", first.Milliseconds(), rate, peak())
}

// peak is the most memory that this process ever had resident, in MB.
func peak() float64 {
	b, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(b)) {
		var kb float64
		if n, _ := fmt.Sscanf(line, "VmHWM: %f kB", &kb); n == 1 {
			return kb / 1024
		}
	}
	return 0
}

// counting accepts everything.
type counting struct {
	n             atomic.Int64
	want          int64
	once          sync.Once
	first, enough chan struct{}
}

func (c *counting) Send(ctx context.Context, e queue.Entry, _ message.Source, attempt queue.Attempt) ([]queue.Recipient, error) {
	c.once.Do(func() { close(c.first) })
	if err := attempt(ctx, []string{e.Recipients[0].Key}); err != nil {
		return nil, err
	}
	if c.n.Add(1) == c.want {
		close(c.enough)
	}
	return all(e, queue.Sent), nil
}

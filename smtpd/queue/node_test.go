package queue_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/mailtest/peer"
	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/smtpd/queue"
)

// onEachStore runs a test with a store that several nodes share.
func onEachStore(t *testing.T, f func(t *testing.T, open func() store.Store)) {
	t.Run("sqlite", func(t *testing.T) {
		st, err := store.OpenMemory(queue.Schema)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { st.Close() })
		f(t, func() store.Store { return &spy{Store: st, shared: true, asked: map[string][]any{}} })
	})
	t.Run("postgres", func(t *testing.T) {
		url := peer.Postgres(t).Fresh()
		f(t, func() store.Store {
			st, err := store.OpenPostgres(t.Context(), url, [32]byte{1}, queue.Schema)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { st.Close() })
			return st
		})
	})
}

// cut is a store that a node loses.
type cut struct {
	store.Store
	mu   sync.Mutex
	gone bool
}

var errCut = errors.New("the database is gone")

func (c *cut) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gone = true
}

func (c *cut) err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone {
		return errCut
	}
	return nil
}

func (c *cut) View(ctx context.Context, f func(store.Tx) error) error {
	if err := c.err(); err != nil {
		return err
	}
	return c.Store.View(ctx, f)
}

func (c *cut) Update(ctx context.Context, f func(store.Tx) error) error {
	if err := c.err(); err != nil {
		return err
	}
	return c.Store.Update(ctx, f)
}

func TestTwoNodesSendEverythingOnce(t *testing.T) {
	onEachStore(t, func(t *testing.T, open func() store.Store) {
		const n = 200
		ctx, cancel := context.WithCancel(t.Context())
		var mu sync.Mutex
		sent := map[string]int{}
		var has [2]chan struct{} // closed when the node sends its first
		var first [2]sync.Once
		for i := range has {
			has[i] = make(chan struct{})
		}
		var nodes []*world
		for i := range 2 {
			w := &world{t: t, st: open(), now: time.Unix(1_800_000_000, 0), bodies: map[string][]byte{}}
			w.answer = func(e queue.Entry, _ []byte, attempt queue.Attempt) ([]queue.Recipient, error) {
				if err := attempt(ctx, []string{e.Recipients[0].Key}); err != nil {
					return nil, err
				}
				mu.Lock()
				sent[e.ID]++
				mu.Unlock()
				first[i].Do(func() { close(has[i]) })
				select { // the other has its part of it, however slow it is
				case <-has[1-i]:
				case <-ctx.Done():
				}
				return all(e, queue.Sent), nil
			}
			nodes = append(nodes, w)
		}
		w := nodes[0]
		filler, err := queue.New(queue.Config{Store: w.st, Now: w.time})
		if err != nil {
			t.Fatal(err)
		}
		w.q = filler
		for i := range n {
			w.put(queue.Waiting, "text", fmt.Sprintf("user%d@domain%d", i, i%20))
		}
		filler.Close()
		for _, w := range nodes {
			w.open(queue.Config{Store: w.st, Now: w.time})
		}
		t.Cleanup(cancel) // before the nodes end
		w.until("all are sent", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(sent) == n
		})
		w.until("nothing is left", func() bool { return w.list() == "" })
		for id, k := range sent {
			if k != 1 {
				t.Errorf("%s was sent %d times", id, k)
			}
		}
	})
}

// TestADeadNodeIsInherited loses a node at each state of what it works on.
func TestADeadNodeIsInherited(t *testing.T) {
	for _, tt := range []struct {
		name    string
		attempt bool // it is beyond the journal's write before the dot
		want    string
	}{
		{"before the final dot it is sent by another", false, ""},
		{"after the final dot nobody sends it again, and the sender is told", true, "unknown bob@x=unknown"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			onEachStore(t, func(t *testing.T, open func() store.Store) {
				victim := &cut{Store: open()}
				a := &world{t: t, st: victim, now: time.Unix(1_800_000_000, 0), bodies: map[string][]byte{}}
				there, dead := make(chan struct{}), make(chan struct{})
				a.answer = func(e queue.Entry, _ []byte, attempt queue.Attempt) ([]queue.Recipient, error) {
					if tt.attempt {
						if err := attempt(context.Background(), []string{"bob@x"}); err != nil {
							t.Error(err)
						}
					}
					victim.cut()
					close(there)
					<-dead
					if !tt.attempt {
						if err := attempt(context.Background(), []string{"bob@x"}); err == nil {
							t.Error("a node that has lost the store may send")
						}
					}
					return nil, errors.New("gone")
				}
				a.open(queue.Config{Store: victim, Now: a.time, Lease: 2 * time.Second})
				a.put(queue.Waiting, "text", "bob@x")
				<-there
				b := &world{t: t, st: open(), now: a.time(), bodies: map[string][]byte{}}
				b.open(queue.Config{Store: b.st, Now: b.time, Lease: 2 * time.Second})
				if n := b.attempts(); n != 0 {
					t.Fatalf("another node took it from one that lives")
				}
				b.advance(3 * time.Second)
				want := 1 // the message, or the report
				b.until("inherited", func() bool { return b.attempts() == want && b.list() == tt.want })
				if b.sent[0].Report != tt.attempt {
					t.Errorf("sent %+v", b.sent[0])
				}
				close(dead)
			})
		})
	}
}

func TestASessionOfADeadNodeIsSettledByAnother(t *testing.T) {
	onEachStore(t, func(t *testing.T, open func() store.Store) {
		now := time.Unix(1_800_000_000, 0)
		a, err := queue.New(queue.Config{Store: open(), Now: func() time.Time { return now }, Lease: 2 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		key := queue.Key("alice@example.org", "<1@x>", [32]byte{1})
		if _, ok := a.Claim(key, "bob@x", "carol@x"); !ok {
			t.Fatal("not free")
		}
		if _, err := a.Earlier(t.Context(), key, "bob@x", "carol@x"); err != nil {
			t.Fatal(err)
		}
		entry := func(id string, s queue.State, to string) queue.Change {
			rs := queue.Waiting
			if s == queue.Sending {
				rs = s
			}
			return queue.Change{Body: message.Bytes([]byte("text")), Entry: queue.Entry{ID: id, Account: "alice@example.org", Submission: key, State: s,
				Recipients: []queue.Recipient{{Address: to, Key: to, State: rs}}, Created: now, Next: now, Expires: now.Add(time.Hour), Size: 4}}
		}
		if err := a.Begin([]queue.Change{entry("1", queue.Sending, "bob@x"), entry("2", queue.Prepared, "carol@x")}); err != nil {
			t.Fatal(err)
		}
		b := &world{t: t, st: open(), now: now, bodies: map[string][]byte{}}
		b.open(queue.Config{Store: b.st, Now: b.time, Lease: 2 * time.Second})
		if _, err := b.q.Earlier(t.Context(), key, "carol@x"); !errors.Is(err, queue.ErrBusy) {
			t.Errorf("while the first lives: %v", err)
		}
		if _, err := b.q.Earlier(t.Context(), key, "dave@x"); err != nil {
			t.Errorf("for somebody else: %v", err)
		}
		if err := b.q.Begin([]queue.Change{entry("3", queue.Sending, "carol@x")}); !errors.Is(err, queue.ErrBusy) {
			t.Errorf("begun beside the first: %v", err)
		}
		b.advance(3 * time.Second)
		b.until("settled", func() bool { return b.list() == "unknown bob@x=unknown" })
		if err := b.q.Begin([]queue.Change{entry("4", queue.Sending, "carol@x")}); err != nil {
			t.Errorf("what was only prepared is not free: %v", err)
		}
		// The first wakes up: what it knows counts, and what it has lost does not.
		sent := entry("1", queue.Sent, "bob@x")
		sent.Entry.Recipients[0].State = queue.Sent
		if err := a.Settle([]queue.Change{sent}); err != nil {
			t.Errorf("the answer that came late: %v", err)
		}
		if got := b.list(); strings.Contains(got, "bob") {
			t.Errorf("after that: %s", got)
		}
		if err := a.Settle([]queue.Change{entry("4", queue.Sending, "carol@x")}); !errors.Is(err, queue.ErrLost) {
			t.Errorf("a node writes what another works on: %v", err)
		}
	})
}

// TestASharedStoreSeesNoHashOfAMessage: with one it could try guesses at the text.
func TestASharedStoreSeesNoHashOfAMessage(t *testing.T) {
	key := queue.Key("relay", "<1@example.org>", [32]byte{7})
	column := func(storeKey byte) (n int64) {
		t.Helper()
		st, err := store.OpenPostgres(t.Context(), peer.Postgres(t).Fresh(), [32]byte{storeKey}, queue.Schema)
		if err != nil {
			t.Fatal(err)
		}
		defer st.Close()
		q, err := queue.New(queue.Config{Store: st})
		if err != nil {
			t.Fatal(err)
		}
		defer q.Close()
		e := queue.Entry{ID: queue.NewID(), Account: "relay", Submission: key, State: queue.Sent, Created: time.Now(),
			Recipients: []queue.Recipient{{Address: "bob@example.net", Key: "bob@example.net", State: queue.Sent}}}
		if err := q.Settle([]queue.Change{{Entry: e}}); err != nil {
			t.Fatal(err)
		}
		if es, err := q.Earlier(t.Context(), key); err != nil || len(es) != 1 {
			t.Errorf("the repetition is not recognised: %d, %v", len(es), err)
		}
		err = st.View(t.Context(), func(tx store.Tx) error { return tx.Row(`SELECT hash FROM queue_item`, nil, &n) })
		if err != nil || n == 0 {
			t.Fatalf("hash %d, %v", n, err)
		}
		return n
	}
	a, b := column(1), column(2)
	if plain, _ := strconv.ParseUint(key[:16], 16, 64); a == int64(plain) || a == b {
		t.Errorf("%x and %x don't depend on the store's key; the message's hash is %x", a, b, plain)
	}
}

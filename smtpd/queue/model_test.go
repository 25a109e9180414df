package queue_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/smtpd/queue"
)

// crasher is a store whose process dies at one of its writes: right before it
// takes effect, or right after.
type crasher struct {
	store.Store
	shared bool
	mu     sync.Mutex
	left   int // writes until then; negative is never
	after  bool
	gone   bool
}

func (c *crasher) Shared() bool { return c.shared }

func (c *crasher) Update(ctx context.Context, f func(store.Tx) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone {
		return errCut
	}
	c.left--
	if c.left != 0 {
		return c.Store.Update(ctx, f)
	}
	c.gone = true
	if c.after {
		if err := c.Store.Update(ctx, f); err != nil {
			return err
		}
	}
	return errCut
}

func (c *crasher) View(ctx context.Context, f func(store.Tx) error) error {
	c.mu.Lock()
	gone := c.gone
	c.mu.Unlock()
	if gone {
		return errCut
	}
	return c.Store.View(ctx, f)
}

// model is the world that the queue must be true to: an upstream that counts
// what everybody got, and clients that repeat what they were not told 250 of.
type model struct {
	t   *testing.T
	r   *rand.Rand
	st  store.Store // what outlives processes
	now time.Time

	mu   sync.Mutex // guards what follows and r
	got  map[string]int
	told map[string]bool // of whom a client or a report said that nobody knows, or that it failed
	calm bool            // the upstream takes everything now
}

// dot is the end of a message at the upstream.
func (m *model) dot(keys ...string) queue.State {
	m.mu.Lock()
	defer m.mu.Unlock()
	take := func() {
		for _, k := range keys {
			m.got[k]++
		}
	}
	n := m.r.IntN(8)
	if m.calm {
		n = 0
	}
	switch n {
	case 0, 1, 2, 3:
		take()
		return queue.Sent
	case 4:
		take()
		return queue.Unknown // its answer was lost
	case 5:
		return queue.Unknown // it was not taken, and who knows
	case 6:
		return queue.Failed
	}
	return queue.Waiting
}

// Send implements queue.Sender.
func (m *model) Send(ctx context.Context, e queue.Entry, body message.Source, attempt queue.Attempt) ([]queue.Recipient, error) {
	if e.Report {
		m.report(body)
		return all(e, queue.Sent), nil
	}
	var keys, names []string
	for _, r := range e.Recipients {
		if r.State == queue.Waiting {
			keys, names = append(keys, r.Key), append(names, e.MessageID+r.Key)
		}
	}
	if err := attempt(ctx, keys); err != nil {
		return nil, err
	}
	return all(e, m.dot(names...)), nil
}

func (m *model) report(body message.Source) {
	text, err := message.ReadAll(body, 1<<20)
	if err != nil {
		m.t.Error(err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	_, id, _ := strings.Cut(string(text), "\r\nMessage-ID: <")
	id, _, _ = strings.Cut(id[strings.LastIndex(id, "\r\nMessage-ID: ")+1:], ">")
	_, id, _ = strings.Cut(id, "<")
	for _, line := range strings.Split(string(text), "\r\n") {
		if who, ok := strings.CutPrefix(line, "Final-Recipient: rfc822; "); ok {
			m.told["<"+id+">"+who] = true
		}
	}
}

// submit is a client that hands in one message once, as smtpd does with two
// groups: one transaction held open, and one prepared for the queue. It says
// whether the client is content.
func (m *model) submit(q *queue.Queue, id string, rcpts []string) bool {
	ctx := m.t.Context()
	key := queue.Key("alice@example.org", id, [32]byte{1})
	release, ok := q.Claim(key, rcpts...)
	if !ok {
		return false
	}
	defer release()
	es, err := q.Earlier(ctx, key, rcpts...)
	if err != nil {
		return false
	}
	state := map[string]queue.State{}
	for _, e := range es {
		for _, r := range e.Recipients {
			if e.State != queue.Prepared && r.State != queue.Failed {
				state[r.Key] = r.State
			}
		}
	}
	var rest []string
	unknown := false
	for _, r := range rcpts {
		switch state[r] {
		case "":
			rest = append(rest, r)
		case queue.Unknown, queue.Sending:
			unknown = true
			m.tell(id + r)
		}
	}
	if len(rest) == 0 {
		return true // told 250, or that nobody knows
	}
	cs := []queue.Change{m.change(key, id, queue.Sending, rest[:1])}
	if len(rest) > 1 {
		cs = append(cs, m.change(key, id, queue.Prepared, rest[1:]))
	}
	if q.Begin(cs) != nil {
		return false
	}
	first := m.dot(id + rest[0])
	switch first {
	case queue.Sent:
		cs[0] = m.settled(cs[0], queue.Sent)
		if len(cs) > 1 {
			cs[1].Entry.State = queue.Waiting
		}
	case queue.Unknown:
		unknown = true
		m.tell(id + rest[0])
		cs[0] = m.settled(cs[0], queue.Unknown)
		if len(cs) > 1 {
			cs[1].Forget = true
		}
	default: // nothing was sent: the client hears it
		for i := range cs {
			cs[i].Forget = true
		}
		q.Settle(cs)
		return first == queue.Failed && func() bool { m.tell(id + rest[0]); return false }()
	}
	if q.Settle(cs) != nil {
		return false
	}
	return !unknown || len(rest) == 1
}

func (m *model) tell(who string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.told[who] = true
}

func (m *model) change(key, id string, s queue.State, to []string) queue.Change {
	e := queue.Entry{ID: queue.NewID(), Account: "alice@example.org", Submission: key, From: "alice@example.org", MessageID: id, State: s,
		Created: m.now, Next: m.now, Expires: m.now.Add(1000 * time.Hour), Size: 4}
	for _, a := range to {
		rs := queue.Waiting
		if s == queue.Sending {
			rs = s
		}
		e.Recipients = append(e.Recipients, queue.Recipient{Address: a, Key: a, State: rs})
	}
	c := queue.Change{Entry: e, Bare: s == queue.Sending}
	if s == queue.Prepared {
		c.Body = message.Bytes([]byte("text"))
	}
	return c
}

func (m *model) settled(c queue.Change, s queue.State) queue.Change {
	c.Entry.State = s
	c.Entry.Recipients = slices.Clone(c.Entry.Recipients)
	for i := range c.Entry.Recipients {
		c.Entry.Recipients[i].State = s
	}
	return c
}

// life is one process: it runs the queue, takes submissions, and dies at some
// write, or ends in peace.
func (m *model) life(todo map[string][]string, left int, after, shared bool) {
	c := &crasher{Store: m.st, shared: shared, left: left, after: after}
	clock := func() time.Time { m.mu.Lock(); defer m.mu.Unlock(); return m.now }
	q, err := queue.New(queue.Config{Store: c, Now: clock, Lease: time.Second, Remember: 1000 * time.Hour, Lifetime: 1000 * time.Hour, Volume: 2000})
	if err != nil {
		if !errors.Is(err, errCut) {
			m.t.Fatal(err)
		}
		m.later(2 * time.Second)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { q.Run(ctx, m); close(done) }()
	for id, rcpts := range todo {
		if m.submit(q, id, rcpts) {
			delete(todo, id)
		}
	}
	for range 8 {
		m.later(2 * time.Hour)
		q.Wake()
		m.quiet(q)
	}
	cancel()
	<-done
	q.Close()
	m.later(2 * time.Second) // the lease of this node runs out
}

func (m *model) later(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now = m.now.Add(d)
}

// quiet waits until the queue has nothing that is under way and due: for a moment, since
// the upstream may put it off; when that is calm, for as long as it takes.
func (m *model) quiet(q *queue.Queue) {
	polls := 50
	if m.calm {
		polls = 60_000
	}
	for range polls {
		counts, err := q.Counts(context.Background())
		if err != nil || counts[queue.Waiting].Entries+counts[queue.Sending].Entries == 0 {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// TestTheQueueIsTrueToItsModel has processes die at every one of their first
// writes, before and after it takes effect, while an upstream fails at random
// and clients repeat themselves; and then a calm process finish. In the end
// nobody has got a message twice, and who has not got it is told of.
func TestTheQueueIsTrueToItsModel(t *testing.T) {
	seeds := uint64(25)
	if testing.Short() {
		seeds = 2
	}
	for _, shared := range []bool{false, true} {
		for seed := range seeds {
			t.Run(fmt.Sprintf("shared %v, seed %d", shared, seed), func(t *testing.T) {
				t.Parallel()
				st, err := store.OpenMemory(queue.Schema)
				if err != nil {
					t.Fatal(err)
				}
				defer st.Close()
				m := &model{t: t, r: rand.New(rand.NewPCG(seed, 7)), st: st, now: time.Unix(1_800_000_000, 0), got: map[string]int{}, told: map[string]bool{}}
				todo, everything := map[string][]string{}, map[string][]string{}
				for write := 1; write <= 14; write++ {
					for i := range 2 {
						id := fmt.Sprintf("<%d.%d@x>", write, i)
						rcpts := []string{"bob@x", "carol@y", "dave@z"}[:1+m.r.IntN(3)]
						todo[id], everything[id] = rcpts, rcpts
					}
					m.life(todo, write, seed%2 == 0, shared)
				}
				m.calm = true
				for range 6 {
					m.life(todo, -1, false, shared)
				}
				if len(todo) > 0 {
					t.Errorf("clients are still told to try again: %v", todo)
				}
				m.check(everything)
			})
		}
	}
}

func (m *model) check(everything map[string][]string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, rcpts := range everything {
		for _, r := range rcpts {
			switch n := m.got[id+r]; {
			case n > 1:
				m.t.Errorf("%s has %d copies of %s", r, n, id)
			case n == 0 && !m.told[id+r]:
				m.t.Errorf("%s has no copy of %s, and nobody was told", r, id)
			}
		}
	}
}

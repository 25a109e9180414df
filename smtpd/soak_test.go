package smtpd_test

import (
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/policy"
	"letterlock.org/letterlock/smtpd/queue"
)

var (
	soakRuns = flag.Int("soak", 40, "how many runs TestSoak makes")
	soakSeed = flag.Uint64("soakseed", 0, "the seed of the first run of TestSoak; 0 is a random one")
)

// TestSoak is many short lives of a bridge or relay, or of two that share a
// store, between clients that break off, repeat themselves and give up, and a
// smarthost that fails at every step in every way; the processes are killed, or
// fail to write, at any write of the journal or step upstream, and start again;
// clocks jump by a day, or are a day apart.
// Then all goes well, and what is left is settled. In the end:
//
//   - nothing is lost: who was told 250 for a recipient has him served, held, or
//     named in a report;
//   - nothing comes twice, but where a client repeats what has no Message-ID;
//   - nothing is in clear that the rules don't let go;
//   - nobody has a copy under a password that its sender was never told.
//
// A failure names its seed: -soakseed N -soak 1 repeats it.
func TestSoak(t *testing.T) {
	seed := *soakSeed
	if seed == 0 {
		seed = rand.Uint64() >> 24
	}
	t.Logf("seeds from %d on", seed)
	var sum soakSum
	var all sync.WaitGroup
	next := make(chan uint64)
	for range 2 * runtime.GOMAXPROCS(0) {
		all.Go(func() {
			for s := range next {
				sum.add(t, runSoak(t, newSoakPlan(s)))
			}
		})
	}
	for i := range uint64(*soakRuns) {
		if sum.tooMany() {
			break
		}
		next <- seed + i
	}
	close(next)
	all.Wait()
	t.Log(sum.String())
}

// soakSum counts what runs came to.
type soakSum struct {
	mu                                                        sync.Mutex // guards what follows
	runs, faults, kills, messages, copies, unknown, reports   int
	held, twiceNoID, failed, refused, unacked, ambiguous, cut int
	told, untold                                              int // passwords
	injected                                                  int // runs in which something went wrong beside the clients
	hit                                                       map[string]int
}

func (s *soakSum) tooMany() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed > 20
}

func (s *soakSum) String() string {
	return fmt.Sprintf("%d runs, %d of them injected, %d faults hit, %d processes killed, %d recipients of messages, %d copies, %d unknown and told, %d reports taken, %d held in the end, "+
		"%d refused and told, %d given up by clients, %d clients told that nobody knows, %d answers that clients lost, %d copies twice without Message-ID, "+
		"%d copies under a password that was told, %d whose notice the smarthost never took; hit %v",
		s.runs, s.injected, s.faults, s.kills, s.messages, s.copies, s.unknown, s.reports, s.held, s.refused, s.unacked, s.ambiguous, s.cut, s.twiceNoID, s.told, s.untold, s.hit)
}

func (s *soakSum) add(t *testing.T, w *soak) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.runs++
	s.kills += w.kills
	if w.written || w.kills+len(w.host.hits) > 0 {
		s.injected++
	}
	if s.hit == nil {
		s.hit = map[string]int{}
	}
	for _, f := range w.host.hits {
		s.faults++
		s.hit[f.Step]++
	}
	o := &w.sum
	s.messages += o.messages
	s.copies += o.copies
	s.unknown += o.unknown
	s.reports += o.reports
	s.held += o.held
	s.twiceNoID += o.twiceNoID
	s.refused += o.refused
	s.unacked += o.unacked
	s.ambiguous += o.ambiguous
	s.cut += o.cut
	s.told += o.told
	s.untold += o.untold
	if len(w.errs) > 0 {
		s.failed++
		t.Errorf("-soakseed %d -soak 1: %s\nplan: %s\n%s", w.plan.Seed, strings.Join(w.errs, "\n"), w.plan, strings.Join(w.events, "\n"))
		if *soakRuns == 1 {
			t.Log(w.log.String())
		}
	}
}

func (p *soakPlan) String() string {
	s := fmt.Sprintf("%+v", *p)
	for _, m := range p.Messages {
		s += fmt.Sprintf("\n   %+v", *m)
	}
	return s
}

// soak is one run.
type soak struct {
	t     *testing.T
	plan  *soakPlan
	host  *soakHost
	st    store.Store
	clock *clock
	dir   *soakDirectory
	rules *policy.Rules
	trust *tls.Config // nil without TLS upstream
	log   *lockedBuffer
	calm  chan struct{} // closed when nothing fails any more
	sum   soakSum

	mu     sync.Mutex // guards what follows
	nodes  []*life
	turn   int
	writes []soakWrite // of the lives to come
	kills  int
	// written: something was done at a write of the journal
	written bool
	events  []string
	errs    []string
}

func (w *soak) note(format string, args ...any) {
	w.host.note(format, args...)
}

func (w *soak) fail(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.errs = append(w.errs, fmt.Sprintf(format, args...))
}

// soakDirectory is a directory that learns.
type soakDirectory struct {
	mu sync.Mutex
	d  directory
}

func (l *soakDirectory) Find(ctx context.Context, a address.Address) (keydir.Finding, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.d.Find(ctx, a)
}

var soakRules = policy.Config{Default: policy.Require, Settings: policy.Settings{Missing: policy.ThenHold, Mixed: policy.MixedSplit}, Rules: []policy.Rule{
	{Name: "open", To: []string{"*@open.example"}, Mode: policy.Cleartext},
	{Name: "password", To: []string{"*@pw.example"}, Mode: policy.Require, Settings: policy.Settings{Missing: policy.ThenPassword}},
}}

func runSoak(t *testing.T, p *soakPlan) *soak {
	st, err := store.OpenMemory(queue.Schema)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	host, err := newSoakHost()
	if err != nil {
		t.Fatal(err)
	}
	defer host.close()
	w := &soak{t: t, plan: p, host: host, st: st, clock: &clock{now: time.Now()}, dir: &soakDirectory{d: directory{t: t, has: slices.Clone(sealed)}},
		rules: rules(t, soakRules), log: &lockedBuffer{}, calm: make(chan struct{}), nodes: make([]*life, p.Nodes), writes: p.Writes}
	host.mu.Lock()
	host.faults, host.kill = p.Faults, w.killOne
	if p.TLS {
		host.tls, w.trust = certify(t)
	}
	host.always = func(step, arg string) string {
		if step == "rcpt" && arg == p.Stubborn {
			return "450 4.2.1 never now"
		}
		if step == "rcpt" && arg == p.Never {
			return "550 5.1.1 nobody"
		}
		return ""
	}
	host.mu.Unlock()
	w.run()
	w.events = host.log
	return w
}

// run is the lives, the clients, and the settling.
func (w *soak) run() {
	var lives, clients sync.WaitGroup
	stop := make(chan struct{})
	for i := range w.nodes {
		lives.Go(func() { w.keepAlive(i, stop) })
	}
	fates := map[*soakMessage]*fate{}
	for _, m := range w.plan.Messages {
		f := &fate{acked: map[string]bool{}, refused: map[string]string{}}
		fates[m] = f
		clients.Go(func() { w.send(m, f, m.Breaks) })
		if m.Twice {
			clients.Go(func() { w.send(m, f, nil) })
		}
	}
	w.afterFaults(&clients)
	close(stop)
	lives.Wait()
	w.clock.advance(26 * time.Hour) // no dead node's lease lasts, whatever its clock said
	w.host.mu.Lock()
	w.host.calm = true
	w.host.mu.Unlock()
	w.mu.Lock()
	w.writes = nil
	w.mu.Unlock()
	w.note("calm")
	l, err := w.begin(0)
	if err != nil {
		w.fail("a process does not start: %v", err)
		close(w.calm)
		return
	}
	w.mu.Lock()
	w.nodes = []*life{l}
	w.mu.Unlock()
	close(w.calm)
	clients.Wait()
	if w.plan.Learn {
		w.dir.mu.Lock()
		w.dir.d.has = append(w.dir.d.has, heldFor)
		w.dir.mu.Unlock()
		l.server.Learned(addr(heldFor))
	}
	w.settle(l)
	if err := l.end(); err != nil {
		w.fail("the last process does not end: %v", err)
	}
	w.oracle(fates)
}

// afterFaults waits until all clients are done or wait for calm.
func (w *soak) afterFaults(clients *sync.WaitGroup) {
	done := make(chan struct{})
	go func() { clients.Wait(); close(done) }()
	for range 2000 {
		w.mu.Lock()
		idle := w.turn
		w.mu.Unlock()
		select {
		case <-done:
			return
		case <-time.After(20 * time.Millisecond):
		}
		w.mu.Lock()
		idle -= w.turn
		w.mu.Unlock()
		if idle == 0 { // nobody has begun anything
			return
		}
	}
}

// keepAlive starts a process whenever there is none.
func (w *soak) keepAlive(slot int, stop chan struct{}) {
	for {
		l, err := w.begin(slot)
		if err == nil {
			w.mu.Lock()
			w.nodes[slot] = l
			w.mu.Unlock()
			select {
			case <-stop:
			case <-l.dead:
			}
		}
		if l.isGone() {
			w.mu.Lock()
			w.kills++
			w.mu.Unlock()
		}
		if err := l.end(); err != nil {
			w.fail("a process that was killed or told to end is still there: %v", err)
		}
		select {
		case <-stop:
			return
		default:
		}
	}
}

// address is that of a process; the next time, of another.
func (w *soak) address() string {
	for range 2000 {
		w.mu.Lock()
		w.turn++
		for i := range w.nodes {
			if l := w.nodes[(w.turn+i)%len(w.nodes)]; l != nil && !l.isGone() {
				w.mu.Unlock()
				return l.addr
			}
		}
		w.mu.Unlock()
		time.Sleep(time.Millisecond)
	}
	return "127.0.0.1:1"
}

func (w *soak) killOne() {
	w.mu.Lock()
	l := w.nodes[0]
	w.mu.Unlock()
	if l != nil {
		l.die()
	}
}

// settle lets time pass until nothing waits.
func (w *soak) settle(l *life) {
	ctx := context.Background()
	for range 500 {
		w.clock.advance(2 * time.Hour)
		l.queue.Wake()
		for try := range 100 {
			c, err := l.queue.Counts(ctx)
			if err != nil {
				w.fail("counting: %v", err)
				return
			}
			onItsWay := c[queue.Waiting].Entries + c[queue.Sending].Entries + c[queue.Prepared].Entries
			if onItsWay+c[queue.Held].Entries == 0 {
				return
			}
			if onItsWay == 0 && !w.plan.Learn && try == 20 {
				w.clock.advance(10 * time.Hour) // what is held is given up, in the end
				break
			}
			if w.plan.Stubborn != "" && c[queue.Sending].Entries == 0 {
				time.Sleep(4 * time.Millisecond)
				break
			}
			time.Sleep(time.Millisecond)
		}
	}
	es, _ := l.queue.List(ctx, "", 100)
	w.fail("the queue is never settled: %+v", es)
}

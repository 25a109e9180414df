package main_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"letterlock.org/letterlock/internal/mailtest/peer"
)

var (
	nodeBlows = flag.Int("nodeblows", 4, "how many blows TestNodesUnderFire deals")
	nodeSeed  = flag.Uint64("nodeseed", 0, "the seed of TestNodesUnderFire; 0 is a random one")
)

// TestNodesUnderFire has several clients send through two relays that share a
// PostgreSQL, while at random moments a relay or the database is killed and
// started again, a relay stands still for longer than its lease, or the network
// between them is cut or silent. A client repeats what fails, at the other node.
// In the end nobody has two copies of a message, and who has none is named to its
// sender.
func TestNodesUnderFire(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("kills processes for some seconds")
	}
	f := newFire(t, peer.Postgres(t), *nodeSeed)
	f.deeds = f.deaths()
	url := f.db.Fresh()
	var lines []*peer.Cable
	for range 2 {
		line, addr := f.db.Gateway(), fmt.Sprintf("127.0.0.1:%d", peer.FreePort(t))
		lines, f.addrs = append(lines, line), append(f.addrs, addr)
		f.node(addr, strings.Replace(url, fmt.Sprintf("127.0.0.1:%d", f.db.Port), line.Addr, 1)).serve(1)
	}
	f.deeds = append(f.deeds, cableCuts(lines)...)
	f.burn(*nodeBlows)
}

// fire is two nodes and what befalls them.
type fire struct {
	t     *testing.T
	r     *rand.Rand
	w     *world
	db    *peer.PostgresServer
	sink  *peer.Sink
	nodes []*bridge
	addrs []string // where clients reach each node
	deeds []deed   // what may befall them

	mu     sync.Mutex // guards what follows
	fates  map[string]*firedAt
	retry  int
	blows  []string
	stones []string // what clients heard for the last time
}

// many get blind copies, each a ciphertext of his own: more than are sent at once,
// so that some go by the queue.
var many = []string{known, known2, "k3@example.net", "k4@example.net", "k5@example.net", "k6@example.net"}

// firedAt is a message and what its client knows.
type firedAt struct {
	rcpts            []string
	acked, ambiguous bool
}

func newFire(t *testing.T, db *peer.PostgresServer, seed uint64) *fire {
	if seed == 0 {
		seed = rand.Uint64() >> 40
	}
	t.Logf("-nodeseed %d", seed)
	f := &fire{t: t, r: rand.New(rand.NewPCG(seed, 1)), db: db, sink: peer.StartSink(t), fates: map[string]*firedAt{}}
	f.w, _ = newRelayWorld(t, f.sink.Addr, "")
	f.w.strangers(many[2:]...)
	return f
}

// node adds a node that listens at addr and has the database at url.
func (f *fire) node(addr, url string) *bridge {
	b := f.w.configure(fmt.Sprintf("node%d", len(f.nodes)), relayConfig(f.w, addr, f.sink.Addr,
		fmt.Sprintf("[policy]\nmixed = \"split\"\n[store]\nurl = %q\ntakeover = \"4s\"", url)))
	f.nodes = append(f.nodes, b)
	return b
}

// burn has clients send while n things befall the nodes, and judges what became
// of their messages.
func (f *fire) burn(n int) {
	var clients sync.WaitGroup
	stop := make(chan struct{})
	for c := range 6 {
		clients.Go(func() { f.client(c, stop) })
	}
	for range n {
		time.Sleep(time.Duration(500+f.r.IntN(1500)) * time.Millisecond)
		d := f.deeds[f.r.IntN(len(f.deeds))]
		f.mu.Lock()
		f.blows = append(f.blows, d.name)
		f.mu.Unlock()
		d.do(f.r.IntN(2), time.Duration(200+f.r.IntN(2000))*time.Millisecond)
	}
	close(stop)
	clients.Wait()
	f.settle()
	f.judge()
	f.w.stop() // while its lines are whole
}

// client sends one message after another.
func (f *fire) client(n int, stop chan struct{}) {
	for k := 0; ; k++ {
		select {
		case <-stop:
			return
		default:
		}
		id := fmt.Sprintf("<%d.%d@example.org>", n, k)
		m := &firedAt{rcpts: [][]string{{known}, {known, known2}, {unknown, known}, many}[(n+k)%4]}
		f.mu.Lock()
		f.fates[id] = m
		f.mu.Unlock()
		raw := relayMail("ann@example.org", m.rcpts[0], "Message-ID: "+id+"\n")
		if slices.Contains(m.rcpts, unknown) {
			raw = bytes.ReplaceAll(raw, []byte(relayCanary), []byte("nothing secret"))
		}
		f.sendUntilTold(id, m, n+k, raw)
	}
}

// sendUntilTold repeats a message, at each node in turn, for two minutes at most.
func (f *fire) sendUntilTold(id string, m *firedAt, node int, raw []byte) {
	for end := time.Now().Add(2 * time.Minute); ; node++ {
		err := f.send(f.addrs[node%2], m.rcpts, raw)
		var r *smtp.SMTPError
		switch {
		case err == nil:
			f.mu.Lock()
			m.acked = true
			f.mu.Unlock()
			return
		case errors.As(err, &r) && strings.Contains(r.Message, "did not confirm"):
			f.mu.Lock()
			m.ambiguous = true
			f.mu.Unlock()
			return
		case errors.As(err, &r) && r.Code/100 == 5, time.Now().After(end):
			f.mu.Lock()
			f.stones = append(f.stones, fmt.Sprintf("%s: %v", id, err))
			f.mu.Unlock()
			return
		}
		f.mu.Lock()
		f.retry++
		f.mu.Unlock()
		time.Sleep(150 * time.Millisecond)
	}
}

func (f *fire) send(addr string, to []string, raw []byte) error {
	c, err := smtp.Dial(addr)
	if err != nil {
		return err
	}
	defer c.Close()
	c.CommandTimeout, c.SubmissionTimeout = 20*time.Second, 30*time.Second
	return c.SendMail("ann@example.org", to, bytes.NewReader(raw))
}

// leftOver is an entry of queue list.
type leftOver struct {
	State      string
	MessageID  string `json:"message_id"`
	Recipients []string
}

func (f *fire) list() (es []leftOver) {
	out := f.nodes[0].command("queue", "list", "--json")
	for d := json.NewDecoder(strings.NewReader(out)); d.More(); {
		var one json.RawMessage
		if err := d.Decode(&one); err != nil {
			f.t.Fatalf("%v: %s", err, out)
		}
		var e leftOver
		var many []leftOver
		if json.Unmarshal(one, &many) == nil {
			es = append(es, many...)
		} else if err := json.Unmarshal(one, &e); err != nil {
			f.t.Fatalf("%v: %s", err, out)
		} else {
			es = append(es, e)
		}
	}
	return es
}

// settle waits until nothing is on its way any more.
func (f *fire) settle() {
	var es []leftOver
	for range 300 {
		es = f.list()
		if !slices.ContainsFunc(es, func(e leftOver) bool { return e.State != "unknown" && e.State != "failed" }) {
			return
		}
		time.Sleep(300 * time.Millisecond)
	}
	f.t.Errorf("never settled: %+v", es)
}

var idField = regexp.MustCompile(`(?mi)^Message-ID: (<[^>]*>)`)

func (f *fire) judge() {
	copies, told := map[string]int{}, map[string]bool{}
	for _, d := range f.sink.Received() {
		if clear(d) {
			f.t.Errorf("in clear to %v", d.To)
		}
		ids := idField.FindAllStringSubmatch(string(d.Raw), -1)
		if len(ids) == 0 {
			f.t.Errorf("without Message-ID: %.300s", d.Raw)
			continue
		}
		for _, to := range d.To {
			copies[ids[0][1]+to]++
		}
		if strings.Contains(string(d.Raw), "report-type=delivery-status") {
			told[ids[len(ids)-1][1]] = true
		}
	}
	unknowns := map[string]bool{}
	for _, e := range f.list() {
		for _, r := range e.Recipients {
			if e.State == "unknown" {
				unknowns[e.MessageID+r] = true
			}
		}
	}
	sums := map[string]int{}
	for id, m := range f.fates {
		for _, to := range m.rcpts {
			n := copies[id+to]
			sums["recipients"]++
			sums["copies"] += n
			switch {
			case n > 1:
				f.t.Errorf("TWICE: %s has %d copies of %s", to, n, id)
			case n == 1 && unknowns[id+to]:
				sums["delivered, and told that nobody knows"]++
			case n == 1:
			case m.ambiguous || told[id]:
				sums["not delivered, and told"]++
			case m.acked:
				f.t.Errorf("LOST: %s has no copy of %s, and its client was told 250", to, id)
			default:
				sums["given up by its client"]++
			}
		}
	}
	f.t.Logf("%d messages, %d retries, %v; blows %v; given up %v", len(f.fates), f.retry, sums, f.blows, f.stones)
	if len(f.stones) > 0 {
		f.t.Errorf("clients were never told: %v", f.stones)
	}
}

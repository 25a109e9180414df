package smtpd_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// soakPlan is everything that is decided about a run before it begins: the seed
// gives the plan, and the plan the run, but for the order of what is concurrent.
type soakPlan struct {
	Seed      uint64
	Nodes     int
	TLS, Slow bool
	Faults    []soakFault
	Writes    []soakWrite // of the first process, the second, and so on
	Messages  []*soakMessage
	Skew      time.Duration // of the second process's clock
	Learn     bool          // the certificate of who has none appears in the end
	Stubborn  string        // whom the smarthost defers for ever
	Never     string        // whom it refuses
}

// soakWrite is what happens at a write of the journal; 0 is none.
type soakWrite struct {
	N   int
	How string // kill before, kill after, fail before, fail after; a day on, a day back: the clock jumps
}

// soakMessage is one message and how its client goes about it.
type soakMessage struct {
	ID      string // Message-ID; "" for none
	Rcpts   []string
	To      []string // those among them who are named; the others are blind
	Size    int
	Clear   bool // one of them gets it in clear by a rule
	Chunks  bool // it comes by BDAT
	MTA     bool // the client is a server: it goes on with those who are taken
	Twice   bool // a second client hands in the same at the same time
	Tries   int  // before the end of the faults
	Patient bool // it goes on after that
	// Breaks is what the client does to its attempts, in order: "" nothing, "body"
	// it leaves in the middle, "reply" it leaves without having read the answer.
	Breaks []string
}

var (
	sealed    = []string{"bob@example.net", "carol@example.net", "dave@example.net", "erin@example.net", "frank@example.net"}
	heldFor   = "zoe@hold.example"
	inClear   = "olga@open.example"
	lockedFor = "paul@pw.example"
)

func pick[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

func newSoakPlan(seed uint64) *soakPlan {
	r := rand.New(rand.NewPCG(seed, 0x50a4))
	p := &soakPlan{Seed: seed, Nodes: pick(r, 1, 1, 1, 2), TLS: r.IntN(6) == 0, Slow: r.IntN(12) == 0, Learn: r.IntN(2) == 0}
	for range pick(r, 1, 1, 1, 2, 2, 3) {
		m := newSoakMessage(r, len(p.Messages))
		if m.ID == "" && slices.ContainsFunc(p.Messages, func(o *soakMessage) bool { return o.ID == "" }) {
			m.ID = fmt.Sprintf("<m%d@example.org>", len(p.Messages)) // nobody could tell their copies apart
		}
		p.Messages = append(p.Messages, m)
	}
	for range pick(r, 0, 1, 1, 1, 2, 3) {
		p.Faults = append(p.Faults, p.fault(r))
	}
	for range pick(r, 0, 0, 1, 1, 2, 3) {
		p.Writes = append(p.Writes, soakWrite{pick(r, 0, 1, 2, 2, 3, 3, 4, 5, 6, 8), pick(r, "kill before", "kill after", "kill before", "kill after", "fail before", "fail after", "a day on", "a day back")})
	}
	if p.Nodes > 1 {
		p.Skew = pick(r, 0, 0, 24*time.Hour, -24*time.Hour)
	}
	if r.IntN(12) == 0 {
		p.Stubborn = pick(r, sealed...)
	}
	if r.IntN(12) == 0 {
		p.Never = pick(r, sealed...)
	}
	return p
}

// fault picks one, most where it is most delicate.
func (p *soakPlan) fault(r *rand.Rand) soakFault {
	step := pick(r, "connect", "ehlo", "auth", "mail", "rcpt", "rcpt", "data", "body", "body", "dot", "dot", "dot", "dot", "dot")
	if p.TLS && r.IntN(4) == 0 {
		step = "tls"
	}
	f := pick(r, soakFaults[step]...)
	if p.Slow && slowFaults[step] != nil {
		f = pick(r, slowFaults[step]...)
	}
	if r.IntN(5) == 0 {
		f = soakFault{Say: pick(r, "", "", f.Say), Kill: pick(r, "before", "after")}
		if step == "body" || step == "data" {
			f.Say = "" // what it says of a message, and takes it, or doesn't read it, is its lie
		}
	}
	f.Step, f.Nth = step, 1+r.IntN(6)
	if step == "connect" || step == "ehlo" || step == "auth" || step == "tls" {
		f.Nth = 1 + r.IntN(3)
	}
	return f
}

func newSoakMessage(r *rand.Rand, n int) *soakMessage {
	m := &soakMessage{ID: fmt.Sprintf("<m%d@example.org>", n), Size: pick(r, 0, 0, 0, 0, 0, 0, 200<<10), Chunks: r.IntN(5) == 0, MTA: r.IntN(3) == 0,
		Twice: r.IntN(8) == 0, Tries: 2 + r.IntN(6), Patient: r.IntN(5) > 0}
	if r.IntN(20) == 0 {
		m.ID = ""
	}
	m.Rcpts = slices.Clone(sealed)
	r.Shuffle(len(m.Rcpts), func(i, j int) { m.Rcpts[i], m.Rcpts[j] = m.Rcpts[j], m.Rcpts[i] })
	m.Rcpts = m.Rcpts[:1+r.IntN(5)]
	if r.IntN(4) == 0 {
		m.Rcpts[r.IntN(len(m.Rcpts))] = heldFor
	}
	if r.IntN(8) == 0 {
		m.Rcpts[0], m.Clear = inClear, true
	}
	if r.IntN(24) == 0 {
		m.Rcpts[len(m.Rcpts)-1] = lockedFor
		m.Clear = m.Clear && len(m.Rcpts) > 1
	}
	m.Clear = slices.Contains(m.Rcpts, inClear)
	for _, a := range m.Rcpts {
		if r.IntN(3) > 0 {
			m.To = append(m.To, a)
		}
	}
	for range pick(r, 0, 0, 0, 1, 2) {
		m.Breaks = append(m.Breaks, pick(r, "", "body", "reply", "reply"))
	}
	return m
}

// retries is what a client waits between two attempts.
const retries = 2 * time.Millisecond

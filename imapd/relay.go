package imapd

import (
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"letterlock.org/letterlock/imapd/wire"
)

// maxInFlight bounds the commands that a client may have under way.
const maxInFlight = 256

// relay carries commands up and responses down. The session's command goroutine
// sends; the responder goroutine reads the upstream and writes to the client.
type relay struct {
	s    *session
	done chan struct{} // closed when the responder ends
	gone chan struct{} // closed after its last words

	mu    sync.Mutex
	cond  *sync.Cond
	queue []*pending // guarded by mu: commands in the client's order
	err   error      // guarded by mu: why the relay ended
	tags  int        // of the command goroutine
	dones int        // guarded by mu: DONEs that may have met no IDLE
	last  *pending   // of the command goroutine: what was sent last, if it has a literal

	opening atomic.Pointer[fetchJob] // the barrier that has workers, or nil
	working atomic.Int64             // messages being opened for the client
	begun   atomic.Int64             // Unix nanoseconds since when a command of the client's is carried out; 0: none

	holding bool      // of the responder: it holds the output
	flags   []byte    // of the responder: FLAGS of the response under way
	busy    time.Time // guarded by mu: since when the client waits
}

// pending is a command under way.
type pending struct {
	upTag string // "" for what we answer ourselves
	tag   string // the client's; "" for a command of our own
	// quiet is set for commands during which no EXPUNGE may be sent
	// (RFC 3501, Section 7.4.1).
	quiet bool
	// untagged is asked first what to do with each untagged response while the
	// command is the first in the queue. Run by the responder.
	untagged func(h wire.Head) (handled bool, err error)
	// continued is called upon a continuation request. Run by the responder.
	continued func() error
	// job is a FETCH for content that streams through.
	job *fetchJob
	// copyTo is where COPY and MOVE put messages; the index follows.
	copyTo string
	// tagged may change the tagged response, given without its tag. Run by the
	// responder.
	tagged func(line []byte) []byte

	begun    int64         // relay.begun when it was sent, or its answer made
	cont     chan struct{} // a continuation request came
	finished chan struct{} // closed when its tagged response came
	answer   []byte        // of a local answer, or a tagged response held back
	complete bool          // guarded by relay.mu
	status   string        // OK, NO or BAD; valid after finished
	line     []byte        // tagged response without tag; valid after finished
}

var errEnded = errors.New("upstream connection ended")

func newRelay(s *session) *relay {
	r := &relay{s: s, done: make(chan struct{}), gone: make(chan struct{})}
	r.cond = sync.NewCond(&r.mu)
	s.up.conn.beforeRead, s.up.conn.patience = r.beforeRead, r.patience
	return r
}

// beforeRead sends what the client waits for, before the responder blocks.
func (r *relay) beforeRead() {
	if r.holding {
		_ = r.s.out.w.Flush()
		return
	}
	defer r.s.forgetNow()
	_ = r.s.out.flush()
}

// patience is how long the upstream may say nothing: where it was asked nothing,
// longer than the client may, whose silence is why.
func (r *relay) patience() time.Duration {
	if p := r.head(); p != nil && p.continued == nil {
		return r.s.srv.c.IOTimeout
	}
	return r.s.srv.c.IdleTimeout + r.s.srv.c.IOTimeout
}

// hold begins a response to the client.
func (r *relay) hold() *output {
	r.s.out.Lock()
	r.holding = true
	return r.s.out
}

func (r *relay) release() {
	r.holding = false
	r.s.out.Unlock()
}

// forward sends a command for the client and doesn't wait for its answer.
func (r *relay) forward(tag string, o *wire.Out, p *pending) error {
	p.tag = tag
	return r.send(o, p)
}

// run sends a command of our own and waits for its end. Its tagged response
// isn't passed on.
func (r *relay) run(o *wire.Out, p *pending) (status string, line []byte, err error) {
	if err := r.send(o, p); err != nil {
		return "", nil, err
	}
	if err := r.s.up.w.Flush(); err != nil {
		return "", nil, err
	}
	return r.await(p)
}

// await waits for the end of a command that was sent.
func (r *relay) await(p *pending) (status string, line []byte, err error) {
	select {
	case <-p.finished:
		return p.status, p.line, nil
	case <-r.done:
		select {
		case <-p.finished:
			return p.status, p.line, nil
		default:
		}
		return "", nil, r.failure()
	}
}

// send puts p in the queue and writes o.
func (r *relay) send(o *wire.Out, p *pending) error {
	if err := r.afterLiteral(); err != nil {
		return err
	}
	if err := r.enqueue(p); err != nil {
		return err
	}
	w := r.s.up.w
	_, _ = w.WriteString(p.upTag)
	_ = w.WriteByte(' ')
	for _, part := range o.Parts {
		if !part.Literal {
			_, _ = w.Write(part.Bytes)
			continue
		}
		r.last = p
		ok, err := r.announce(p, int64(len(part.Bytes)))
		if err != nil || !ok {
			return err
		}
		_, _ = w.Write(part.Bytes)
	}
	_, err := w.WriteString("\r\n")
	return err
}

// afterLiteral waits for the end of a command with a literal: some servers lose a
// command that comes at once behind one (Apache James up to 3.9).
func (r *relay) afterLiteral() error {
	p := r.last
	if p == nil {
		return nil
	}
	r.last = nil
	if p.over() {
		return nil
	}
	if err := r.s.up.w.Flush(); err != nil {
		return err
	}
	_, _, err := r.await(p)
	return err
}

// announce announces a literal; not ok means that the upstream refused it, and
// that the command is over.
func (r *relay) announce(p *pending, n int64) (ok bool, err error) {
	u := r.s.up
	if u.has("LITERAL+") || u.has("LITERAL-") && n <= 4096 {
		_, err := fmt.Fprintf(u.w, "{%d+}\r\n", n)
		return true, err
	}
	return r.offer(p, n)
}

// offer announces a literal and waits until the upstream asks for it, whatever it
// could do: Dovecot takes a literal that it didn't ask for to be commands if the
// arguments before it are wrong.
func (r *relay) offer(p *pending, n int64) (ok bool, err error) {
	u := r.s.up
	_, _ = fmt.Fprintf(u.w, "{%d}\r\n", n)
	if err := u.w.Flush(); err != nil {
		return false, err
	}
	select {
	case <-p.cont:
		return true, nil
	case <-p.finished:
		return false, nil
	case <-r.done:
		return false, r.failure()
	}
}

func (r *relay) enqueue(p *pending) error {
	r.tags++
	p.upTag = "L" + strconv.Itoa(r.tags)
	p.finished = make(chan struct{})
	p.cont = make(chan struct{}, 1)
	p.begun = r.begun.Load()
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.room(); err != nil {
		return err
	}
	if len(r.queue) == 0 && p.continued == nil {
		r.busy = time.Now()
		r.waitAnew() // the responder may be waiting with an idle client's patience
	}
	r.queue = append(r.queue, p)
	return nil
}

// waitAnew gives the upstream time from now on to say something.
func (r *relay) waitAnew() {
	_ = r.s.up.conn.SetReadDeadline(time.Now().Add(r.s.srv.c.IOTimeout))
}

// room waits until there is room in the queue. The caller holds mu.
func (r *relay) room() error {
	for len(r.queue) >= maxInFlight && r.err == nil {
		r.mu.Unlock()
		err := r.s.up.w.Flush()
		r.mu.Lock()
		if err != nil {
			return err
		}
		if len(r.queue) >= maxInFlight && r.err == nil {
			r.cond.Wait()
		}
	}
	return r.err
}

// local answers without the upstream, after what is under way. Run by the command
// goroutine.
func (r *relay) local(answer string) {
	r.mu.Lock()
	if err := r.room(); err != nil && len(r.queue) > 0 {
		r.mu.Unlock()
		return // what it would come behind is not answered either
	}
	if len(r.queue) > 0 {
		r.queue = append(r.queue, &pending{complete: true, answer: []byte(answer), begun: r.begun.Load()})
		r.mu.Unlock()
		return
	}
	r.mu.Unlock()
	r.s.out.Lock()
	defer r.s.out.Unlock()
	r.answered(r.begun.Load())
	_, _ = r.s.out.w.WriteString(answer)
}

// answered notes that a command of the client's has its answer, which nothing is to
// follow that is for somebody who waits. The caller holds the output.
func (r *relay) answered(begun int64) {
	if begun != 0 {
		r.begun.CompareAndSwap(begun, 0)
	}
}

// barrier waits until nothing is under way.
func (r *relay) barrier() error {
	if err := r.s.up.w.Flush(); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.queue) > 0 && r.err == nil {
		r.cond.Wait()
	}
	return r.err
}

// logout ends the upstream connection politely, after what is under way. It doesn't
// wait long for an upstream that says nothing.
func (r *relay) logout() {
	if r.barrier() != nil {
		return
	}
	p := &pending{untagged: func(h wire.Head) (bool, error) {
		return true, r.s.up.r.Copy(nil)
	}}
	late := time.AfterFunc(r.s.srv.c.KeepAlive/2, func() { _ = r.s.up.conn.Close() })
	defer late.Stop()
	_, _, _ = r.run((&wire.Out{}).String("LOGOUT"), p)
}

// inFlight tells whether any command under way may make EXPUNGE responses come.
func (r *relay) inFlight() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.queue) > 0
}

// head is the first command under way, or nil.
func (r *relay) head() *pending {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.queue) == 0 {
		return nil
	}
	return r.queue[0]
}

// jobs are the FETCHes for content under way.
func (r *relay) jobs() []*fetchJob {
	r.mu.Lock()
	defer r.mu.Unlock()
	var jobs []*fetchJob
	for _, p := range r.queue {
		if p.job != nil && !p.complete {
			jobs = append(jobs, p.job)
		}
	}
	return jobs
}

// find gives the first command under way for which is holds, or nil. Servers
// may work on any of those that they have.
func (r *relay) find(is func(*pending) bool) *pending {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.queue {
		if p.upTag != "" && !p.complete && is(p) {
			return p
		}
	}
	return nil
}

func (r *relay) failure() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		return errEnded
	}
	return r.err
}

// over tells whether the upstream is gone.
func (r *relay) over() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err != nil
}

// wait returns when the responder has said all that it had to say.
func (r *relay) wait() { <-r.gone }

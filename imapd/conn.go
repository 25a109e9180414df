package imapd

import (
	"bufio"
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// patientConn gives each read and write a deadline of its own, so that what
// counts is progress and not the size of a message. Before a read that may
// block it calls beforeRead, which sends what waits in buffers.
type patientConn struct {
	net.Conn
	read, write atomic.Int64 // time.Duration
	beforeRead  func()
	// patience stands for read where it is set. Whoever changes what it says shortens
	// the deadline of a read under way after that.
	patience func() time.Duration
	// heard is when the other side was last told something: it need say nothing while
	// it is. nil means never.
	heard  func() time.Time
	failed atomic.Bool // to write
	// woken is asked by the goroutine that reads, after wake: an error ends the
	// read, and is what it returns. nil goes on reading. Where it is set, nobody else
	// shortens the deadline of a read, and patience is nil.
	woken  func() error
	waking atomic.Bool // wake was called
	// quiet is set by the goroutine that reads; the first byte clears it.
	quiet atomic.Bool
}

func newPatientConn(c net.Conn, read, write time.Duration) *patientConn {
	p := &patientConn{Conn: c}
	p.read.Store(int64(read))
	p.write.Store(int64(write))
	return p
}

func (p *patientConn) Read(b []byte) (int, error) {
	if p.beforeRead != nil {
		p.beforeRead()
	}
	for {
		patience := p.patient()
		until := time.Now().Add(patience)
		_ = p.Conn.SetReadDeadline(until)
		if p.patient() < patience {
			continue // it was shortened before the deadline was set
		}
		if p.waking.Swap(false) { // after the deadline was set, which wake cuts short
			if err := p.woken(); err != nil {
				return 0, err
			}
		}
		n, err := p.Conn.Read(b)
		if n > 0 && p.quiet.Load() {
			p.quiet.Store(false)
		}
		if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
		woke := p.woken != nil && time.Now().Before(until)
		if busy := p.heard != nil && time.Since(p.heard()) < patience; !woke && !busy {
			return n, err
		}
	}
}

// patient is how long a read may take.
func (p *patientConn) patient() time.Duration {
	if p.patience != nil {
		return p.patience()
	}
	return time.Duration(p.read.Load())
}

// Write implements net.Conn. What was not written whole is followed by nothing: the
// connection is closed then, so that whoever reads notices too.
func (p *patientConn) Write(b []byte) (int, error) {
	_ = p.Conn.SetWriteDeadline(time.Now().Add(time.Duration(p.write.Load())))
	n, err := p.Conn.Write(b)
	if err != nil {
		p.failed.Store(true)
		_ = p.Conn.Close()
	}
	return n, err
}

// wake has whoever reads next ask woken, and with now whoever reads at the moment:
// nobody else may use the connection then. It may be called by any goroutine.
func (p *patientConn) wake(now bool) {
	p.waking.Store(true)
	if now {
		_ = p.Conn.SetReadDeadline(time.Unix(1, 0))
	}
}

// output is what goes to the client. Whoever writes a response holds it from
// its first to its last byte, or breaks it off.
type output struct {
	sync.Mutex
	w    *bufio.Writer // guarded by Mutex
	last atomic.Int64  // when something was last sent, in Unix nanoseconds
}

func newOutput(c net.Conn) *output {
	o := &output{}
	o.w = bufio.NewWriterSize(stamped{c, o}, 64<<10)
	return o
}

// stamped notes when something was sent.
type stamped struct {
	c net.Conn
	o *output
}

func (s stamped) Write(b []byte) (int, error) {
	n, err := s.c.Write(b)
	s.o.last.Store(time.Now().UnixNano())
	return n, err
}

// breakOff ends the output within a response: what is written after it, BYE for one,
// goes nowhere, since a client would take it for the rest of a literal. The caller
// holds o.
func (o *output) breakOff() {
	_ = o.w.Flush()
	o.w.Reset(nowhere{})
}

type nowhere struct{}

func (nowhere) Write([]byte) (int, error) { return 0, errBrokenOff }

var errBrokenOff = errors.New("a response to the client was broken off")

// line writes one response, given without its line end.
func (o *output) line(s string) {
	o.Lock()
	defer o.Unlock()
	_, _ = o.w.WriteString(s)
	_, _ = o.w.WriteString("\r\n")
}

// flush sends what waits.
func (o *output) flush() error {
	o.Lock()
	defer o.Unlock()
	return o.w.Flush()
}

// tryFlush sends what waits, unless somebody is writing: they flush then.
func (o *output) tryFlush() {
	if o.TryLock() {
		defer o.Unlock()
		_ = o.w.Flush()
	}
}

package imapd

import (
	"bufio"
	"net"
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
	_ = p.Conn.SetReadDeadline(time.Now().Add(time.Duration(p.read.Load())))
	return p.Conn.Read(b)
}

func (p *patientConn) Write(b []byte) (int, error) {
	_ = p.Conn.SetWriteDeadline(time.Now().Add(time.Duration(p.write.Load())))
	return p.Conn.Write(b)
}

// output is what goes to the client. Whoever writes a response holds it from
// its first to its last byte.
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

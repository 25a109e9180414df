package peer

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// Cable passes connections on to a server. It can be cut, and silenced: then
// bytes are swallowed, in one direction or both, and nobody is told.
type Cable struct {
	Addr string

	dial   func() (net.Conn, error)
	mu     sync.Mutex // guards conns
	conns  map[net.Conn]bool
	refuse atomic.Bool
	// Up and Down swallow what goes to the server, and what comes from it.
	Up, Down atomic.Bool
	// OnUp, if set before the first connection, sees every piece that goes to the
	// server before it goes.
	OnUp func(piece []byte)
}

func newCable(t testing.TB, target string) *Cable {
	t.Helper()
	return layCable(t, func() (net.Listener, error) { return net.Listen("tcp", "127.0.0.1:0") },
		func() (net.Conn, error) { return net.Dial("tcp", target) })
}

func layCable(t testing.TB, listen func() (net.Listener, error), dial func() (net.Conn, error)) *Cable {
	t.Helper()
	l, err := listen()
	if err != nil {
		t.Fatal(err)
	}
	c := &Cable{Addr: l.Addr().String(), dial: dial, conns: map[net.Conn]bool{}}
	t.Cleanup(func() { l.Close(); c.Cut() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			if c.refuse.Load() {
				in.Close()
				continue
			}
			go c.join(in)
		}
	}()
	return c
}

func (c *Cable) join(in net.Conn) {
	out, err := c.dial()
	if err != nil {
		in.Close()
		return
	}
	c.mu.Lock()
	c.conns[in], c.conns[out] = true, true
	c.mu.Unlock()
	var wg sync.WaitGroup
	wg.Go(func() { c.pass(out, in, &c.Up, true) })
	wg.Go(func() { c.pass(in, out, &c.Down, false) })
	wg.Wait()
	c.mu.Lock()
	delete(c.conns, in)
	delete(c.conns, out)
	c.mu.Unlock()
}

func (c *Cable) pass(to, from net.Conn, swallow *atomic.Bool, up bool) {
	defer to.Close()
	defer from.Close()
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		if up && c.OnUp != nil && n > 0 {
			c.OnUp(b[:n])
		}
		if n > 0 && !swallow.Load() {
			if _, err := to.Write(b[:n]); err != nil {
				return
			}
		}
		if err == io.EOF || err != nil {
			return
		}
	}
}

// Cut ends every connection, and refuses new ones until Mend.
func (c *Cable) Cut() {
	c.refuse.Store(true)
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn := range c.conns {
		conn.Close()
	}
}

// Mend lets connections through again.
func (c *Cable) Mend() { c.refuse.Store(false); c.Up.Store(false); c.Down.Store(false) }

package mailtest

import (
	"bytes"
	"net"
	"sync"
)

// recorder keeps what connections received.
type recorder struct {
	mu    sync.Mutex // guards conns and what they recorded
	conns []*bytes.Buffer
}

func (r *recorder) bytes() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []byte
	for _, c := range r.conns {
		all = append(all, c.Bytes()...)
		all = append(all, '\n')
	}
	return all
}

// listener records everything that its connections read.
type listener struct {
	net.Listener
	r *recorder
}

func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.r.mu.Lock()
	defer l.r.mu.Unlock()
	b := new(bytes.Buffer)
	l.r.conns = append(l.r.conns, b)
	return &conn{Conn: c, r: l.r, b: b}, nil
}

type conn struct {
	net.Conn
	r *recorder
	b *bytes.Buffer
}

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.r.mu.Lock()
	defer c.r.mu.Unlock()
	c.b.Write(p[:n])
	return n, err
}

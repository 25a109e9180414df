package server_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"letterlock.org/letterlock/keydir"
)

// endless is a connection that asks n times and throws the answers away.
type endless struct {
	requests [][]byte
	left     int
	rest     []byte
	written  int
	closed   chan struct{}
}

func (c *endless) Read(b []byte) (int, error) {
	if len(c.rest) == 0 {
		if c.left == 0 {
			return 0, io.EOF
		}
		c.left--
		c.rest = c.requests[c.left%len(c.requests)]
	}
	n := copy(b, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

func (c *endless) Write(b []byte) (int, error)      { c.written += len(b); return len(b), nil }
func (c *endless) Close() error                     { close(c.closed); return nil }
func (c *endless) LocalAddr() net.Addr              { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }
func (c *endless) RemoteAddr() net.Addr             { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 2} }
func (c *endless) SetDeadline(time.Time) error      { return nil }
func (c *endless) SetReadDeadline(time.Time) error  { return nil }
func (c *endless) SetWriteDeadline(time.Time) error { return nil }

// once is a listener with one connection.
type once struct {
	c    chan net.Conn
	done chan struct{}
}

func (l once) Accept() (net.Conn, error) {
	select {
	case c := <-l.c:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}
func (l once) Close() error   { return nil }
func (l once) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

// BenchmarkAnswer is what a look-up costs without the system's part in it.
func BenchmarkAnswer(b *testing.B) {
	d, _ := directory(b)
	if err := d.Fill(ctx, 1000, "example.org", noise); err != nil {
		b.Fatal(err)
	}
	c := &endless{left: b.N, closed: make(chan struct{})}
	for i := range 1000 {
		c.requests = append(c.requests, fmt.Appendf(nil, "GET /.well-known/openpgpkey/example.org/hu/%s HTTP/1.1\r\nHost: openpgpkey.example.org\r\n\r\n", keydir.WKDHash(fmt.Sprintf("user%d", i))))
	}
	l := once{make(chan net.Conn, 1), make(chan struct{})}
	h := handler(d)
	serving, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	b.ReportAllocs()
	b.ResetTimer()
	l.c <- c
	go func() { ended <- h.Serve(serving, l, nil, time.Second) }()
	<-c.closed
	b.StopTimer()
	cancel()
	close(l.done)
	<-ended
	if c.written < b.N*640 {
		b.Errorf("%d bytes were written", c.written)
	}
}

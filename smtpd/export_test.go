package smtpd

import (
	"io"
	"net"
	"time"

	"letterlock.org/letterlock/internal/message"
)

// SetFailpoint has f called at the steps of a delivery; for tests.
func SetFailpoint(f func(step string)) (restore func()) {
	old := failpoints.Swap(&f)
	return func() { failpoints.Store(old) }
}

// Answered lists the IDs that the reply rule asks about.
func Answered(raw []byte) []string {
	src := message.Bytes(raw)
	root, err := message.Parse(src, message.Limits{})
	if err != nil {
		return nil
	}
	return answered(src, root, false)
}

// Stuff writes a body as it goes over the wire, without the final dot.
func Stuff(w io.Writer, src message.Source) error {
	a, b := net.Pipe()
	defer a.Close()
	done := make(chan error, 1)
	go func() { _, err := io.Copy(w, b); done <- err }()
	l := newLink(a, time.Minute)
	if err := l.body(src); err != nil {
		return err
	}
	if err := l.flush(); err != nil {
		return err
	}
	a.Close()
	return <-done
}

// ReadReply reads one reply of an upstream.
func ReadReply(r net.Conn) (code int, status, text string, err error) {
	rep, err := newLink(r, time.Second).reply(time.Second)
	return rep.Code, rep.Status, rep.Text, err
}

// QuotesHeader tells whether a text may quote the header of a message.
var QuotesHeader = quotesHeader

package smtpd

import (
	"bytes"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// errHTTP means that a browser speaks at the port: a web page tries to reach us
// through it (cross-protocol request forgery).
var errHTTP = errors.New("HTTP at a mail port")

// errEnded means that we have ended the connection.
var errEnded = errors.New("connection ended")

// guard is a client's connection whose first read error is permanent. go-smtp
// reads on after an error inside DATA and would take the rest of the message
// for commands (go-smtp issue 196); with guard there is no rest.
type guard struct {
	net.Conn
	idle     time.Duration // for the next bytes to come, and for one write to pass
	tls      bool          // TLS from the first byte; STARTTLS lies above
	since    time.Time     // it began
	loggedIn atomic.Bool   // its client has given the right password
	first    bool          // nothing was read yet; only the reader uses it

	mu    sync.Mutex // guards err
	err   error
	close func() // once, when the connection is closed
}

func (g *guard) Read(p []byte) (int, error) {
	if err := g.failed(); err != nil {
		return 0, err
	}
	if err := g.Conn.SetReadDeadline(time.Now().Add(g.idle)); err != nil {
		return 0, g.fail(err)
	}
	n, err := g.Conn.Read(p)
	if g.first && n > 0 {
		g.first = false
		if speaksHTTP(p[:n]) {
			g.Close()
			return 0, g.fail(errHTTP)
		}
	}
	if err != nil {
		g.fail(err)
	}
	return n, err
}

func (g *guard) Write(p []byte) (int, error) {
	if err := g.Conn.SetWriteDeadline(time.Now().Add(g.idle)); err != nil {
		return 0, err
	}
	n, err := g.Conn.Write(p)
	if err != nil {
		g.fail(err)
	}
	return n, err
}

// fail makes err the answer to every further Read.
func (g *guard) fail(err error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.err == nil {
		g.err = err
	}
	return g.err
}

func (g *guard) failed() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.err
}

// Close closes the connection and wakes who reads from it.
func (g *guard) Close() error {
	g.fail(errEnded)
	err := g.Conn.Close()
	g.close()
	return err
}

// speaksHTTP tells whether a connection begins like a request of HTTP. None of
// its methods is a command of SMTP.
func speaksHTTP(p []byte) bool {
	for _, verb := range []string{"GET ", "POST ", "PUT ", "HEAD ", "OPTIONS ", "DELETE ", "PATCH ", "CONNECT ", "TRACE ", "PRI "} {
		if len(p) >= len(verb) && bytes.EqualFold(p[:len(verb)], []byte(verb)) {
			return true
		}
	}
	return false
}

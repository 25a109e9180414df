package smtpd

import (
	"bytes"
	"container/list"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"letterlock.org/letterlock/smtpd/wire"
)

// errHTTP means that a browser speaks at the port: a web page tries to reach us
// through it (cross-protocol request forgery).
var errHTTP = errors.New("HTTP at a mail port")

// errEnded means that we have ended the connection.
var errEnded = errors.New("connection ended")

// progress is how many bytes of a message must come in the time that a client
// has for its next bytes.
const progress = 64 << 10

// conn is a client's connection. Its first read error is permanent: what comes
// after a time-out inside a message must not be taken for commands. But for
// Close and end, only the session's goroutine uses it.
type conn struct {
	raw      net.Conn
	stream   net.Conn // raw, or TLS above it
	in       *wire.Reader
	out      []byte        // replies that wait for the client to have said all it can
	idle     time.Duration // for the next bytes to come, and for one write to pass
	since    time.Time     // it began
	login    time.Duration // from then to the login
	loggedIn atomic.Bool   // its client has an account
	stranger *list.Element // in Server.strangers, or was
	ended    atomic.Bool   // nothing more is read
	begun    bool          // something was read
	message  bool          // within a message: then bytes count and not reads
	left     int           // bytes until the deadline moves on
	close    func() error  // once
}

func newConn(c net.Conn, t Timeouts, now time.Time, closed func()) *conn {
	k := &conn{raw: c, stream: c, idle: t.Client, since: now, login: t.Login}
	k.in = wire.NewReader(k)
	k.close = sync.OnceValue(func() error {
		k.ended.Store(true)
		err := c.Close()
		closed()
		return err
	})
	return k
}

// Read implements io.Reader for the session's wire.Reader. Before it waits, the
// client gets its replies (RFC 2920, Section 3.2).
func (k *conn) Read(p []byte) (int, error) {
	if err := k.flush(); err != nil {
		return 0, err
	}
	if k.ended.Load() {
		return 0, errEnded
	}
	if err := k.deadline(); err != nil {
		return 0, err
	}
	n, err := k.stream.Read(p)
	k.left -= n
	if !k.begun && n > 0 {
		k.begun = true
		if speaksHTTP(p[:n]) {
			return 0, errHTTP
		}
	}
	return n, err
}

// deadline bounds the read that follows. A message must make progress: time
// isn't given anew for each byte of it.
func (k *conn) deadline() error {
	if k.message && k.left > 0 {
		return nil
	}
	at := time.Now().Add(k.idle)
	if !k.loggedIn.Load() {
		if end := k.since.Add(k.login); end.Before(at) {
			at = end
		}
	}
	k.left = progress
	return k.raw.SetReadDeadline(at)
}

// messages tells that a message begins or has ended.
func (k *conn) messages(begun bool) {
	k.message, k.left = begun, 0
	if !begun {
		k.in.Release()
	}
}

// maxOut is how many bytes of replies wait at most.
const maxOut = 4 << 10

// put queues a reply.
func (k *conn) put(code int, status string, lines ...string) error {
	k.out = wire.AppendReply(k.out, code, status, lines...)
	if len(k.out) > maxOut {
		return k.flush()
	}
	return nil
}

// flush sends the replies.
func (k *conn) flush() error {
	if len(k.out) == 0 {
		return nil
	}
	if err := k.raw.SetWriteDeadline(time.Now().Add(k.idle)); err != nil {
		return err
	}
	_, err := k.stream.Write(k.out)
	k.out = k.out[:0]
	if err != nil {
		k.ended.Store(true)
	}
	return err
}

// handshake puts TLS on the connection. What was read before is forgotten.
func (k *conn) handshake(ctx context.Context, conf *tls.Config) error {
	tc := tls.Server(k.raw, conf)
	if err := tc.HandshakeContext(ctx); err != nil {
		return err
	}
	k.stream, k.in = tc, wire.NewReader(k)
	return nil
}

// secure tells whether TLS is on.
func (k *conn) secure() bool { return k.stream != k.raw }

// secured is the state of TLS, nil without.
func (k *conn) secured() *tls.ConnectionState {
	tc, ok := k.stream.(*tls.Conn)
	if !ok {
		return nil
	}
	state := tc.ConnectionState()
	return &state
}

// end makes the next read the last. It may be called by anyone.
func (k *conn) end() { k.ended.Store(true) }

// bye closes the connection after what was said is sent.
func (k *conn) bye() {
	k.flush()
	if tc, ok := k.stream.(*tls.Conn); ok {
		tc.CloseWrite() // it has a deadline of its own
	}
	k.close()
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

func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

package imapd

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"letterlock.org/letterlock/imapd/wire"
	"letterlock.org/letterlock/internal/mishap"
)

// session is one client. Its run goroutine reads the commands; after the login
// a second one reads the upstream's responses (relay.go), and a third keeps a
// waiting client's connection alive.
type session struct {
	srv    *Server
	log    *slog.Logger
	ctx    context.Context
	cancel context.CancelFunc

	// mu guards conn, out and up for those that are not the command goroutine,
	// which alone sets them.
	mu   sync.Mutex
	conn *patientConn
	in   *wire.CommandReader
	out  *output
	tls  bool
	bad  int // commands before the login that came to nothing

	account  *Account
	up       *upstream
	relay    *relay
	box      atomic.Pointer[selected] // the selected mailbox; set by the command goroutine
	since    time.Time                // it began
	loggedIn atomic.Bool              // its client has given the right password
	enabled  sync.Map                 // extensions that ENABLE was answered for

	expunges expungedOnes // of the responder

	recheck   chan struct{} // there is reason to ask gone
	departing atomic.Bool   // see depart

	endOnce sync.Once
	// listening is set while another goroutine waits for the end of IDLE: the
	// writer to the upstream is not its own.
	listening atomic.Bool
}

// Before the login a client has this long, and this many commands that come to
// nothing. It may say nothing while a person reads whose certificate this is.
const (
	loginTime    = 5 * time.Minute
	loginSilence = 3 * time.Minute
	maxBad       = 50
)

var errLogout = errors.New("client logged out")

func newSession(srv *Server, conn net.Conn) *session {
	s := &session{srv: srv, since: time.Now(), recheck: make(chan struct{}, 1)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.log = srv.c.Logger.With("client", conn.RemoteAddr().String())
	_, s.tls = conn.(*tls.Conn)
	s.attach(conn)
	return s
}

// attach begins to talk on conn, with nothing read ahead.
func (s *session) attach(conn net.Conn) {
	c := newPatientConn(conn, loginSilence, s.srv.c.IOTimeout)
	c.beforeRead, c.woken = s.beforeRead, s.woken
	s.mu.Lock()
	s.conn, s.out = c, newOutput(c)
	s.mu.Unlock()
	c.heard = func() time.Time { return time.Unix(0, s.out.last.Load()) }
	// Before the login a client has nothing to say that is long.
	s.in = wire.NewCommandReader(s.conn, wire.Limits{Line: 16 << 10, Literal: 4 << 10, Command: 32 << 10, Drain: 64 << 10})
	s.in.Continue = func() error {
		s.out.line("+ OK")
		return s.out.flush()
	}
	s.in.Stream = func(name string, args []wire.Token) bool {
		return name == "APPEND" && s.relay != nil && appendBefore(args)
	}
}

// beforeRead sends what waits, since the client may have nothing more to say.
func (s *session) beforeRead() {
	s.out.tryFlush()
	if s.up != nil && !s.listening.Load() {
		_ = s.up.w.Flush()
	}
}

// run serves the client to its end.
func (s *session) run(ctx context.Context) {
	stop := context.AfterFunc(ctx, s.depart)
	defer stop()
	defer s.end()
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("session ended by a fault of ours", "panic", mishap.Text(p), "stack", string(debug.Stack()))
		}
	}()
	if s.srv.c.Locked != nil && s.srv.c.Locked() {
		// A NO to LOGIN would make clients ask for the password.
		s.out.line("* BYE [UNAVAILABLE] Letterlock is locked: unlock it, then try again")
		_ = s.out.flush()
		return
	}
	if t, ok := s.conn.Conn.(*tls.Conn); ok {
		_ = t.SetDeadline(time.Now().Add(loginSilence))
		if err := t.HandshakeContext(s.ctx); err != nil {
			return
		}
	}
	s.out.line("* OK [CAPABILITY " + s.greetingCapabilities() + "] Letterlock ready")
	late := time.AfterFunc(loginTime, func() {
		s.mu.Lock()
		in := s.up != nil
		s.mu.Unlock()
		if !in {
			s.bye("UNAVAILABLE", "no login")
		}
	})
	defer late.Stop()
	err := s.loop()
	s.part(err)
	if !errors.Is(err, errLogout) && !errors.Is(err, io.EOF) {
		s.log.Info("session ended", "reason", reason(err))
	}
}

// part takes leave of the client as err wants it, with which the session ends.
func (s *session) part(err error) {
	broken := errors.Is(err, wire.ErrDesync)
	if broken || errors.Is(err, io.EOF) {
		s.answerRest()
	}
	switch {
	case s.relay != nil && (s.relay.over() || s.up.conn.failed.Load()):
		s.lost() // whoever notices first says so
	case broken:
		s.byeBehind("CLIENTBUG", err.Error())
	case errors.Is(err, os.ErrDeadlineExceeded): // RFC 3501, Section 5.4
		s.byeBehind("", "nothing was heard for too long")
	}
}

// loop reads commands and carries them out, one after the other, until the
// session ends; its error says why.
func (s *session) loop() error {
	for {
		if s.relay == nil {
			if b, err := s.in.Peek(5); err == nil && isHTTP(b) {
				return errors.New("client speaks HTTP")
			}
		}
		s.conn.quiet.Store(s.in.Buffered() == 0)
		c, err := s.in.Next()
		s.conn.quiet.Store(false)
		switch {
		case err == nil:
			err = s.command(c)
		case errors.Is(err, errGone):
			return s.dismiss()
		case errors.Is(err, wire.ErrSyntax), errors.Is(err, wire.ErrTooBig), errors.Is(err, wire.ErrLiteral8):
			err = s.refuse(c, err)
		}
		if err != nil {
			return err
		}
		if s.bad > maxBad {
			s.byeBehind("CLIENTBUG", "too many commands that mean nothing")
			return errors.New("client says nothing that means anything")
		}
	}
}

// answerRest waits for the answers to what a client has sent that says no more. One
// that ends in IDLE waits for none.
func (s *session) answerRest() {
	if s.relay == nil {
		return
	}
	if p := s.relay.head(); p == nil || p.continued != nil {
		return
	}
	late := time.AfterFunc(byeTime, s.cut)
	defer late.Stop()
	_ = s.relay.barrier()
}

// refuse answers a command that could not be read.
func (s *session) refuse(c *wire.Command, err error) error {
	if s.relay == nil {
		s.bad++
	}
	if c.Tag == "" {
		s.local("", "* BAD "+err.Error())
		return nil
	}
	if errors.Is(err, wire.ErrTooBig) {
		s.local(c.Tag, "NO [TOOBIG] "+err.Error())
		return nil
	}
	s.local(c.Tag, "BAD "+err.Error())
	return nil
}

// command carries out one command.
func (s *session) command(c *wire.Command) error {
	if c.Name != "LOGOUT" && s.gone() {
		return s.dismiss()
	}
	switch c.Name {
	case "CAPABILITY", "NOOP", "ID", "LOGOUT":
		if done, err := s.anyState(c); done {
			return err
		}
	}
	if s.relay == nil {
		return s.beforeLogin(c)
	}
	s.relay.begun.Store(time.Now().UnixNano())
	defer s.relay.begun.Store(0)
	return s.afterLogin(c)
}

// local answers a command without the upstream, in its turn. Without a tag the
// answer is a line of its own.
func (s *session) local(tag, answer string) {
	if tag != "" {
		answer = tag + " " + answer
	}
	if s.relay != nil {
		s.relay.local(answer + "\r\n")
		return
	}
	s.out.line(answer)
}

// bye tells the client that it is over, unless a response is under way, which BYE
// must not cut. It may be called at any time.
func (s *session) bye(code, text string) {
	s.farewell(func(o *output) bool { return o.TryLock() }, code, text)
}

// farewell is bye with its own way to lock the output, which may wait.
func (s *session) farewell(lock func(*output) bool, code, text string) {
	s.endOnce.Do(func() {
		s.mu.Lock()
		conn, out := s.conn, s.out
		s.mu.Unlock()
		if lock(out) {
			conn.write.Store(int64(5 * time.Second))
			if code != "" {
				code = "[" + code + "] "
			}
			_, _ = out.w.WriteString("* BYE " + code + clean(text) + "\r\n")
			_ = out.w.Flush()
			s.linger(conn)
			_ = conn.Close() // nothing comes after BYE
			out.Unlock()
		}
		s.cut()
	})
}

// lingerTime is how long a client has to take note of BYE.
const lingerTime = time.Second

// linger waits until the client has all that it was told, or lingerTime: where it has
// said something meanwhile that nobody reads, a connection that is closed takes what is
// still on its way with it (RFC 1122, Section 4.2.2.13). Nothing is carried out any more.
func (s *session) linger(conn *patientConn) {
	half, ok := conn.Conn.(interface{ CloseWrite() error })
	if !ok || !s.loggedIn.Load() {
		return
	}
	s.mu.Lock()
	if s.up != nil {
		_ = s.up.conn.Close()
	}
	s.mu.Unlock()
	late := time.AfterFunc(lingerTime, func() { _ = conn.Close() })
	defer late.Stop()
	if half.CloseWrite() == nil {
		_, _ = io.Copy(io.Discard, conn.Conn)
	}
}

// lost tells the client that the upstream is gone, once, behind what somebody else
// is writing.
func (s *session) lost() {
	s.byeBehind("UNAVAILABLE", "the connection to the upstream server was lost")
}

// cut closes the connections, which ends the goroutines.
func (s *session) cut() {
	s.cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.conn.Close()
	if s.up != nil {
		_ = s.up.conn.Close()
	}
}

// end cleans up after run.
func (s *session) end() {
	_ = s.out.flush()
	s.cut()
	if s.relay != nil {
		s.relay.wait()
	}
	s.leave()
}

func isHTTP(b []byte) bool {
	for _, verb := range []string{"GET /", "POST ", "HEAD ", "PUT /", "OPTIO", "CONNE", "DELET", "PATCH", "TRACE"} {
		if string(b) == verb {
			return true
		}
	}
	return false
}

// clean makes text fit for a response line.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}

// reason is err for the log: the errors of this package and of the network
// have no content in them.
func reason(err error) string { return clean(err.Error()) }

package imapd_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"letterlock.org/letterlock/imapd"
	"letterlock.org/letterlock/internal/mailtest"
)

// refusing is a connection on which what begins with a command cannot be written.
type refusing struct {
	net.Conn
	command string
}

func (r refusing) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte(r.command)) {
		return 0, errors.New("broken")
	}
	return r.Conn.Write(b)
}

// TestUpstreamThatGoesAtTheLogin: an upstream that is gone before it was told who we
// are leaves no session that never ends, which a shutdown would wait for.
func TestUpstreamThatGoesAtTheLogin(t *testing.T) {
	d := (&double{caps: "IMAP4rev1 AUTH=PLAIN SASL-IR ID"}).start(t)
	b := startBridge(t, d.addr, "up", "pw", func(_ *imapd.Config, a *imapd.Account) {
		a.Dial = func(ctx context.Context) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, "tcp", d.addr)
			return refusing{conn, " ID ("}, err
		}
	})
	talk(t, dial(t, b.addr), "S: * OK*\nC: a LOGIN "+user+" "+password+"\nS: a OK*\nS: * BYE [UNAVAILABLE]*\nS: EOF")
	eventually(t, "the session ends", func() bool { return b.server.Sessions() == 0 })
}

// TestUpstreamThatGoesInALiteral: what a client has of a message then is the
// beginning of the message; no BYE of ours stands in for what is missing.
func TestUpstreamThatGoesInALiteral(t *testing.T) {
	const want = "* 1 FETCH (UID 10 BODY[TEXT] {60}\r\nabc"
	d := (&double{hangs: "BODY", answer: func(c string) string {
		if strings.Contains(c, "BODY") {
			return want
		}
		return ""
	}}).start(t)
	b := startBridge(t, d.addr, "up", "pw", nil)
	if err := classifyPlain(b, 7, 10, 11, 12); err != nil {
		t.Fatal(err)
	}
	c := login(t, b.addr, user, password)
	c.ok("SELECT INBOX")
	c.send("x UID FETCH 10 (BODY.PEEK[TEXT])\r\n")
	if got, _ := io.ReadAll(c.r); string(got) != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestLogoutFromASilentUpstream: the client is let go all the same, though the upstream
// stays.
func TestLogoutFromASilentUpstream(t *testing.T) {
	d := (&double{answer: func(c string) string {
		if c == "LOGOUT" {
			return "-"
		}
		return ""
	}}).start(t)
	b := startBridge(t, d.addr, "up", "pw", func(c *imapd.Config, _ *imapd.Account) { c.KeepAlive = 200 * time.Millisecond })
	c := login(t, b.addr, user, password)
	c.send("x LOGOUT\r\n")
	if got := c.until("x"); !strings.HasPrefix(got[len(got)-2], "* BYE") {
		t.Errorf("%q", got)
	}
}

// pipes is a listener for connections within the process, which hold no bytes.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	c, ok := <-p
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}

func (p pipes) Close() error   { return nil }
func (p pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

// stalled is the bridge's end of a connection. Once its other end stops reading, the
// time for all that is being written, or will be, is over.
type stalled struct {
	net.Conn
	mu   sync.Mutex
	over bool // guarded by mu, with the deadline
}

func (s *stalled) SetWriteDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		t = time.Unix(1, 0)
	}
	return s.Conn.SetWriteDeadline(t)
}

func (s *stalled) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	_ = s.Conn.SetWriteDeadline(time.Unix(1, 0))
}

// dialPipe connects to a bridge by a connection that holds no bytes: what was sent, the
// bridge has read. After stop it has no time left to write.
func dialPipe(t testing.TB, b *bridge) (c *client, stop func()) {
	t.Helper()
	theirs, ours := net.Pipe()
	s := &stalled{Conn: theirs}
	l := make(pipes, 1)
	l <- s
	done := make(chan struct{})
	go func() { defer close(done); _ = b.server.Serve(t.Context(), l, false) }()
	t.Cleanup(func() { ours.Close(); close(l); <-done })
	c = &client{t: t, conn: ours, r: bufio.NewReader(ours)}
	c.response()
	return c, s.stop
}

// TestClientThatReadsNothing: what could not be written to a client is followed by
// nothing, so that its session ends, and is not one that hears and never answers.
func TestClientThatReadsNothing(t *testing.T) {
	d := (&double{}).start(t)
	c, stop := dialPipe(t, startBridge(t, d.addr, "up", "pw", nil))
	c.ok("LOGIN " + user + " " + password)
	stop()
	c.send("b XYZZY\r\n") // the answer to which finds nobody
	_, err := io.WriteString(c.conn, "c XYZZY\r\n")
	if err == nil {
		_, err = c.r.ReadByte()
	}
	if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("the session goes on: %v", err)
	}
}

// TestClientThatSaysNoMore: commands that were sent before the end are answered.
func TestClientThatSaysNoMore(t *testing.T) {
	begun, answer := make(chan bool), make(chan bool)
	d := (&double{answer: func(c string) string {
		if c == "NOOP" {
			begun <- true
			<-answer
		}
		return ""
	}}).start(t)
	b := startBridge(t, d.addr, "up", "pw", nil)
	c := login(t, b.addr, user, password)
	c.send("x NOOP\r\ny XYZZY\r\n")
	if err := c.conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	<-begun
	time.AfterFunc(50*time.Millisecond, func() { close(answer) }) // after the end was seen
	talk(t, c, "S: x OK done\nS: y BAD*\nS: EOF")
}

// TestClientThatSaysNonsense: what it asked before is answered, then comes BYE.
func TestClientThatSaysNonsense(t *testing.T) {
	answer := make(chan bool)
	d := (&double{answer: func(c string) string {
		if c == "NOOP" {
			<-answer
		}
		return ""
	}}).start(t)
	b := startBridge(t, d.addr, "up", "pw", nil)
	c := login(t, b.addr, user, password)
	c.send("x NOOP\r\n\"{5+}\r\n")
	time.AfterFunc(50*time.Millisecond, func() { close(answer) }) // after the nonsense was seen
	talk(t, c, "S: x OK done\nS: * BYE [CLIENTBUG]*\nS: EOF")
}

// slowly is a line on which a megabyte takes an hour by a clock of its own, which
// says when a read has lasted too long.
type slowly struct {
	net.Conn
	mu         sync.Mutex    // guards what follows
	now, until time.Duration // by its clock
}

func (s *slowly) SetReadDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.until = s.now + time.Until(t)
	return s.Conn.SetReadDeadline(time.Time{})
}

func (s *slowly) Write(b []byte) (int, error) {
	s.mu.Lock()
	if s.now += time.Duration(len(b)) * time.Hour / (1 << 20); s.now > s.until {
		_ = s.Conn.SetReadDeadline(time.Unix(1, 0))
	}
	s.mu.Unlock()
	return s.Conn.Write(b)
}

// TestUploadOverASlowLine: as long as an upload gets on, nobody minds that the
// upstream says nothing until it has it.
func TestUploadOverASlowLine(t *testing.T) {
	up, err := mailtest.Start(mailtest.Options{Users: map[string]string{user: "pw"}})
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	b := startBridge(t, up.IMAPAddr, user, "pw", func(c *imapd.Config, a *imapd.Account) {
		c.IOTimeout = time.Hour
		a.Append = imapd.AppendNone
		a.Dial = func(ctx context.Context) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, "tcp", up.IMAPAddr)
			return &slowly{Conn: conn}, err
		}
	})
	c := login(t, b.addr, user, password)
	c.upload("INBOX", "", []byte("Subject: x\r\n\r\n"+strings.Repeat(strings.Repeat("x", 62)+"\r\n", 2<<20/64)))
}

// TestClientThatWaitsLong: one that waits for an answer says nothing, for as long as
// that takes.
func TestClientThatWaitsLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := (&double{answer: func(c string) string {
			if c == "CHECK" {
				select {
				case <-time.After(time.Hour):
				case <-t.Context().Done():
				}
			}
			return ""
		}}).prepare()
		account := &imapd.Account{User: "up", Dial: func(context.Context) (net.Conn, error) {
			ours, theirs := net.Pipe()
			go d.serve(theirs)
			return ours, nil
		}}
		b := &bridge{server: imapd.New(imapd.Config{
			IdleTimeout: time.Minute, IOTimeout: 2 * time.Hour,
			Login: func(context.Context, net.Addr, string, string) (*imapd.Account, string, error) {
				return account, "pw", nil
			},
		})}
		c, _ := dialPipe(t, b)
		c.send("a LOGIN " + user + " " + password + "\r\nb SELECT INBOX\r\nc CHECK\r\n")
		if got := c.until("c"); !strings.HasPrefix(got[len(got)-1], "c OK") {
			t.Errorf("%q", got)
		}
		if last, err := io.ReadAll(c.r); err != nil || string(last) != "* BYE nothing was heard for too long\r\n" {
			t.Errorf("then it is sent away by %q, %v", last, err)
		}
	})
}

// TestClientWhoseUploadHasNoEnd: one that is too long even to be thrown away ends the
// session, and the client is told why.
func TestClientWhoseUploadHasNoEnd(t *testing.T) {
	d := (&double{}).start(t)
	b := startBridge(t, d.addr, "up", "pw", func(c *imapd.Config, a *imapd.Account) {
		c.Limits.Drain, a.Spool.Limit = 1000, 500
	})
	c := login(t, b.addr, user, password)
	talk(t, c, "C: x NOOP\nC: y APPEND INBOX {5000+}\nS: x OK done\nS: * BYE [CLIENTBUG]*\nS: EOF")
}

// TestClientThatStopsReading: whoever is writing to it then, its session ends, and with
// it the upstream's connection.
func TestClientThatStopsReading(t *testing.T) {
	for _, secret := range []bool{false, true} {
		t.Run(fmt.Sprintf("encrypted mail %v", secret), func(t *testing.T) {
			up, err := mailtest.Start(mailtest.Options{Users: map[string]string{user: "pw"}})
			if err != nil {
				t.Fatal(err)
			}
			defer up.Close()
			b := startBridge(t, up.IMAPAddr, user, "pw", nil)
			for i := range 6 {
				raw := letter(i, "\r\n"+strings.Repeat("a line of some length\r\n", 10_000))
				if secret {
					raw = encrypt(t, b.key, raw)
				}
				if err := up.Deliver(user, "INBOX", raw); err != nil {
					t.Fatal(err)
				}
			}
			c, stop := dialPipe(t, b)
			c.ok("LOGIN " + user + " " + password)
			c.ok("SELECT INBOX")
			c.send("c UID FETCH 1:* (BODY.PEEK[])\r\n")
			c.response()
			stop()
			eventually(t, "the session ends", func() bool { return b.server.Sessions() == 0 })
		})
	}
}

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
	"testing"
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
	for deadline := time.Now().Add(10 * time.Second); b.server.Sessions() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the session doesn't end")
		}
	}
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

// TestLogoutFromASilentUpstream: the client is let go all the same.
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
	begin := time.Now()
	if got := c.until("x"); !strings.HasPrefix(got[len(got)-2], "* BYE") {
		t.Errorf("%q", got)
	}
	if waited := time.Since(begin); waited > 20*time.Second { // the upstream hangs up after 30
		t.Errorf("after %v", waited)
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

// dialPipe connects to a bridge by a connection that holds no bytes.
func dialPipe(t testing.TB, b *bridge) net.Conn {
	t.Helper()
	theirs, ours := net.Pipe()
	l := make(pipes, 1)
	l <- theirs
	done := make(chan struct{})
	go func() { defer close(done); _ = b.server.Serve(t.Context(), l, false) }()
	t.Cleanup(func() { ours.Close(); close(l); <-done })
	_ = ours.SetDeadline(time.Now().Add(30 * time.Second))
	return ours
}

// TestClientThatReadsNothing: what could not be written to a client is followed by
// nothing, so that its session ends, and is not one that hears and never answers.
func TestClientThatReadsNothing(t *testing.T) {
	d := (&double{}).start(t)
	b := startBridge(t, d.addr, "up", "pw", func(c *imapd.Config, _ *imapd.Account) { c.IOTimeout = 100 * time.Millisecond })
	conn := dialPipe(t, b)
	read := make([]byte, 1000)
	_, _ = conn.Read(read)
	_, _ = io.WriteString(conn, "a LOGIN "+user+" "+password+"\r\n")
	_, _ = conn.Read(read)
	_, _ = io.WriteString(conn, "b XYZZY\r\n") // the answer to which finds nobody
	var err error
	if _, err = io.WriteString(conn, "c XYZZY\r\n"); err == nil {
		_, err = conn.Read(read)
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

// slowly is a line on which a kilobyte takes a while.
type slowly struct{ net.Conn }

func (s slowly) Write(b []byte) (int, error) {
	time.Sleep(time.Duration(len(b)) * 2 * time.Second / (1 << 20))
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
		c.IOTimeout = 2 * time.Second
		a.Append = imapd.AppendNone
		a.Dial = func(ctx context.Context) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, "tcp", up.IMAPAddr)
			return slowly{conn}, err
		}
	})
	c := login(t, b.addr, user, password)
	c.upload("INBOX", "", []byte("Subject: x\r\n\r\n"+strings.Repeat(strings.Repeat("x", 62)+"\r\n", 2<<20/64)))
}

// TestClientThatWaitsLong: one that waits for an answer says nothing, for as long as
// that takes.
func TestClientThatWaitsLong(t *testing.T) {
	d := (&double{answer: func(c string) string {
		if c == "CHECK" {
			time.Sleep(2500 * time.Millisecond)
		}
		return ""
	}}).start(t)
	b := startBridge(t, d.addr, "up", "pw", func(c *imapd.Config, _ *imapd.Account) {
		c.IdleTimeout, c.KeepAlive = time.Second, 50*time.Millisecond
	})
	c := dial(t, b.addr)
	c.response()
	c.send("a LOGIN " + user + " " + password + "\r\nb SELECT INBOX\r\nc CHECK\r\n")
	if got := c.until("c"); !strings.HasPrefix(got[len(got)-1], "c OK") {
		t.Errorf("%q", got)
	}
	if last, err := io.ReadAll(c.r); err != nil || !strings.Contains(string(last), "* BYE ") {
		t.Errorf("then it is sent away by %q, %v", last, err)
	}
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
			b := startBridge(t, up.IMAPAddr, user, "pw", func(c *imapd.Config, _ *imapd.Account) { c.IOTimeout = time.Second })
			for i := range 6 {
				raw := letter(i, "\r\n"+strings.Repeat("a line of some length\r\n", 10_000))
				if secret {
					raw = encrypt(t, b.key, raw)
				}
				if err := up.Deliver(user, "INBOX", raw); err != nil {
					t.Fatal(err)
				}
			}
			conn := dialPipe(t, b)
			c := &client{t: t, conn: conn, r: bufio.NewReader(conn)}
			c.response()
			c.ok("LOGIN " + user + " " + password)
			c.ok("SELECT INBOX")
			c.send("c UID FETCH 1:* (BODY.PEEK[])\r\n")
			c.response()
			for deadline := time.Now().Add(10 * time.Second); b.server.Sessions() > 0; time.Sleep(10 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatal("the session doesn't end")
				}
			}
		})
	}
}

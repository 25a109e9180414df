package imapd_test

import (
	"context"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"letterlock.org/letterlock/imapd"
)

// gated is an upstream connection on which nothing comes behind a text until it is
// opened.
type gated struct {
	net.Conn
	behind string
	seen   string
	opened bool
	once   *sync.Once
	there  chan struct{} // closed when the text has come
	open   chan struct{}
	closed chan struct{} // by Close
	close  func()
}

func (g *gated) Close() error {
	g.close()
	return g.Conn.Close()
}

func (g *gated) Read(b []byte) (int, error) {
	if g.opened {
		return g.Conn.Read(b)
	}
	if strings.HasSuffix(g.seen, g.behind) {
		g.once.Do(func() { close(g.there) })
		select {
		case <-g.open:
			g.opened = true
			return g.Conn.Read(b)
		case <-g.closed:
			return 0, net.ErrClosed
		}
	}
	n, err := g.Conn.Read(b[:1])
	g.seen += string(b[:n])
	g.seen = g.seen[max(0, len(g.seen)-len(g.behind)):]
	return n, err
}

// shuttingDown is a bridge before a double that answers FETCH for the text of message
// 10 with body; gate holds what comes behind a text, if there is one.
func shuttingDown(t *testing.T, body, behind string, grace time.Duration) (*bridge, *gated) {
	t.Helper()
	d := (&double{answer: func(c string) string {
		if strings.Contains(c, "BODY") {
			return "* 1 FETCH (UID 10 BODY[TEXT] {" + strconv.Itoa(len(body)) + "}\r\n" + body + ")\r\nTAG OK done\r\n"
		}
		if c == "IDLE" {
			return "+ idling\r\n"
		}
		return ""
	}}).start(t)
	g := &gated{behind: behind, once: &sync.Once{}, there: make(chan struct{}), open: make(chan struct{})}
	b := startBridge(t, d.addr, "up", "pw", func(c *imapd.Config, a *imapd.Account) {
		c.Grace = grace
		if behind != "" {
			a.Dial = func(ctx context.Context) (net.Conn, error) {
				conn, err := new(net.Dialer).DialContext(ctx, "tcp", d.addr)
				g := *g
				g.Conn, g.closed = conn, make(chan struct{})
				g.close = sync.OnceFunc(func() { close(g.closed) })
				return &g, err
			}
		}
	})
	if err := classifyPlain(b, 7, 10, 11, 12); err != nil {
		t.Fatal(err)
	}
	return b, g
}

// shutdown begins to shut a bridge down, which must succeed.
func shutdown(t *testing.T, b *bridge) (done chan struct{}) {
	t.Helper()
	done = make(chan struct{})
	go func() {
		defer close(done)
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := b.server.Shutdown(ctx); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
	}()
	return done
}

const shutBye = "* BYE [UNAVAILABLE] shutting down"

// ends: BYE comes, and nothing after it.
func (c *client) ends(t *testing.T) {
	t.Helper()
	if got, err := c.tryResponse(); err != nil || !strings.HasPrefix(got, shutBye) {
		t.Errorf("%q, %v, want BYE", got, err)
	}
	if got, err := c.tryResponse(); err == nil {
		t.Errorf("%q after BYE", got)
	}
}

// TestAShutdownLetsWhatIsUnderWayEnd: the response, its command's answer, then BYE.
func TestAShutdownLetsWhatIsUnderWayEnd(t *testing.T) {
	head, rest := strings.Repeat("0123456789", 500), strings.Repeat("0123456789", 20_000)
	b, g := shuttingDown(t, head+"gate"+rest, "gate", time.Hour)
	c := login(t, b.addr, user, password)
	c.ok("SELECT INBOX")
	c.send("x UID FETCH 10 (BODY.PEEK[TEXT])\r\n")
	<-g.there
	done := shutdown(t, b)
	for conn, err := net.Dial("tcp", b.addr); err == nil; conn, err = net.Dial("tcp", b.addr) { // until it doesn't listen
		conn.Close()
	}
	c.send("y NOOP\r\n") // which may be too late, and then nobody reads it
	close(g.open)
	got := c.until("x")
	if want := "* 1 FETCH (UID 10 BODY[TEXT] {" + strconv.Itoa(len(head+"gate"+rest)) + "}\r\n" + head + "gate" + rest + ")"; len(got) != 2 || got[0] != want || !strings.HasPrefix(got[1], "x OK") {
		t.Errorf("%d responses, %.80q", len(got), got)
	}
	last, err := c.tryResponse()
	if strings.HasPrefix(last, "y OK") {
		last, err = c.tryResponse()
	}
	if err != nil || !strings.HasPrefix(last, shutBye) {
		t.Errorf("%q, %v, want BYE", last, err)
	}
	<-done
}

// TestAShutdownDoesNotWaitForTheIdle: who has nothing under way has BYE at once.
func TestAShutdownDoesNotWaitForTheIdle(t *testing.T) {
	b, _ := shuttingDown(t, "x", "", time.Hour)
	fresh, idle, waiting := dial(t, b.addr), login(t, b.addr, user, password), login(t, b.addr, user, password)
	fresh.response()
	idle.ok("SELECT INBOX")
	idle.send("i IDLE\r\n")
	for got := idle.response(); !strings.HasPrefix(got, "+"); got = idle.response() {
	}
	waiting.ok("SELECT INBOX")
	done := shutdown(t, b)
	for _, c := range []*client{fresh, idle, waiting} {
		c.ends(t)
	}
	<-done
}

// TestAShutdownDoesNotWaitForWhoDoesNotRead, nor for an upstream that doesn't go on:
// after Config.Grace it is over, and no BYE stands in a literal.
func TestAShutdownDoesNotWaitForWhoDoesNotRead(t *testing.T) {
	t.Run("a client", func(t *testing.T) {
		b, _ := shuttingDown(t, strings.Repeat("0123456789", 200_000), "", 50*time.Millisecond)
		c, _ := dialPipe(t, b)
		go io.WriteString(c.conn, "a LOGIN "+user+" "+password+"\r\nb SELECT INBOX\r\nx UID FETCH 10 (BODY.PEEK[TEXT])\r\n")
		head := make([]byte, 0, 100_000)
		for one := make([]byte, 1); !strings.HasSuffix(string(head), "BODY[TEXT] {2000000}\r\n"); head = append(head, one...) {
			if _, err := c.r.Read(one); err != nil {
				t.Fatal(err, string(head))
			}
		}
		<-shutdown(t, b)
	})
	t.Run("an upstream", func(t *testing.T) {
		b, g := shuttingDown(t, "half of ita gatewhich is opened too late", "gate", 50*time.Millisecond)
		defer close(g.open)
		c := login(t, b.addr, user, password)
		c.ok("SELECT INBOX")
		c.send("x UID FETCH 10 (BODY.PEEK[TEXT])\r\n")
		<-g.there
		done := shutdown(t, b)
		all, _ := io.ReadAll(c.r)
		if strings.Contains(string(all), "BYE") || !strings.HasPrefix(string(all), "* 1 FETCH (UID 10 BODY[TEXT] {") && len(all) > 0 {
			t.Errorf("%q", all)
		}
		<-done
	})
}

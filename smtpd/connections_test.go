package smtpd_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"letterlock.org/letterlock/smtpd"
	"letterlock.org/letterlock/smtpd/queue"
)

// TestAReplyThatComesTooLate is not taken for the one to another command: its
// connection is used no more. Carol, whom the server refuses, was told to be taken.
func TestAReplyThatComesTooLate(t *testing.T) {
	o := newOddServer(t, map[string]string{"RCPT TO:<carol": "550 5.1.1 nobody"})
	p := &patience{}
	slow := slowAt(t, o, "RCPT TO:<dave", p.ends)
	b := newBridge(t, newUpstream(t), o.as("", ""), func(_ *smtpd.Config, a *smtpd.Account, _ *queue.Config) { a.Upstream.Dial = p.dial(slow.dial) })
	k := b.login()
	k.run("C: MAIL FROM:<alice@example.org>\nS: 250\nC: RCPT TO:<bob@example.net>\nS: 250")
	k.send("RCPT TO:<dave@example.net>\r\nRCPT TO:<carol@example.net>\r\n")
	k.run("S: 250\nS: 550 5.1.1 your mail server says: nobody\nC: DATA\nS: 354")
	k.send(wired(letter("1", "bob@example.net, dave@example.net")) + ".\r\n")
	k.run("S: 250 2.0.0 sent")
}

// slowAt is an oddServer whose first connection answers one command only when more
// more has come behind it. Whoever waits for that is given up by late.
func slowAt(t *testing.T, o *oddServer, command string, late func(net.Conn)) *oddServer {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for first := true; ; first = false {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			up, err := o.dial(t.Context())
			if err != nil {
				c.Close()
				return
			}
			go func() { defer c.Close(); io.Copy(c, up) }()
			go func() {
				defer up.Close()
				for r := bufio.NewReader(c); ; {
					line, err := r.ReadString('\n')
					if err != nil {
						return
					}
					if first && strings.HasPrefix(line, command) {
						late(c)
						r.Peek(1)
					}
					io.WriteString(up, line)
				}
			}()
		}
	}()
	return &oddServer{t: t, ln: ln}
}

// TestAServerThatTakesNothingNow is not connected to anew for every recipient.
func TestAServerThatTakesNothingNow(t *testing.T) {
	o := newOddServer(t, map[string]string{"MAIL": "452 4.3.1 no room"})
	k := newBridge(t, newUpstream(t), o.as("", "")).login()
	for range 2 {
		k.run("C: MAIL FROM:<alice@example.org>\nS: 250")
		for range 5 {
			k.run("C: RCPT TO:<bob@example.net>\nS: 452 4.3.1 your mail server says: no room")
		}
		k.run("C: RSET\nS: 250")
	}
	if o.connected() != 1 {
		t.Errorf("%d connections", o.connected())
	}
}

// TestAServerThatLetsNobodyIn is asked once for a message: a client that names recipients
// one by one, whatever the answer, would wait for each.
func TestAServerThatLetsNobodyIn(t *testing.T) {
	for at, want := range map[string]string{"": "451 4.4.1 your mail server does not serve us now; at connecting it says 421 4.3.2 too many", "MAIL": "451 4.3.2 your mail server says: too many"} {
		o := newOddServer(t, map[string]string{at: "421 4.3.2 too many!"})
		k := newBridge(t, newUpstream(t), o.as("", "")).login()
		for message := range 2 {
			k.run("C: MAIL FROM:<alice@example.org>\nS: 250")
			for range 5 {
				k.run("C: RCPT TO:<bob@example.net>\nS: " + want)
			}
			k.run("C: RSET\nS: 250")
			if n := o.connected(); n != message+1 {
				t.Errorf("%s: %d connections for %d messages", want, n, message+1)
			}
		}
	}
}

// TestAConnectionThatHasHadItsFillIsNobodysFault: nor that of a message in several
// copies, nor of one in the queue, that meets it.
func TestAConnectionThatHasHadItsFillIsNobodysFault(t *testing.T) {
	for _, full := range []fault{{reply: "452 4.5.3 too many messages"}, {reply: "421 4.7.0 too many messages", drop: true}} {
		u := newUpstream(t)
		b := newBridge(t, u)
		fullAt, refusedAt := 0, 0
		u.failWith(func(step string, n int, _ string) fault {
			switch {
			case step == "mail" && n == fullAt:
				return full
			case step == "dot" && n == refusedAt:
				return fault{reply: "451 4.3.0 later"}
			}
			return fault{}
		})
		k := b.login()
		two := []string{"bob@example.net", "carol@example.net"}
		send := func(id string) {
			if got := k.submit(wired(letter(id, two[0])), two...); !strings.HasPrefix(got, "250") {
				t.Errorf("%s: %q", full.reply, got)
			}
		}
		send("1")                // two commands on the session's connection, one on another
		fullAt, refusedAt = 6, 4 // two more, and the next on the other; and then the second copy waits
		send("2")
		es, err := b.queue.List(t.Context(), queue.Waiting, 10)
		if err != nil || len(es) != 1 {
			t.Fatalf("%s: %+v, %v", full.reply, es, err)
		}
		fullAt = 8
		if err := b.queue.Retry(t.Context(), es[0].ID); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the copy that waited has come", func() bool { return len(u.received()) == 4 })
		if n := u.count("mail"); n != 9 {
			t.Errorf("%s: MAIL was said %d times", full.reply, n)
		}
	}
}

// TestASizeBeyondAllMeasure is no reason to take nothing.
func TestASizeBeyondAllMeasure(t *testing.T) {
	for _, size := range []int64{0, 1 << 30, 1 << 60, 1<<63 - 1} {
		b := newBridge(t, newUpstream(t), func(c *smtpd.Config, _ *smtpd.Account, _ *queue.Config) {
			c.Listeners[0].Capabilities = func() smtpd.Capabilities { return smtpd.Capabilities{Size: size} }
		})
		if got := b.dial().run("S: 220\nC: EHLO x\nS: 250"); !slices.Contains(strings.Fields(got), "67108864") {
			t.Errorf("an upstream that takes %d: %q", size, got)
		}
	}
}

// TestAnEndBetweenTwoReplies: who stops waiting for a server is not kept by a deadline
// that was set right then.
func TestAnEndBetweenTwoReplies(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close() // it never greets
	ctx, cancel := context.WithCancel(t.Context())
	u := smtpd.Upstream{Mode: smtpd.Insecure, Dial: func(ctx context.Context) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", ln.Addr().String())
		return &lateDeadline{Conn: c, cancel: cancel, past: make(chan struct{})}, err
	}}
	start := time.Now()
	if _, err := smtpd.Probe(ctx, u, smtpd.Timeouts{Greet: time.Hour}); err == nil {
		t.Error("it greeted")
	}
	if took := time.Since(start); took > 5*time.Minute {
		t.Errorf("it took %v", took)
	}
}

// lateDeadline is a connection whose context ends right before a deadline is set.
type lateDeadline struct {
	net.Conn
	cancel func()
	past   chan struct{}
}

func (l *lateDeadline) SetDeadline(at time.Time) error {
	defer close(l.past)
	return l.Conn.SetDeadline(at)
}

func (l *lateDeadline) SetReadDeadline(at time.Time) error {
	l.cancel()
	<-l.past
	return l.Conn.SetReadDeadline(at)
}

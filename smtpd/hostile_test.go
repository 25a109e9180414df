package smtpd_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/policy"
	"letterlock.org/letterlock/smtpd"
	"letterlock.org/letterlock/smtpd/queue"
)

// TestSmuggling sends what other servers take for the end of a message, with a
// second message after it. Only CRLF.CRLF ends one; whatever the reply, the
// upstream never gets a transaction that the client did not begin.
func TestSmuggling(t *testing.T) {
	const head = "From: alice@example.org\r\nTo: nobody@example.com\r\nSubject: x\r\n\r\nfirst"
	const second = "MAIL FROM:<alice@example.org>\r\nRCPT TO:<victim@example.com>\r\nDATA\r\nFrom: alice@example.org\r\n\r\nsmuggled\r\n"
	for _, tt := range []struct{ name, end, want string }{
		{"LF.LF", "\n.\n", "554 5.6.0"},
		{"LF.CRLF", "\n.\r\n", "554 5.6.0"},
		{"CRLF.LF", "\r\n.\n", "554 5.6.0"},
		{"CRLF.CR", "\r\n.\r", "554 5.6.0"},
		{"CR.CR", "\r.\r", "554 5.6.0"},
		{"CR.CRLF", "\r.\r\n", "554 5.6.0"},
		{"CRLF.CRCRLF", "\r\n.\r\r\n", "554 5.6.0"},
		{"CRCRLF.CRLF", "\r\r\n.\r\n", "554 5.6.0"},
		{"LFLF.LFLF", "\n\n.\n\n", "554 5.6.0"},
		{"a NUL before the dot", "\r\n\x00.\r\n", "250"},
		{"a dot with a space", "\r\n. \r\n", "250"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			u := newUpstream(t)
			b := newBridge(t, u, withRules(policy.Config{Default: policy.Cleartext}))
			k := b.login()
			k.run("C: MAIL FROM:<alice@example.org>\nS: 250\nC: RCPT TO:<nobody@example.com>\nS: 250\nC: DATA\nS: 354")
			k.send(head + tt.end + second + "\r\n.\r\n")
			if got := k.reply(); !strings.HasPrefix(got, tt.want) {
				t.Errorf("reply %q, want %s", got, tt.want)
			}
			if strings.HasPrefix(tt.end, "\r\r\n") { // it ended there, if its client doesn't think so
				rest, _ := io.ReadAll(k.r)
				if len(rest) > 0 {
					t.Errorf("went on: %q", rest)
				}
			} else {
				k.run("C: NOOP\nS: 250") // nothing after the message was taken for a command
			}
			for _, m := range u.received() {
				if strings.Contains(strings.Join(m.rcpts, " "), "victim") {
					t.Errorf("smuggled: %+v", m)
				}
			}
			if n := len(u.received()); n > 1 {
				t.Errorf("%d messages", n)
			}
		})
	}
}

// TestAStalledMessageIsNotReadAsCommands is go-smtp issue 196: after a time-out
// inside DATA the rest of the body must not be executed.
func TestAStalledMessageIsNotReadAsCommands(t *testing.T) {
	u := newUpstream(t)
	b := newBridge(t, u, func(c *smtpd.Config, _ *smtpd.Account, _ *queue.Config) { c.Timeouts.Client = 100 * time.Millisecond })
	k := b.soon()
	k.send("From: alice@example.org\r\n\r\nfirst\r\n")
	got := k.reply() // of the time-out
	if strings.HasPrefix(got, "250") {
		t.Fatalf("reply %q", got)
	}
	k.send("MAIL FROM:<alice@example.org>\r\nRCPT TO:<bob@example.net>\r\nDATA\r\nFrom: alice@example.org\r\n\r\nx\r\n.\r\n")
	rest, _ := io.ReadAll(k.r)
	if strings.Contains(string(rest), "250") || strings.Contains(string(rest), "354") {
		t.Errorf("went on: %q", rest)
	}
	if n := len(u.received()); n != 0 {
		t.Errorf("%d messages", n)
	}
}

func TestAClientThatDropsInTheMiddleSendsNothing(t *testing.T) {
	u := newUpstream(t)
	b := newBridge(t, u)
	k := b.login()
	k.run("C: MAIL FROM:<alice@example.org>\nS: 250\nC: RCPT TO:<bob@example.net>\nS: 250\nC: DATA\nS: 354")
	k.send(wired(letter("1", "bob@example.net")))
	k.c.Close()
	b.stop() // waits for the session
	if n := len(u.received()); n != 0 {
		t.Errorf("%d messages", n)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if slices.Contains(u.commands, "DATA") {
		t.Error("the upstream was asked to take a message that was not whole")
	}
}

func TestBrowsersAreCutOff(t *testing.T) {
	u := newUpstream(t)
	b := newBridge(t, u)
	for _, verb := range []string{"GET", "POST", "PUT", "OPTIONS", "CONNECT", "get"} {
		k := b.dial()
		k.run("S: 220")
		k.send(verb + " / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nEHLO x\r\n")
		rest, _ := io.ReadAll(k.r)
		if strings.Contains(string(rest), "250") {
			t.Errorf("%s got %q", verb, rest)
		}
	}
}

func TestBDAT(t *testing.T) {
	u := newUpstream(t)
	b := newBridge(t, u)
	msg := letter("1", "bob@example.net")
	k := b.login()
	k.run("C: MAIL FROM:<alice@example.org>\nS: 250\nC: RCPT TO:<bob@example.net>\nS: 250")
	k.send("BDAT 20\r\n" + msg[:20])
	k.run("S: 250")
	k.send("BDAT " + itoa(len(msg)-20) + " LAST\r\n" + msg[20:])
	k.run("S: 250 2.0.0 sent")
	// With bare line ends.
	k.run("C: MAIL FROM:<alice@example.org>\nS: 250\nC: RCPT TO:<bob@example.net>\nS: 250")
	k.send("BDAT 31 LAST\r\nFrom: alice@example.org\n\nabcde\n")
	k.run("S: 554 5.6.0\nC: NOOP\nS: 250")
	// Begun and taken back: the next message has nothing of it.
	msg = letter("2", "bob@example.net")
	k.run("C: MAIL FROM:<alice@example.org>\nS: 250\nC: RCPT TO:<bob@example.net>\nS: 250")
	k.send("BDAT 20\r\n" + msg[:20])
	k.run("S: 250")
	k.send("RSET\r\nMAIL FROM:<alice@example.org>\r\nRCPT TO:<bob@example.net>\r\nBDAT " + itoa(len(msg)) + " LAST\r\n" + msg)
	k.run("S: 250\nS: 250\nS: 250\nS: 250 2.0.0")
	if n := len(u.received()); n != 2 {
		t.Errorf("%d messages, want 2", n)
	}
}

func itoa(n int) string {
	var b []byte
	for ; n > 0; n /= 10 {
		b = append([]byte{byte('0' + n%10)}, b...)
	}
	return string(b)
}

func TestTooLargeAndTooMany(t *testing.T) {
	u := newUpstream(t)
	b := newBridge(t, u, func(c *smtpd.Config, _ *smtpd.Account, _ *queue.Config) { c.MaxSize, c.MaxRecipients = 2000, 2 })
	k := b.login()
	k.run(`
		C: MAIL FROM:<alice@example.org> SIZE=5000
		S: 552 5.3.4
		C: MAIL FROM:<alice@example.org>
		S: 250
		C: RCPT TO:<bob@example.net>
		S: 250
		C: RCPT TO:<carol@example.net>
		S: 250
		C: RCPT TO:<dave@example.net>
		S: 452 4.5.3
		C: DATA
		S: 354`)
	k.send("From: alice@example.org\r\n\r\n" + strings.Repeat("x", 3000) + "\r\n.\r\n")
	k.run("S: 552 5.3.4\nC: NOOP\nS: 250")
}

// TestNobodyNamesPeopleForEver: those who are refused cost memory and a look-up
// each, too.
func TestNobodyNamesPeopleForEver(t *testing.T) {
	b := newBridge(t, newUpstream(t), withRules(policy.Config{Default: policy.Require}), func(c *smtpd.Config, _ *smtpd.Account, _ *queue.Config) { c.MaxRecipients = 2 })
	k := b.login()
	k.run("C: MAIL FROM:<alice@example.org>\nS: 250")
	for i := range 8 {
		k.run(fmt.Sprintf("C: RCPT TO:<u%d@example.com>\nS: 550", i))
	}
	k.run("C: RCPT TO:<bob@example.net>\nS: 452 4.5.3\nC: RSET\nS: 250\nC: MAIL FROM:<alice@example.org>\nS: 250\nC: RCPT TO:<bob@example.net>\nS: 250")
}

func TestTooManySessions(t *testing.T) {
	u := newUpstream(t)
	b := newBridge(t, u, func(c *smtpd.Config, _ *smtpd.Account, _ *queue.Config) { c.MaxSessions = 1 })
	first := b.login()
	b.dial().run("S: 421 4.7.0")
	first.run("C: QUIT\nS: 221")
	eventually(t, "there is room again", func() bool { return strings.HasPrefix(b.dial().reply(), "220") })
}

// TestIdleStrangersKeepNobodyOut: every program on the machine can connect.
func TestIdleStrangersKeepNobodyOut(t *testing.T) {
	u := newUpstream(t)
	b := newBridge(t, u, func(c *smtpd.Config, _ *smtpd.Account, _ *queue.Config) { c.MaxSessions = 3 })
	first := b.login()
	for range 3 {
		for range 3 {
			b.dial().run("S: 220")
		}
		b.login().run("C: NOOP\nS: 250\nC: QUIT\nS: 221")
	}
	first.run("C: NOOP\nS: 250")
}

func TestStuff(t *testing.T) {
	long := strings.Repeat("x", 64<<10-2)
	for _, tt := range []struct{ name, in, want string }{
		{"a dot at the beginning", ".a\r\n", "..a\r\n"},
		{"the end within", "a\r\n.\r\nb\r\n", "a\r\n..\r\nb\r\n"},
		{"dots after dots", "..\r\n...\r\n", "...\r\n....\r\n"},
		{"no line end at the end", "a", "a\r\n"},
		{"a bare CR at the end", "a\r", "a\r\r\n"},
		{"the end for who takes CR for a line's", "a\r.\rb\r\n", "a\r..\rb\r\n"},
		{"the end for who leaves NULs out", "a\r\n\x00\x00.\x00\r\n", "a\r\n\x00\x00..\x00\r\n"},
		{"and a NUL where the buffer is cut", long + "\r\n\x00.b\r\n", long + "\r\n\x00..b\r\n"},
		{"NULs in a line", "a\x00.\r\n", "a\x00.\r\n"},
		{"nothing", "", ""},
		{"a dot where the buffer is cut", long + "\r\n.b\r\n", long + "\r\n..b\r\n"},
		{"a line end where the buffer is cut", long + "x\r\n.b\r\n", long + "x\r\n..b\r\n"},
		{"one byte after the cut", long + "\r\n.", long + "\r\n..\r\n"},
	} {
		var got bytes.Buffer
		if err := smtpd.Stuff(&got, message.Bytes([]byte(tt.in))); err != nil {
			t.Fatal(err)
		}
		if got.String() != tt.want {
			t.Errorf("%s: got …%q, want …%q", tt.name, tail(got.String()), tail(tt.want))
		}
	}
}

func tail(s string) string { return s[max(0, len(s)-20):] }

// FuzzReply: whatever an upstream says, reading it ends and is safe to show.
func FuzzReply(f *testing.F) {
	for _, s := range []string{"250 ok\r\n", "250-a\r\n250 2.1.0 b\r\n", "550 5.1.1\r\n", "9", "354\r\n", "250\n", "2x0 \r\n", "250-\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		a, c := net.Pipe()
		go func() {
			c.SetWriteDeadline(time.Now().Add(time.Second))
			c.Write(b)
			c.Close()
		}()
		code, status, text, err := smtpd.ReadReply(a)
		a.Close()
		if err != nil {
			return
		}
		if code < 200 || code > 599 || len(status) < 5 || len(text) > 300 || strings.ContainsFunc(status+text, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("%d %q %q", code, status, text)
		}
	})
}

// FuzzStuff: what is stuffed never holds the end of a message before its end,
// and gives back what went in.
func FuzzStuff(f *testing.F) {
	for _, s := range []string{".", "\r\n.\r\n", "a\n.\n", "..", "\r\n..\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var out bytes.Buffer
		if err := smtpd.Stuff(&out, message.Bytes(b)); err != nil {
			t.Fatal(err)
		}
		s := out.String()
		if strings.Contains("\n"+strings.NewReplacer("\r", "\n", "\x00", "").Replace(s), "\n.\n") {
			t.Fatalf("an end within: %q", s)
		}
		if bytes.IndexByte(b, 0) >= 0 {
			return
		}
		back := strings.NewReplacer("\n.", "\n", "\r.", "\r").Replace("\n" + s)[1:]
		if in := string(b); back != in && back != in+"\r\n" {
			t.Errorf("got back %q of %q", back, in)
		}
	})
}

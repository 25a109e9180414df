package smtpd_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"testing"

	"letterlock.org/letterlock/smtpd"
	"letterlock.org/letterlock/smtpd/queue"
)

// TestNothingIsInjectedThroughAnyParameter puts line ends, NULs, other commands
// and header fields, raw and in every encoding that some parameter has, into all
// that a client may say, in random dialogues: the smarthost hears no command and
// takes no recipient that was not meant, and no field of the message begins with
// what was smuggled.
func TestNothingIsInjectedThroughAnyParameter(t *testing.T) {
	poison := []string{"\r\nRCPT TO:<victim@example.com>", "\nX-Evil: 1", "\rX-Evil: 1", "+0D+0AX-Evil:+201", "+0D+0ARCPT TO:<victim@example.com>", "\x00", "\"\r\nX-Evil: 1\"",
		"=0D=0AX-Evil: 1", "%0d%0aX-Evil: 1", "\u2028X-Evil: 1", "\xc2\x85X-Evil: 1", "> SIZE=1\r\nX-Evil: 1", "\\\r\nX-Evil: 1", "\v\fX-Evil: 1", "[1.2.3.4]\r\n\tX-Evil: 1", strings.Repeat("a", 3000)}
	r := rand.New(rand.NewPCG(7, 7))
	u := newUpstream(t)
	b := newBridge(t, u, func(c *smtpd.Config, a *smtpd.Account, _ *queue.Config) {
		asRelay()(c, a, nil)
		c.Listeners[0].Open = func(context.Context, smtpd.Peer) *smtpd.Account { return a }
		c.Listeners[0].Forward = func(smtpd.Peer) bool { return true }
	})
	p := func() string {
		if r.IntN(4) == 0 {
			return pick(r, poison...)
		}
		return ""
	}
	for n := range 400 {
		c, err := net.Dial("tcp", b.addr)
		if err != nil {
			t.Fatal(err)
		}
		text := wired(letter(fmt.Sprint(n), "bob@example.net"))
		fmt.Fprintf(c, "EHLO host%s\r\nXFORWARD NAME=n%s ADDR=1.2.3.4%s HELO=h%s IDENT=i%s SOURCE=REMOTE%s\r\nMAIL FROM:<alice%s@example.org> RET=HDRS ENVID=e%s\r\n"+
			"RCPT TO:<bob@example.net> NOTIFY=NEVER ORCPT=rfc822;o%s\r\nRCPT TO:<\"q%s\"@example.net>\r\nDATA\r\n%s.\r\nQUIT\r\n", p(), p(), p(), p(), p(), p(), p(), p(), p(), p(), text)
		c.(*net.TCPConn).CloseWrite()
		io.Copy(io.Discard, c)
		c.Close()
	}
	taken := 0
	for _, m := range u.received() {
		taken++
		if strings.Contains(strings.Join(m.rcpts, " "), "victim") && !strings.Contains(m.data, "BEGIN PGP MESSAGE") {
			t.Errorf("to %q in clear", m.rcpts)
		}
		for line := range strings.Lines(m.data) {
			if strings.HasPrefix(strings.TrimSpace(line), "X-Evil") {
				t.Errorf("a field was injected: %q", line)
			}
		}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, cmd := range u.commands {
		if strings.HasPrefix(cmd, "X-Evil") {
			t.Errorf("the smarthost got the command %q", cmd)
		}
	}
	for line := range strings.Lines(b.log.String()) {
		if !strings.HasPrefix(line, "time=") {
			t.Errorf("a line of the log was injected: %q", line)
		}
	}
	if taken < 20 {
		t.Errorf("only %d messages were taken", taken)
	}
}

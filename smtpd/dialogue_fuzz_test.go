package smtpd_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"letterlock.org/letterlock/smtpd"
	"letterlock.org/letterlock/smtpd/queue"
)

// pipes is a listener without ports.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error {
	select {
	case <-p.done:
	default:
		close(p.done)
	}
	return nil
}
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// panicLog notes whether a panic was logged.
type panicLog struct{ panicked atomic.Bool }

func (l *panicLog) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte("panic")) {
		l.panicked.Store(true)
	}
	return len(p), nil
}

// FuzzDialogue: whatever a client sends, its session ends with its connection,
// without a panic, and every reply is well formed.
func FuzzDialogue(f *testing.F) {
	for _, s := range []string{
		"EHLO x\r\nMAIL FROM:<alice@example.org> SIZE=10\r\nRCPT TO:<bob@example.net> NOTIFY=NEVER\r\nDATA\r\nFrom: alice@example.org\r\n\r\nx\r\n.\r\nQUIT\r\n",
		"EHLO x\r\nMAIL FROM:<alice@example.org>\r\nRCPT TO:<bob@example.net>\r\nBDAT 5\r\nFrom:BDAT 22 LAST\r\n alice@example.org\r\n\r\nRSET\r\n",
		"HELO x\r\nXCLIENT ADDR=1.2.3.4\r\nEHLO y\r\nXFORWARD NAME=x\r\nMAIL FROM:<>\r\nVRFY\r\n",
		"AUTH PLAIN\r\n*\r\nSTARTTLS\r\nDATA\r\nBDAT 3 LAST\r\nabc",
	} {
		f.Add([]byte(s))
	}
	l := &pipes{make(chan net.Conn), make(chan struct{})}
	log := &panicLog{}
	newBridge(f, newUpstream(f), func(c *smtpd.Config, a *smtpd.Account, _ *queue.Config) {
		c.Listeners = []smtpd.Listener{{Listener: l, Login: c.Listeners[0].Login, Capabilities: c.Listeners[0].Capabilities,
			Open:    func(context.Context, smtpd.Peer) *smtpd.Account { return a },
			Forward: func(smtpd.Peer) bool { return true }}}
		c.MaxSize, c.Logger = 1<<20, slog.New(slog.NewTextHandler(log, nil))
	})
	f.Fuzz(func(t *testing.T, in []byte) {
		ours, theirs := net.Pipe()
		l.conns <- theirs
		ours.SetDeadline(time.Now().Add(20 * time.Second))
		out := make(chan string, 1)
		go func() {
			all, err := io.ReadAll(ours)
			if err != nil && !errors.Is(err, io.ErrClosedPipe) {
				all = append(all, err.Error()...)
			}
			out <- string(all)
		}()
		ours.Write(append(in, "\r\n.\r\nQUIT\r\n"...))
		time.AfterFunc(50*time.Millisecond, func() { ours.Close() })
		for line := range strings.Lines(<-out) {
			if !strings.HasSuffix(line, "\n") { // we closed it there
				continue
			}
			if len(line) < 5 || line[0] < '2' || line[0] > '5' || !strings.HasSuffix(line, "\r\n") {
				t.Errorf("reply %q", line)
			}
		}
		if log.panicked.Load() {
			t.Fatal("panic")
		}
	})
}

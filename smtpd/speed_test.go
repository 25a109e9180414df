//go:build unix

package smtpd_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net"
	netsmtp "net/smtp"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/smtpd"
	"letterlock.org/letterlock/smtpd/queue"
)

// BenchmarkSubmission measures one submission: STARTTLS and AUTH, signed and
// encrypted, journal on disk, against the floor beside it: a go-smtp relay that
// passes everything through, its TLS, AUTH and upstream alike. cpu-ms/msg is of
// the whole process, generator and sink included: the ratio of both figures is
// what a saturated machine can show, and it is steadier than msg/s. Run with
// -count, and compare medians of one run only.
func BenchmarkSubmission(b *testing.B) {
	server, client := certify(b)
	for _, load := range []struct {
		name    string
		size    int
		clients int
	}{{"10KB,16clients", 10 << 10, 16}, {"10MB,1client", 10 << 20, 1}} {
		text := strings.Repeat(strings.Repeat("0123456789 ", 6)+"\r\n", load.size/68)
		b.Run(load.name+"/floor", func(b *testing.B) {
			submit(b, floor(b, server, sink(b)), client, load.clients, text)
		})
		b.Run(load.name+"/bridge", func(b *testing.B) {
			submit(b, timedBridge(b, server, sink(b)), client, load.clients, text)
		})
	}
}

func timedBridge(b *testing.B, server *tls.Config, up net.Listener) string {
	st, err := store.Open(filepath.Join(b.TempDir(), "s.db"), [32]byte{1}, queue.Schema)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { st.Close() })
	r := newBridgeOn(b, &upstream{ln: up, user: "u"}, st, func(c *smtpd.Config, _ *smtpd.Account, _ *queue.Config) {
		c.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
		c.TLS, c.Timeouts = server, smtpd.Timeouts{}
	})
	return r.addr
}

// submit has b.N messages submitted, a hundred per connection.
func submit(b *testing.B, addr string, conf *tls.Config, clients int, text string) {
	b.SetBytes(int64(len(text)))
	var next atomic.Int64
	var all sync.WaitGroup
	b.ResetTimer()
	cpu := cpuTime()
	for range clients {
		all.Go(func() {
			for next.Load() < int64(b.N) {
				if err := submitSome(addr, conf, &next, int64(b.N), text); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	b.ReportMetric((cpuTime()-cpu).Seconds()*1000/float64(b.N), "cpu-ms/msg")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
}

// submitSome is one connection.
func submitSome(addr string, conf *tls.Config, next *atomic.Int64, n int64, text string) error {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	r := bufio.NewReader(c)
	say := func(command string) error {
		if command != "" {
			if _, err := io.WriteString(c, command+"\r\n"); err != nil {
				return err
			}
		}
		for {
			l, err := r.ReadString('\n')
			if err != nil {
				return err
			}
			if l[0] > '3' {
				return fmt.Errorf("to %.40q: %s", command, l)
			}
			if l[3] != '-' {
				return nil
			}
		}
	}
	for _, command := range []string{"", "EHLO bench", "STARTTLS"} {
		if err := say(command); err != nil {
			return err
		}
	}
	c = tls.Client(c, conf)
	r = bufio.NewReader(c)
	commands := []string{"EHLO bench", "AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00alice@example.org\x00pw"))}
	for i := range 100 {
		id := next.Add(1)
		if id > n {
			break
		}
		commands = append(commands, "MAIL FROM:<alice@example.org>", "RCPT TO:<bob@example.net>", "DATA",
			fmt.Sprintf("From: alice@example.org\r\nTo: bob@example.net\r\nSubject: %d\r\nMessage-ID: <%d.%d.%p@example.org>\r\n\r\n%s.", id, id, i, c, text))
		for _, command := range commands {
			if err := say(command); err != nil {
				return err
			}
		}
		commands = commands[:0]
	}
	return nil
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// sink is the cheapest upstream: it takes everything.
func sink(b *testing.B) net.Listener {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go swallow(c)
		}
	}()
	return ln
}

func swallow(c net.Conn) {
	defer c.Close()
	r := bufio.NewReaderSize(c, 64<<10)
	say := func(s string) { io.WriteString(c, s+"\r\n") }
	say("220 sink")
	for body := false; ; {
		l, err := r.ReadSlice('\n')
		switch {
		case err != nil:
			return
		case body && len(l) == 3 && l[0] == '.':
			body = false
			say("250 2.0.0 taken")
		case body:
		case bytes.HasPrefix(l, []byte("EHLO")):
			say("250-sink\r\n250-AUTH PLAIN\r\n250-PIPELINING\r\n250 8BITMIME")
		case bytes.HasPrefix(l, []byte("AUTH")):
			say("235 2.7.0 yes")
		case bytes.HasPrefix(l, []byte("DATA")):
			body = true
			say("354 go on")
		case bytes.HasPrefix(l, []byte("QUIT")):
			say("221 2.0.0 bye")
			return
		default:
			say("250 2.0.0 ok")
		}
	}
}

// floor is the least that a synchronous proxy does: go-smtp in front, net/smtp
// behind, nothing between.
func floor(b *testing.B, conf *tls.Config, up net.Listener) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	s := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &passing{up: up.Addr().String()}, nil }))
	s.Domain, s.TLSConfig = "localhost", conf
	go s.Serve(ln)
	b.Cleanup(func() { s.Close() })
	return ln.Addr().String()
}

type passing struct {
	up   string
	next *netsmtp.Client
}

func (p *passing) AuthMechanisms() []string { return []string{"PLAIN"} }
func (p *passing) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, _, _ string) error { return nil }), nil
}
func (p *passing) Reset() {}
func (p *passing) Logout() error {
	if p.next != nil {
		p.next.Quit()
	}
	return nil
}
func (p *passing) Mail(from string, _ *smtp.MailOptions) (err error) {
	if p.next == nil {
		if p.next, err = netsmtp.Dial(p.up); err != nil {
			return err
		}
		if err = p.next.Auth(netsmtp.PlainAuth("", "u", "p", "127.0.0.1")); err != nil {
			return err
		}
	}
	return p.next.Mail(from)
}
func (p *passing) Rcpt(to string, _ *smtp.RcptOptions) error { return p.next.Rcpt(to) }
func (p *passing) Data(r io.Reader) error {
	w, err := p.next.Data()
	if err != nil {
		return err
	}
	if _, err = io.Copy(w, r); err != nil {
		return err
	}
	return w.Close()
}

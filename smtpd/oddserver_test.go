package smtpd_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"letterlock.org/letterlock/smtpd"
	"letterlock.org/letterlock/smtpd/queue"
)

// oddServer is a mail server as others have written it: it answers what the test
// says, and takes every message.
type oddServer struct {
	t  testing.TB
	ln net.Listener
	// say is the reply, without its last CRLF, to the longest beginning of a command
	// that fits; "" for the greeting, "." for the end of a message. The nth of several
	// with "|" between is for the nth such command of a connection, the last for all
	// after it. A reply that ends in "!" is the last, and the connection ends; one that
	// begins with "~" comes after oddPause.
	say map[string]string
	// body, if set, has the first bytes of a message and the connection instead.
	body func(c net.Conn, r *bufio.Reader)

	mu       sync.Mutex // guards what follows
	commands []string
	mail     []string
	conns    int
}

// oddPause is how long a server thinks.
const oddPause = 300 * time.Millisecond

// newOddServer is one that does what is usual but for say.
func newOddServer(t testing.TB, say map[string]string) *oddServer {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o := &oddServer{t: t, ln: ln, say: map[string]string{"": "220 odd.example ESMTP", "EHLO": "250-odd.example\r\n250-SIZE 1000000\r\n250 8BITMIME",
		"HELO": "250 odd.example", "MAIL": "250 ok", "RCPT": "250 ok", "DATA": "354 go", ".": "250 taken", "RSET": "250 ok", "NOOP": "250 ok", "QUIT": "221 bye!"}}
	for k, v := range say {
		o.say[k] = v
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			all.Go(func() { defer c.Close(); o.serve(c) })
		}
	})
	t.Cleanup(func() { ln.Close(); all.Wait() })
	return o
}

// as makes it the upstream of a bridge, which logs in if user is set.
func (o *oddServer) as(user, password string) option {
	return func(_ *smtpd.Config, a *smtpd.Account, _ *queue.Config) {
		a.Upstream = smtpd.Upstream{Mode: smtpd.Insecure, Name: o.ln.Addr().String(), User: user, Password: password, Dial: o.dial}
	}
}

func (o *oddServer) dial(ctx context.Context) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "tcp", o.ln.Addr().String())
}

func (o *oddServer) serve(c net.Conn) {
	r, count := bufio.NewReader(c), map[string]int{}
	o.mu.Lock()
	o.conns++
	o.mu.Unlock()
	answer := func(key string) (string, bool) {
		all := strings.Split(o.say[key], "|")
		text, ends := strings.CutSuffix(all[min(count[key], len(all)-1)], "!")
		count[key]++
		text, late := strings.CutPrefix(text, "~")
		if late {
			time.Sleep(oddPause)
		}
		io.WriteString(c, text+"\r\n")
		return text, !ends
	}
	if _, on := answer(""); !on {
		return
	}
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimSuffix(line, "\r\n")
		o.mu.Lock()
		o.commands = append(o.commands, line)
		o.mu.Unlock()
		key := ""
		for k := range o.say {
			if k != "." && len(k) > len(key) && strings.HasPrefix(line, k) {
				key = k
			}
		}
		if key == "" {
			io.WriteString(c, "500 what?\r\n")
			continue
		}
		text, on := answer(key)
		if !on {
			return
		}
		if key != "DATA" || !strings.HasPrefix(text, "354") {
			continue
		}
		if o.body != nil {
			o.body(c, r)
			return
		}
		if !o.take(r) {
			return
		}
		if _, on := answer("."); !on {
			return
		}
	}
}

// take reads a message.
func (o *oddServer) take(r *bufio.Reader) bool {
	var b strings.Builder
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return false
		}
		if line == ".\r\n" {
			break
		}
		b.WriteString(strings.TrimPrefix(line, "."))
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.mail = append(o.mail, b.String())
	return true
}

func (o *oddServer) heard(line string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Contains(o.commands, line)
}

func (o *oddServer) taken() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.mail)
}

// connected is how many connections it has had.
func (o *oddServer) connected() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.conns
}

package smtpd_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"

	"letterlock.org/letterlock/smtpd"
)

// upstream is a submission server with faults. Steps are "connect", "ehlo",
// "auth", "mail", "rcpt", "data", "body" (after the first line of the message)
// and "dot".
type upstream struct {
	start   func()           // see newUpstream
	stalled func(c net.Conn) // called where a fault stalls; nil for nothing
	t       testing.TB
	ln      net.Listener
	caps    []string
	tls     *tls.Config // STARTTLS
	user    string      // demanded with password "secret"; "" demands nothing

	mu       sync.Mutex
	fault    func(step string, n int, arg string) fault // n counts from 1 per step
	counts   map[string]int
	mail     []delivered
	wire     bytes.Buffer // everything that was received
	commands []string
	conns    map[net.Conn]bool
}

// fault is what goes wrong at a step; the zero value is nothing.
type fault struct {
	reply string // instead of the usual one
	apply bool   // the message is taken nevertheless, with its answer lost or wrong
	drop  bool   // the connection is closed, after reply if there is one
	stall bool   // no answer at all
}

// delivered is one message that the upstream has taken.
type delivered struct {
	from  string
	rcpts []string
	mail  string // the MAIL command
	lines []string
	data  string
}

func newUpstream(t testing.TB) *upstream {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u := &upstream{t: t, ln: ln, caps: []string{"PIPELINING", "8BITMIME", "SMTPUTF8", "DSN", "SIZE 100000000"}, counts: map[string]int{}, conns: map[net.Conn]bool{}}
	var all sync.WaitGroup
	// It answers from when somebody dials: what a test sets of it before is set.
	u.start = sync.OnceFunc(func() {
		all.Go(func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				u.mu.Lock()
				u.conns[c] = true
				u.mu.Unlock()
				all.Go(func() { defer c.Close(); u.serve(c) })
			}
		})
	})
	t.Cleanup(func() {
		ln.Close()
		u.mu.Lock()
		for c := range u.conns {
			c.Close()
		}
		u.mu.Unlock()
		all.Wait()
	})
	return u
}

func (u *upstream) config() smtpd.Upstream {
	return smtpd.Upstream{Mode: smtpd.Insecure, Name: u.ln.Addr().String(), User: u.user, Password: "secret",
		Dial: func(ctx context.Context) (net.Conn, error) {
			if u.start != nil {
				u.start()
			}
			return (&net.Dialer{}).DialContext(ctx, "tcp", u.ln.Addr().String())
		}}
}

// failWith sets the fault hook.
func (u *upstream) failWith(f func(step string, n int, arg string) fault) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.fault = f
	u.counts = map[string]int{}
}

func (u *upstream) at(step, arg string) fault {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.counts[step]++
	if u.fault == nil {
		return fault{}
	}
	return u.fault(step, u.counts[step], arg)
}

// count is how often a step has come since failWith.
func (u *upstream) count(step string) int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.counts[step]
}

func (u *upstream) received() []delivered {
	u.mu.Lock()
	defer u.mu.Unlock()
	return append([]delivered(nil), u.mail...)
}

// saw tells whether a text came over the wire, also inside base64 or
// quoted-printable, which would not hide it.
func (u *upstream) saw(text string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	b := u.wire.Bytes()
	if bytes.Contains(b, []byte(text)) || bytes.Contains(bytes.ReplaceAll(b, []byte("=\r\n"), nil), []byte(text)) {
		return true
	}
	if len(text) < 12 {
		return false
	}
	joined := bytes.ReplaceAll(b, []byte("\r\n"), nil)
	for shift := range 3 { // the three ways in which base64 can be aligned
		enc := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", shift) + text))
		if bytes.Contains(joined, []byte(enc[4:len(enc)-4])) {
			return true
		}
	}
	return false
}

func (u *upstream) serve(c net.Conn) {
	r, say := bufio.NewReader(c), func(s string) { fmt.Fprintf(c, "%s\r\n", s) }
	step := func(name, arg, usual string) bool {
		f := u.at(name, arg)
		if f.stall {
			u.silent(c)
			return false
		}
		if f.reply != "" {
			say(f.reply)
		} else if !f.drop && usual != "" {
			say(usual)
		}
		if f.drop {
			c.Close()
		}
		return f == fault{}
	}
	if !step("connect", "", "220 upstream.example ESMTP") {
		io.Copy(io.Discard, r)
		return
	}
	var now delivered
	authed := u.user == ""
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		u.mu.Lock()
		u.wire.WriteString(line)
		u.commands = append(u.commands, strings.TrimSpace(line))
		u.mu.Unlock()
		line = strings.TrimRight(line, "\r\n")
		verb, arg, _ := strings.Cut(line, " ")
		switch strings.ToUpper(verb) {
		case "EHLO":
			caps := append([]string{"upstream.example"}, u.caps...)
			if u.user != "" {
				caps = append(caps, "AUTH PLAIN LOGIN")
			}
			if _, secure := c.(*tls.Conn); u.tls != nil && !secure {
				caps = append(caps, "STARTTLS")
			}
			var b strings.Builder
			for i, s := range caps {
				sep := "-"
				if i == len(caps)-1 {
					sep = " "
				}
				b.WriteString("250" + sep + s + "\r\n")
			}
			step("ehlo", arg, strings.TrimSuffix(b.String(), "\r\n"))
		case "STARTTLS":
			if !step("starttls", arg, "220 go ahead") {
				continue
			}
			tc := tls.Server(c, u.tls)
			if tc.Handshake() != nil {
				return
			}
			c, r = tc, bufio.NewReader(tc)
		case "AUTH":
			want := "PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00"+u.user+"\x00secret"))
			if arg != want {
				say("535 5.7.8 no")
				continue
			}
			authed = step("auth", arg, "235 2.7.0 ok") || authed
		case "MAIL":
			if !authed {
				say("530 5.7.0 log in")
				continue
			}
			now = delivered{mail: line}
			now.from = between(line)
			if !step("mail", now.from, "250 2.1.0 ok") {
				now = delivered{}
			}
		case "RCPT":
			if now.mail == "" {
				say("503 5.5.1 MAIL first")
				continue
			}
			if step("rcpt", between(line), "250 2.1.5 ok") {
				now.rcpts = append(now.rcpts, between(line))
				now.lines = append(now.lines, line)
			}
		case "DATA":
			if len(now.rcpts) == 0 {
				say("503 5.5.1 RCPT first")
				continue
			}
			if !step("data", "", "354 go on") {
				continue
			}
			data, ok := u.body(c, r, step)
			if !ok {
				return
			}
			f := u.at("dot", strings.Join(now.rcpts, ","))
			if _, size, declared := strings.Cut(now.mail, " SIZE="); declared && strings.Fields(size)[0] != strconv.Itoa(len(data)) {
				u.t.Errorf("%s: the message has %d bytes", now.mail, len(data))
			}
			if f == (fault{}) || f.apply {
				now.data = data
				u.mu.Lock()
				u.mail = append(u.mail, now)
				u.mu.Unlock()
			}
			now = delivered{}
			if f.reply != "" {
				say(f.reply)
			} else if !f.drop && !f.stall {
				say("250 2.0.0 queued as 1")
			}
			if f.stall {
				u.silent(c)
			}
			if f.drop {
				c.Close()
			}
		case "RSET":
			now = delivered{}
			say("250 2.0.0 ok")
		case "NOOP":
			say("250 2.0.0 ok")
		case "QUIT":
			say("221 2.0.0 bye")
			return
		default:
			u.t.Errorf("the upstream got the command %q", line)
			say("500 5.5.2 what")
		}
	}
}

// silent tells that a fault stalls.
func (u *upstream) silent(c net.Conn) {
	if u.stalled != nil {
		u.stalled(c)
	}
}

// body reads a message up to the final dot, undoing dot-stuffing.
func (u *upstream) body(c net.Conn, r *bufio.Reader, step func(string, string, string) bool) (string, bool) {
	var data strings.Builder
	first := true
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return "", false
		}
		u.mu.Lock()
		u.wire.WriteString(line)
		u.mu.Unlock()
		if line == ".\r\n" {
			return data.String(), true
		}
		if first && !step("body", "", "") {
			io.Copy(io.Discard, r)
			return "", false
		}
		first = false
		data.WriteString(strings.TrimPrefix(line, "."))
	}
}

func between(line string) string {
	_, s, _ := strings.Cut(line, "<")
	s, _, _ = strings.Cut(s, ">")
	return s
}

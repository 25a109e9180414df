package smtpd_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// soakFault is one thing that a soakHost does at the nth time of a step.
type soakFault struct {
	Step string // connect, tls, ehlo, auth, mail, rcpt, data, body, dot
	Nth  int
	// Say is sent instead of the usual reply; "" with Drop or Mute is nothing.
	Say  string
	Drop bool          // the connection ends afterwards, with a reset if Reset
	Mute bool          // nothing is answered any more
	Wait time.Duration // before the answer
	Take bool          // at the dot: the message is taken whatever is said
	// Reset throws away what the other side has not read yet.
	Reset bool
	// Kill is the death of the process that speaks to us, before or after the step
	// takes effect.
	Kill string // "", before, after
}

// soakFaults are the ways in which each step may fail. Where a reply is neither
// positive nor negative, or there is none, nobody knows what became of it.
var soakFaults = map[string][]soakFault{
	"connect": {{Say: "421 4.3.2 too many", Drop: true}, {Drop: true}, {Drop: true, Reset: true}, {Say: "554 5.3.2 go away", Drop: true}, {Say: "hello"}, {Say: "220-and so on", Drop: true}, {Say: "\x16\x03\x01"}},
	"tls":     {{Say: "454 4.7.0 no TLS now"}, {Drop: true}, {Say: "220 go\r\n250 injected"}, {Say: "\x00\x01garbage"}},
	"ehlo":    {{Say: "421 4.3.2 down", Drop: true}, {Say: "502 5.5.1 what"}, {Drop: true}, {Say: "250-a\r\n999 b"}},
	"auth":    {{Say: "454 4.7.0 later"}, {Say: "535 5.7.8 who"}, {Drop: true}, {Say: "334 "}},
	"mail":    {{Say: "451 4.3.0 later"}, {Say: "421 4.3.2 down", Drop: true}, {Say: "550 5.7.1 not you"}, {Drop: true, Reset: true}, {Say: "354 go on"}, {Say: "25", Drop: true}},
	"rcpt":    {{Say: "450 4.2.1 later"}, {Say: "550 5.1.1 nobody"}, {Say: "421 4.3.2 down", Drop: true}, {Drop: true}, {Say: "\xff\xfe"}, {Say: "250 2.1.5 ok\r\n250 2.1.5 and more"}},
	"data":    {{Say: "451 4.3.0 later"}, {Say: "554 5.5.1 none"}, {Drop: true}, {Say: "250 2.0.0 ok"}, {Say: "354", Drop: true}},
	"body":    {{Say: "421 4.3.2 down", Drop: true}, {Drop: true}, {Drop: true, Reset: true}, {Say: "451 4.3.0 enough", Drop: true}, {Say: "354 go on, go on", Drop: true}},
	"dot": {{Say: "451 4.3.0 later"}, {Say: "554 5.7.1 spam"}, {Say: "421 4.3.2 down", Drop: true}, {Drop: true}, {Drop: true, Take: true}, {Drop: true, Take: true, Reset: true},
		{Say: "25", Drop: true, Take: true}, {Say: "\xff\xff\xff", Take: true}, {Say: "\xff", Drop: true}, {Say: "354 more", Take: true}, {Say: "250-taken", Drop: true, Take: true}},
}

// plainAnswer is what PLAIN answers to a challenge.
var plainAnswer = base64.StdEncoding.EncodeToString([]byte("\x00alice\x00secret"))

// slowFaults are faults that take real time.
var slowFaults = map[string][]soakFault{
	"connect": {{Mute: true}}, "rcpt": {{Mute: true}}, "data": {{Mute: true}},
	"dot": {{Mute: true}, {Mute: true, Take: true}, {Wait: 150 * time.Millisecond, Take: true}, {Wait: 150 * time.Millisecond, Say: "451 4.3.0 slow", Take: false}},
}

// taken is one message that a soakHost has really accepted.
type taken struct {
	from, id string // id is the Message-ID
	rcpts    []string
	data     string
}

// soakHost is a smarthost that fails as it is told, and remembers what it did.
type soakHost struct {
	start  func() // see newSoakHost
	ln     net.Listener
	tls    *tls.Config // STARTTLS is offered; nil for none
	kill   func()      // ends the process that speaks to us
	always func(step, arg string) string

	mu     sync.Mutex // guards what follows
	calm   bool
	faults []soakFault
	counts map[string]int
	hits   []soakFault
	taken  []taken
	wire   bytes.Buffer
	log    []string
	bad    []string // what no client may say
	conns  map[net.Conn]bool
	all    sync.WaitGroup
}

func newSoakHost() (*soakHost, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	h := &soakHost{ln: ln, counts: map[string]int{}, conns: map[net.Conn]bool{}}
	// It answers from when somebody dials: what a test sets of it before is set.
	h.start = sync.OnceFunc(func() { h.all.Go(h.accept) })
	return h, nil
}

func (h *soakHost) accept() {
	for {
		c, err := h.ln.Accept()
		if err != nil {
			return
		}
		h.mu.Lock()
		h.conns[c] = true
		h.mu.Unlock()
		h.all.Go(func() {
			(&soakTalk{h: h, c: c, raw: c, r: bufio.NewReader(c)}).serve()
			h.mu.Lock()
			delete(h.conns, c)
			h.mu.Unlock()
			c.Close()
		})
	}
}

func (h *soakHost) close() {
	h.ln.Close()
	h.mu.Lock()
	for c := range h.conns {
		c.Close()
	}
	h.mu.Unlock()
	h.all.Wait()
}

func (h *soakHost) note(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.log = append(h.log, fmt.Sprintf(format, args...))
}

// at says what goes wrong now.
func (h *soakHost) at(step, arg string) soakFault {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.counts[step]++
	n := h.counts[step]
	if h.always != nil {
		if say := h.always(step, arg); say != "" {
			h.log = append(h.log, fmt.Sprintf("host: %s %s: always %q", step, arg, say))
			return soakFault{Step: step, Say: say}
		}
	}
	for _, f := range h.faults {
		if !h.calm && f.Step == step && f.Nth == n {
			h.hits = append(h.hits, f)
			h.log = append(h.log, fmt.Sprintf("host: %s %d %s: %+v", step, n, arg, f))
			return f
		}
	}
	return soakFault{}
}

// soakTalk is one connection.
type soakTalk struct {
	h      *soakHost
	c, raw net.Conn
	r      *bufio.Reader
	now    taken
	authed bool
}

// end ends a connection as a fault says.
func (k *soakTalk) end(f soakFault) {
	if t, ok := k.raw.(*net.TCPConn); ok && f.Reset {
		t.SetLinger(0)
	}
	k.raw.Close()
}

// step does what is done at one step; it says whether the usual was answered,
// and whether the connection goes on.
func (k *soakTalk) step(name, arg, usual string) (done, on bool) {
	f := k.h.at(name, arg)
	if f.Kill == "before" {
		k.h.kill()
	}
	time.Sleep(f.Wait)
	switch {
	case f.Mute:
		k.r.WriteTo(discard{}) // until the other side leaves
		return false, false
	case f.Say != "":
		fmt.Fprintf(k.c, "%s\r\n", f.Say)
	case !f.Drop:
		if usual != "" {
			fmt.Fprintf(k.c, "%s\r\n", usual)
		}
		done = true
	}
	if f.Kill == "after" {
		k.h.kill()
	}
	if f.Drop {
		k.end(f)
	}
	return done, !f.Drop
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

func (k *soakTalk) line() (string, bool) {
	line, err := k.r.ReadString('\n')
	k.h.mu.Lock()
	defer k.h.mu.Unlock()
	k.h.wire.WriteString(line)
	return line, err == nil
}

func (k *soakTalk) serve() {
	_, on := k.step("connect", "", "220 soak.example ESMTP")
	for on {
		line, ok := k.line()
		if !ok {
			return
		}
		on = k.command(strings.TrimRight(line, "\r\n"))
	}
}

func (k *soakTalk) command(line string) (on bool) {
	verb, arg, _ := strings.Cut(line, " ")
	done := false
	_, secure := k.c.(*tls.Conn)
	switch verb {
	case "EHLO":
		caps := "250-soak.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-DSN\r\n"
		if k.h.tls != nil && !secure {
			caps += "250-STARTTLS\r\n"
		}
		_, on = k.step("ehlo", arg, caps+"250 AUTH PLAIN")
	case "STARTTLS":
		if done, on = k.step("tls", "", "220 go"); done {
			tc := tls.Server(k.c, k.h.tls)
			if tc.Handshake() != nil {
				return false
			}
			k.c, k.r = tc, bufio.NewReader(tc)
		}
	case "AUTH":
		if k.h.tls != nil && !secure {
			k.violation("a password without TLS")
		}
		done, on = k.step("auth", "", "235 2.7.0 ok")
		k.authed = k.authed || done
	case "MAIL":
		k.now = taken{}
		if !k.authed {
			fmt.Fprint(k.c, "530 5.7.0 log in\r\n")
			return true
		}
		done, on = k.step("mail", between(line), "250 2.1.0 ok")
		if done {
			k.now = taken{from: "<" + between(line) + ">"}
		}
	case "RCPT":
		if k.now.from == "" {
			fmt.Fprint(k.c, "503 5.5.1 MAIL first\r\n")
			return true
		}
		done, on = k.step("rcpt", between(line), "250 2.1.5 ok")
		if done {
			k.now.rcpts = append(k.now.rcpts, between(line))
		}
	case "DATA":
		if len(k.now.rcpts) == 0 {
			fmt.Fprint(k.c, "503 5.5.1 RCPT first\r\n")
			return true
		}
		if done, on = k.step("data", "", "354 go on"); done {
			return k.message()
		}
	case "RSET":
		k.now, on = taken{}, true
		fmt.Fprint(k.c, "250 2.0.0 ok\r\n")
	case "NOOP":
		on = true
		fmt.Fprint(k.c, "250 2.0.0 ok\r\n")
	case "QUIT":
		fmt.Fprint(k.c, "221 2.0.0 bye\r\n")
		return false
	default:
		if line == plainAnswer && (k.h.tls == nil || secure) { // "334 " asks for it once more
			fmt.Fprint(k.c, "535 5.7.8 no\r\n")
			return true
		}
		k.violation(fmt.Sprintf("the command %q", line))
		return false
	}
	return on
}

func (k *soakTalk) violation(what string) {
	k.h.mu.Lock()
	defer k.h.mu.Unlock()
	k.h.bad = append(k.h.bad, what)
}

var messageID = regexp.MustCompile(`(?mi)^Message-ID: (<[^>]*>)`)

// message reads a message and takes it, or not.
func (k *soakTalk) message() (on bool) {
	var data strings.Builder
	for first := true; ; first = false {
		line, ok := k.line()
		if !ok {
			return false
		}
		if line == ".\r\n" {
			break
		}
		if first {
			if _, on := k.step("body", "", ""); !on {
				return false
			}
		}
		data.WriteString(strings.TrimPrefix(line, "."))
	}
	k.h.mu.Lock()
	now := k.now
	now.data = data.String()
	if m := messageID.FindStringSubmatch(now.data); m != nil {
		now.id = m[1]
	}
	k.now = taken{}
	k.h.mu.Unlock()
	take := func() {
		k.h.mu.Lock()
		defer k.h.mu.Unlock()
		k.h.taken = append(k.h.taken, now)
		k.h.log = append(k.h.log, fmt.Sprintf("host: took %s for %v", now.id, now.rcpts))
	}
	f := k.h.at("dot", strings.Join(now.rcpts, ","))
	if f.Kill == "before" {
		k.h.kill()
	}
	if f.Take || f == (soakFault{}) || f.Kill != "" && f.Say == "" && !f.Drop {
		take()
	}
	time.Sleep(f.Wait)
	if f.Kill == "after" {
		k.h.kill()
	}
	switch {
	case f.Mute:
		k.r.WriteTo(discard{})
		return false
	case f.Say != "":
		fmt.Fprintf(k.c, "%s\r\n", f.Say)
	case !f.Drop:
		fmt.Fprint(k.c, "250 2.0.0 taken\r\n")
	}
	if f.Drop {
		k.end(f)
	}
	return !f.Drop
}

// saw tells whether a text came over the wire, also inside base64 or
// quoted-printable, which would not hide it.
func (h *soakHost) saw(text string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	b := bytes.Clone(h.wire.Bytes())
	for _, m := range h.taken { // what came by TLS is there in clear, too
		b = append(b, m.data...)
	}
	soft, joined := bytes.ReplaceAll(b, []byte("=\r\n"), nil), bytes.ReplaceAll(b, []byte("\r\n"), nil)
	if bytes.Contains(b, []byte(text)) || bytes.Contains(soft, []byte(text)) {
		return true
	}
	return slices.ContainsFunc([]string{"", "x", "xx"}, func(shift string) bool {
		enc := base64.StdEncoding.EncodeToString([]byte(shift + text))
		return bytes.Contains(joined, []byte(enc[4:len(enc)-4]))
	})
}

package mailtest

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// Wicked is a submission server that follows the protocol until it is told not
// to: at any step it says what a test wants, or hangs up. It remembers every byte
// that it was told. Its methods may be called concurrently.
type Wicked struct {
	Addr string

	l net.Listener

	mu        sync.Mutex // guards what follows
	fault     func(step string) (reply string, end bool)
	conns     map[net.Conn]*wickedState
	heard     bytes.Buffer
	delivered []Delivery
}

// Steps of a submission: the client's commands, and "connect" for the greeting,
// "body" for the first line of the message, "dot" for its end. A message counts
// as delivered at its dot unless the fault says otherwise.
var Steps = []string{"connect", "EHLO", "AUTH", "MAIL", "RCPT", "DATA", "body", "dot", "RSET", "QUIT"}

// StartWicked opens one; it ends with Close.
func StartWicked() (*Wicked, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	w := &Wicked{Addr: l.Addr().String(), l: l, conns: map[net.Conn]*wickedState{}}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			w.mu.Lock()
			st := &wickedState{}
			w.conns[c] = st
			w.mu.Unlock()
			go w.serve(c, st)
		}
	}()
	return w, nil
}

// Fault has f asked at each step: an empty reply and no end is the usual answer;
// a reply is sent instead of it; with end the connection is closed after.
func (w *Wicked) Fault(f func(step string) (reply string, end bool)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fault = f
}

// HangUp ends every connection, so that clients have to come again; those in the
// middle of a message behind it, which a client may have sent whole.
func (w *Wicked) HangUp() { w.hangUp(false) }

func (w *Wicked) hangUp(all bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c, st := range w.conns {
		if st.over = true; all || !st.inData {
			c.Close()
		}
	}
}

// Close ends everything.
func (w *Wicked) Close() error {
	err := w.l.Close()
	w.hangUp(true)
	return err
}

// Delivered is what was taken, in order.
func (w *Wicked) Delivered() []Delivery {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.delivered)
}

// Heard is every byte that clients sent.
func (w *Wicked) Heard() []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	return bytes.Clone(w.heard.Bytes())
}

// Write remembers what clients send.
func (w *Wicked) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.heard.Write(p)
}

// wickedState is guarded by Wicked.mu.
type wickedState struct {
	inData bool // a message is coming
	over   bool // HangUp was called
}

// wicked is one connection.
type wicked struct {
	w  *Wicked
	c  net.Conn
	st *wickedState
	r  *bufio.Reader
	d  Delivery
}

func (w *Wicked) serve(c net.Conn, st *wickedState) {
	defer func() {
		c.Close()
		w.mu.Lock()
		delete(w.conns, c)
		w.mu.Unlock()
	}()
	c.SetDeadline(time.Now().Add(20 * time.Minute))
	x := &wicked{w: w, c: c, st: st, r: bufio.NewReaderSize(io.TeeReader(c, w), 64<<10)}
	for ok := x.answer("connect", "220 wicked.example ESMTP\r\n"); ok; {
		line, err := x.r.ReadString('\n')
		if err != nil {
			return
		}
		ok = x.command(strings.TrimRight(line, "\r\n"))
	}
}

// answer says what the fault wants at a step, or the usual.
func (x *wicked) answer(step, usual string) bool {
	x.w.mu.Lock()
	f := x.w.fault
	x.w.mu.Unlock()
	reply, end := "", false
	if f != nil {
		reply, end = f(step)
	}
	if reply == "" && !end {
		reply = usual
	}
	_, err := io.WriteString(x.c, reply)
	return err == nil && !end
}

func (x *wicked) command(line string) bool {
	verb, rest, _ := strings.Cut(line, " ")
	path := func() string {
		_, rest, _ = strings.Cut(rest, "<")
		p, _, _ := strings.Cut(rest, ">")
		return p
	}
	switch verb = strings.ToUpper(verb); verb {
	case "EHLO":
		return x.answer(verb, "250-wicked.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-ENHANCEDSTATUSCODES\r\n250 AUTH PLAIN\r\n")
	case "AUTH":
		return x.answer(verb, "235 2.7.0 welcome\r\n")
	case "MAIL":
		x.d = Delivery{From: path()}
	case "RCPT":
		x.d.To = append(x.d.To, path())
	case "DATA":
		x.in(true)
		return x.answer(verb, "354 go on\r\n") && x.data() && !x.in(false)
	case "QUIT":
		x.answer(verb, "221 bye\r\n")
		return false
	}
	return x.answer(verb, "250 2.0.0 ok\r\n")
}

// in notes whether a message is coming, and tells whether HangUp was called.
func (x *wicked) in(data bool) (over bool) {
	x.w.mu.Lock()
	defer x.w.mu.Unlock()
	x.st.inData = data
	return x.st.over
}

// data reads a message. A fault at "dot" that isn't a refusal comes after the
// message was taken, as when a reply is lost. Who is told at "body" that it was taken,
// before its end, and sends that all the same without having heard, is not deceived.
func (x *wicked) data() bool {
	var raw bytes.Buffer
	first, early := true, false
	for {
		line, err := x.r.ReadString('\n')
		if err != nil {
			return false
		}
		if line == ".\r\n" {
			break
		}
		raw.WriteString(strings.TrimPrefix(line, "."))
		if first {
			reply, end := x.stops("body")
			if early = end && taken.MatchString(reply); end && !early {
				return false
			}
		}
		first = false
	}
	x.d.Raw = raw.Bytes()
	if early {
		x.w.mu.Lock()
		defer x.w.mu.Unlock()
		x.w.delivered = append(x.w.delivered, x.d)
		return false
	}
	x.w.mu.Lock()
	f := x.w.fault
	x.w.mu.Unlock()
	reply, end := "", false
	if f != nil {
		reply, end = f("dot")
	}
	if reply == "" || reply[0] != '4' && reply[0] != '5' {
		x.w.mu.Lock()
		x.w.delivered = append(x.w.delivered, x.d)
		x.w.mu.Unlock()
	}
	if reply == "" && !end {
		reply = "250 2.0.0 taken\r\n"
	}
	_, err := io.WriteString(x.c, reply)
	return err == nil && !end
}

// stops asks the fault at a step that has no answer of its own.
func (x *wicked) stops(step string) (reply string, end bool) {
	x.w.mu.Lock()
	f := x.w.fault
	x.w.mu.Unlock()
	if f == nil {
		return "", false
	}
	if reply, end = f(step); reply != "" {
		io.WriteString(x.c, reply)
	}
	return reply, end
}

// taken is a reply that says so.
var taken = regexp.MustCompile(`^2\d\d `)

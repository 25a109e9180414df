package imapd

import (
	"bufio"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestLocalAnswersComeBehind: the queue is not empty before its answers are
// written, since then what the bridge answers by itself would overtake them.
func TestLocalAnswersComeBehind(t *testing.T) {
	conn, client := net.Pipe()
	defer client.Close()
	s := &session{out: newOutput(conn)}
	r := &relay{s: s}
	r.cond = sync.NewCond(&r.mu)
	first := &pending{tag: "a", quiet: true, answer: []byte("a OK first\r\n"), finished: make(chan struct{})}
	r.queue = []*pending{first}

	s.out.Lock() // somebody is writing
	go func() { _ = r.advance(first) }()
	for deadline := time.Now().Add(50 * time.Millisecond); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if !r.inFlight() {
			t.Fatal("the queue is empty while its answers still wait for the output")
		}
	}
	r.local("b OK second\r\n")
	s.out.Unlock()
	<-first.finished
	go func() { _ = s.out.flush(); conn.Close() }()
	var got strings.Builder
	b := make([]byte, 100)
	for {
		n, err := client.Read(b)
		got.Write(b[:n])
		if err != nil {
			break
		}
	}
	if got.String() != "a OK first\r\nb OK second\r\n" {
		t.Errorf("%q", got.String())
	}
}

// TestLocalAnswersAreBounded: a client that asks on and on for what is answered
// here, behind a command that the upstream doesn't answer, has to wait.
func TestLocalAnswersAreBounded(t *testing.T) {
	conn, client := net.Pipe()
	defer client.Close()
	s := &session{out: newOutput(conn), up: &upstream{w: bufio.NewWriter(io.Discard)}}
	r := &relay{s: s}
	r.cond = sync.NewCond(&r.mu)
	first := &pending{upTag: "L1", tag: "a", finished: make(chan struct{})}
	r.queue = []*pending{first}
	const n = 10 * maxInFlight
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range n {
			r.local("x BAD what\r\n")
		}
	}()
	for deadline := time.Now().Add(50 * time.Millisecond); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		r.mu.Lock()
		queued := len(r.queue)
		r.mu.Unlock()
		if queued > maxInFlight {
			t.Fatalf("%d answers wait in memory", queued)
		}
	}
	go func() { _, _ = io.Copy(io.Discard, client) }()
	if err := r.advance(first); err != nil {
		t.Fatal(err)
	}
	<-done
}

// slowClock is a connection whose first deadline for reading is set at a moment when
// something else happens.
type slowClock struct {
	net.Conn
	meanwhile func()
	until     time.Time
}

func (c *slowClock) SetReadDeadline(t time.Time) error {
	if f := c.meanwhile; f != nil {
		c.meanwhile = nil
		f()
	}
	c.until = t
	return nil
}

func (c *slowClock) Read([]byte) (int, error) { return 0, io.EOF }

// TestPatienceWithTheUpstream: whoever begins to wait at the moment at which the
// responder goes to read waits no longer than the upstream may be silent.
func TestPatienceWithTheUpstream(t *testing.T) {
	srv := New(Config{IdleTimeout: time.Hour, IOTimeout: time.Minute})
	conn := &slowClock{}
	up := &upstream{w: bufio.NewWriter(io.Discard)}
	up.conn = newPatientConn(conn, time.Hour, time.Minute)
	client, _ := net.Pipe()
	s := &session{srv: srv, up: up, out: newOutput(client)}
	r := newRelay(s)
	s.relay = r
	conn.meanwhile = func() {
		if err := r.enqueue(&pending{tag: "a"}); err != nil {
			t.Error(err)
		}
	}
	_, _ = up.conn.Read(nil)
	if left := time.Until(conn.until); left > time.Minute {
		t.Errorf("it would be waited for %v", left)
	}
}

// TestTheLossOfTheUpstreamIsTold, whoever is writing at the moment.
func TestTheLossOfTheUpstreamIsTold(t *testing.T) {
	conn, client := net.Pipe()
	s := newSession(New(Config{}), conn)
	s.out.Lock()
	ended := make(chan struct{})
	go func() { defer close(ended); s.lost() }()
	time.AfterFunc(50*time.Millisecond, s.out.Unlock)
	got, _ := io.ReadAll(client)
	if !strings.HasPrefix(string(got), "* BYE [UNAVAILABLE]") {
		t.Errorf("%q", got)
	}
	<-ended
}

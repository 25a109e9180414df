package imapd

import (
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

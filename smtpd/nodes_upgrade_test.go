package smtpd_test

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/mailtest/peer"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/smtpd"
	"letterlock.org/letterlock/smtpd/queue"
)

// TestANewerNodeJoinsWhileAMessageIsInFlight is a rolling upgrade: a node of a
// version with a further additive step of the schema opens the store while an
// older one waits for the answer to a final dot, and has more in the queue. The
// older one goes on, each finishes what it has begun, and what the one queues the
// other sends.
func TestANewerNodeJoinsWhileAMessageIsInFlight(t *testing.T) {
	url := peer.Postgres(t).Fresh()
	open := func(s store.Schema) store.Store {
		st, err := store.OpenPostgres(t.Context(), url, [32]byte{1}, s)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { st.Close() })
		return st
	}
	newer := queue.Schema
	newer.Steps = append(newer.Steps[:len(newer.Steps):len(newer.Steps)], "-- additive\nALTER TABLE queue_item ADD COLUMN later TEXT NOT NULL DEFAULT ''")
	at, goOn := make(chan struct{}), make(chan struct{})
	u, err := newSoakHost()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(u.close)
	u.faults, u.kill = []soakFault{{Step: "dot", Nth: 1, Kill: "before"}}, func() { close(at); <-goOn }
	there := func(c *smtpd.Config, a *smtpd.Account, _ *queue.Config) {
		a.Upstream = smtpd.Upstream{Mode: smtpd.Insecure, Name: u.ln.Addr().String(), User: "alice", Password: "secret",
			Dial: func(ctx context.Context) (net.Conn, error) {
				u.start()
				return (&net.Dialer{}).DialContext(ctx, "tcp", u.ln.Addr().String())
			}}
		c.Timeouts.Final = time.Minute
	}
	nobody := &upstream{ln: fixed{addr: u.ln.Addr().String()}}
	old := newBridgeOn(t, nobody, open(queue.Schema), there)
	all := []string{"bob@example.net", "carol@example.net", "dave@example.net", "erin@example.net"}
	answers := make(chan string, 1)
	go func() { answers <- old.login().submit(wired(letter("1", all[0])), all...) }()
	<-at
	joined := newBridgeOn(t, nobody, open(newer), there)
	if got := joined.login().submit(wired(letter("1", all[0])), all...); !strings.Contains(got, "right now") {
		t.Errorf("a repetition at the newer node: %q", got)
	}
	close(goOn)
	if got := <-answers; !strings.HasPrefix(got, "250") {
		t.Errorf("the older node: %q", got)
	}
	if got := joined.login().submit(wired(letter("2", all[0])), all...); !strings.HasPrefix(got, "250") {
		t.Errorf("the newer node: %q", got)
	}
	eventually(t, "the older node knows what the newer had", func() bool { // which may still be writing it down
		got := old.login().submit(wired(letter("2", all[0])), all...)
		if !strings.HasPrefix(got, "250") && !strings.Contains(got, "right now") {
			t.Errorf("the older node, of what the newer had: %q", got)
		}
		return strings.HasPrefix(got, "250")
	})
	eventually(t, "all is sent", func() bool { time.Sleep(20 * time.Millisecond); return settled(t, old) })
	copies := map[string]int{}
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, m := range u.taken {
		for _, r := range m.rcpts {
			copies[r]++
		}
	}
	for _, r := range all {
		if copies[r] != 2 {
			t.Errorf("%s has %d copies of two messages", r, copies[r])
		}
	}
}

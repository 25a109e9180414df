package smtpd_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"letterlock.org/letterlock/internal/mailtest/peer"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/smtpd/queue"
)

// TestANodeIsKilledAndAnotherFinishes has two bridges on one PostgreSQL. One is
// killed with SIGKILL at each step of a delivery; the client repeats its message
// at the other, which finishes what the journal knows: nobody is left out,
// nobody gets two copies, and where nobody knows, that is said.
func TestANodeIsKilledAndAnotherFinishes(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	pg := peer.Postgres(t)
	all := []string{"bob@example.net", "carol@example.net", "dave@example.net", "erin@example.net"}
	for _, tt := range []struct {
		groups int
		steps  []string
	}{
		{1, []string{"journalled", "commit 0", "committed 0", "settled"}},
		{4, []string{"opened", "journalled", "commit 0", "committed 0", "commit 1", "committed 1", "committed 2", "settled", "queue attempt", "queue attempted"}},
	} {
		for _, step := range tt.steps {
			t.Run(fmt.Sprintf("%s/%d groups", step, tt.groups), func(t *testing.T) {
				u, dir, shared := newUpstream(t), t.TempDir(), "LETTERLOCK_CRASH_STORE="+pg.Fresh()
				victim := startChild(t, u, dir, step, shared)
				var other *child
				if !strings.HasPrefix(step, "queue") {
					other = startChild(t, u, dir, "", shared)
				}
				msg := wired(letter("1", all[0]))
				answers := victim.submit(msg, all[:tt.groups])
				victim.waitKilled(step)
				if other == nil { // not before: it would have helped with the queue
					other = startChild(t, u, dir, "", shared)
				}
				if !strings.HasPrefix(answers, "250") {
					eventually(t, "the other node knows that the first is gone", func() bool {
						answers = other.submit(msg, all[:tt.groups])
						return !strings.Contains(answers, "right now")
					})
				}
				eventually(t, "the queue is empty", func() bool { return other.settled() })
				other.stop()
				checkCopies(t, u, strings.TrimPrefix(shared, "LETTERLOCK_CRASH_STORE="), all[:tt.groups], answers)
			})
		}
	}
}

// checkCopies counts what the upstream got against what the journal says; twice
// may have it twice.
func checkCopies(t *testing.T, u *upstream, url string, rcpts []string, answers string, twice ...string) {
	t.Helper()
	st, err := store.OpenPostgres(t.Context(), url, [32]byte{1}, queue.Schema)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	q, err := queue.New(queue.Config{Store: st})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	es, err := q.List(t.Context(), "", 100)
	if err != nil {
		t.Fatal(err)
	}
	var unknown []string
	for _, e := range es {
		for _, r := range e.Recipients {
			if r.State != queue.Unknown && r.State != queue.Sent {
				t.Errorf("%s is left %s", r.Address, r.State)
			}
			if r.State == queue.Unknown {
				unknown = append(unknown, r.Key)
			}
		}
	}
	copies, told := map[string]int{}, strings.Contains(answers, "did not confirm") || strings.HasPrefix(answers, "250")
	for _, m := range u.received() {
		told = told || strings.Contains(m.data, "multipart/report")
		for _, r := range m.rcpts {
			if !strings.Contains(m.data, "multipart/report") {
				copies[r]++
			}
		}
	}
	for _, r := range rcpts {
		if copies[r] > 1 && (copies[r] > 2 || !slices.Contains(twice, r)) {
			t.Errorf("%s got %d copies", r, copies[r])
		}
		if copies[r] == 0 && !slices.Contains(unknown, r) {
			t.Errorf("%s got nothing; last answer %q", r, answers)
		}
	}
	if len(unknown) > 0 && !told {
		t.Errorf("unknown %v, and nobody was told: %q", unknown, answers)
	}
	if u.saw(canary) {
		t.Error("the upstream saw the canary")
	}
}

// TestTwoNodesGetTheSameSubmissionAtOnce has a client repeat its message at the
// other node while the first still sends it.
func TestTwoNodesGetTheSameSubmissionAtOnce(t *testing.T) {
	pg := peer.Postgres(t)
	u, dir, shared := newUpstream(t), t.TempDir(), "LETTERLOCK_CRASH_STORE="+pg.Fresh()
	a, b := startChild(t, u, dir, "", shared), startChild(t, u, dir, "", shared)
	for round := range 10 {
		msg := wired(letter(fmt.Sprint(round), "bob@example.net"))
		answers := make(chan string, 2)
		for _, c := range []*child{a, b} {
			go func() { answers <- c.submit(msg, []string{"bob@example.net", "carol@example.net"}) }()
		}
		for range 2 {
			if r := <-answers; !strings.HasPrefix(r, "250") && !strings.HasPrefix(r, "451") {
				t.Errorf("reply %q", r)
			}
		}
		eventually(t, "the other knows what was sent", func() bool { // the first may still be writing it down
			r := b.submit(msg, []string{"bob@example.net", "carol@example.net"})
			if !strings.HasPrefix(r, "250") && !strings.Contains(r, "right now") {
				t.Fatalf("afterwards: %q", r)
			}
			return strings.HasPrefix(r, "250")
		})
		for _, who := range []string{"bob@example.net", "carol@example.net"} {
			n := 0
			for _, m := range u.received() {
				if slices.Contains(m.rcpts, who) {
					n++
				}
			}
			if n != round+1 {
				t.Fatalf("round %d: %s has %d messages", round, who, n)
			}
		}
	}
	a.stop()
	b.stop()
}

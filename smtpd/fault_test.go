package smtpd_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"letterlock.org/letterlock/smtpd"
	"letterlock.org/letterlock/smtpd/queue"
)

// TestEveryFaultTimesEveryNumberOfGroups injects each fault at each step and at
// each time that the step comes, for messages of one to five groups. Then the
// client does what clients do: after a 4xx or a lost connection it sends the
// same message again, until it is told otherwise. At the end nothing was lost,
// nothing was in clear, and nothing came twice, but where the upstream applied
// a message and its answer was lost: those are counted, and the client was told.
func TestEveryFaultTimesEveryNumberOfGroups(t *testing.T) {
	all := []string{"bob@example.net", "carol@example.net", "dave@example.net", "erin@example.net"}
	kinds := []struct {
		name string
		step string
		f    fault
		// ambiguous: nobody can know whether it was delivered.
		ambiguous bool
	}{
		{"login refused for a while", "auth", fault{reply: "454 4.7.0 later"}, false},
		{"connection refused", "connect", fault{reply: "421 4.3.2 too many"}, false},
		{"dropped before the greeting", "connect", fault{drop: true}, false},
		{"MAIL refused for a while", "mail", fault{reply: "451 4.3.0 later"}, false},
		{"dropped at MAIL", "mail", fault{drop: true}, false},
		{"RCPT refused for a while", "rcpt", fault{reply: "450 4.2.1 later"}, false},
		{"dropped at RCPT", "rcpt", fault{drop: true}, false},
		{"421 at RCPT", "rcpt", fault{reply: "421 4.3.2 down", drop: true}, false},
		{"DATA refused for a while", "data", fault{reply: "451 4.3.0 later"}, false},
		{"dropped at DATA", "data", fault{drop: true}, false},
		// A reset may take the 421 away before we can read it.
		{"421 in the middle of the message", "body", fault{reply: "421 4.3.2 down", drop: true}, true},
		{"dropped in the middle of the message", "body", fault{drop: true}, true},
		{"refused for a while after the dot", "dot", fault{reply: "451 4.3.0 later"}, false},
		{"421 after the dot", "dot", fault{reply: "421 4.3.2 down", drop: true}, false},
		{"dropped after the dot, not taken", "dot", fault{drop: true}, true},
		{"dropped after the dot, taken", "dot", fault{apply: true, drop: true}, true},
	}
	for _, k := range kinds {
		for groups := 1; groups <= len(all); groups++ {
			for nth := 1; nth <= groups+1; nth++ {
				t.Run(fmt.Sprintf("%s/%d groups/time %d", k.name, groups, nth), func(t *testing.T) {
					u := newUpstream(t)
					u.user = "alice"
					clock := &clock{now: time.Now()}
					log := &ledger{}
					b := newBridge(t, u, clock.set, log.set)
					hit := false
					u.failWith(func(step string, n int, _ string) fault {
						if step == k.step && n == nth {
							hit = true
							return k.f
						}
						return fault{}
					})
					// All but the first are blind, so that each has a group.
					msg := wired(letter("1", all[0]))
					told := sendUntilAnswered(t, b, msg, all[:groups])
					eventually(t, "the queue has nothing left to send", func() bool {
						clock.advance(time.Hour)
						b.queue.Wake()
						return settled(t, b)
					})
					u.mu.Lock()
					wasHit := hit
					u.mu.Unlock()
					check(t, u, b, all[:groups], wasHit && k.ambiguous, told)
					b.stop()
					log.check(t, u, all[:groups])
				})
			}
		}
	}
}

// sendUntilAnswered repeats a submission as a client does, and says whether the
// last answer was that nobody knows.
func sendUntilAnswered(t *testing.T, b *bridge, msg string, rcpts []string) (ambiguous bool) {
	t.Helper()
	for range 8 {
		k := b.login()
		k.run("C: MAIL FROM:<alice@example.org>\nS: 250")
		refused := false
		for _, r := range rcpts {
			k.send("RCPT TO:<" + r + ">\r\n")
			if got := k.reply(); !strings.HasPrefix(got, "250") {
				refused = true
				if !strings.HasPrefix(got, "4") {
					t.Fatalf("RCPT: %q", got)
				}
			}
		}
		if refused {
			k.c.Close()
			continue
		}
		k.run("C: DATA\nS: 354")
		k.send(msg + ".\r\n")
		got := k.reply()
		k.c.Close()
		switch {
		case strings.HasPrefix(got, "250"):
			return false
		case strings.Contains(got, "did not confirm"):
			ambiguous = true // and a repetition must not change that
		case !strings.HasPrefix(got, "4"):
			t.Fatalf("DATA: %q", got)
		}
	}
	if !ambiguous {
		t.Fatal("the message never went")
	}
	return true
}

// settled tells whether nothing in the queue waits or is on its way.
func settled(t *testing.T, b *bridge) bool {
	es, err := b.queue.List(t.Context(), "", 1000)
	if err != nil {
		t.Fatal(err)
	}
	return !slices.ContainsFunc(es, func(e queue.Entry) bool { return e.State != queue.Unknown && e.State != queue.Failed })
}

func check(t *testing.T, u *upstream, b *bridge, rcpts []string, mayBeLost bool, told bool) {
	t.Helper()
	copies := map[string]int{}
	for _, m := range u.received() {
		if strings.Contains(m.data, "report-type=delivery-status") {
			told = true // later, by mail
			continue
		}
		for _, r := range m.rcpts {
			copies[r]++
		}
		if !strings.Contains(m.data, "BEGIN PGP MESSAGE") {
			t.Errorf("not encrypted for %v", m.rcpts)
		}
	}
	unknown := map[string]bool{}
	es, err := b.queue.List(t.Context(), "", 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range es {
		for _, r := range e.Recipients {
			if r.State == queue.Unknown {
				unknown[r.Key] = true
			}
		}
	}
	if told != (len(unknown) > 0) {
		t.Errorf("client told of ambiguity: %v; unknown in the queue: %v", told, unknown)
	}
	if !mayBeLost && len(unknown) > 0 {
		t.Errorf("unknown without need: %v", unknown)
	}
	for _, r := range rcpts {
		if copies[r] > 1 {
			t.Errorf("%s got %d copies", r, copies[r])
		}
		if copies[r] == 0 && !unknown[r] {
			t.Errorf("%s got nothing, and nobody was told; log:\n%s", r, b.log)
		}
	}
	if u.saw(canary) {
		t.Error("the upstream saw the canary")
	}
	if strings.Contains(b.log.String(), canary) {
		t.Error("the log has the canary")
	}
}

// TestPermanentFailureAfterACommitIsReported: 250 for the message, and a report
// without content by mail.
func TestPermanentFailureAfterACommitIsReported(t *testing.T) {
	u := newUpstream(t)
	b := newBridge(t, u)
	u.failWith(func(step string, n int, arg string) fault {
		if step == "dot" && strings.Contains(arg, "carol") {
			return fault{reply: "554 5.7.1 not for her"}
		}
		return fault{}
	})
	got := b.login().submit(wired(letter("1", "bob@example.net")), "bob@example.net", "carol@example.net")
	if !strings.HasPrefix(got, "250") {
		t.Fatalf("reply %q", got)
	}
	var report delivered
	eventually(t, "the report arrives", func() bool {
		for _, m := range u.received() {
			if strings.Join(m.rcpts, ",") == "alice@example.org" {
				report = m
			}
		}
		return report.data != ""
	})
	for _, want := range []string{"Status: 5.7.1", "Final-Recipient: rfc822; carol@example.net", "report-type=delivery-status", "<1@example.org>"} {
		if !strings.Contains(report.data, want) {
			t.Errorf("the report lacks %q:\n%s", want, report.data)
		}
	}
	if u.saw(canary) || strings.Contains(report.data, "bob@") {
		t.Error("the report says too much")
	}
}

func TestPermanentFailureOfTheFirstGroupAbortsAll(t *testing.T) {
	u := newUpstream(t)
	b := newBridge(t, u)
	u.failWith(func(step string, n int, arg string) fault {
		if step == "dot" && n == 1 {
			return fault{reply: "554 5.7.1 spam"}
		}
		return fault{}
	})
	got := b.login().submit(wired(letter("1", "bob@example.net")), "bob@example.net", "carol@example.net", "dave@example.net", "erin@example.net")
	if !strings.HasPrefix(got, "554 5.7.1 your mail server says: spam") {
		t.Fatalf("reply %q", got)
	}
	if n := len(u.received()); n != 0 {
		t.Errorf("%d messages went all the same", n)
	}
	if es, _ := b.queue.List(t.Context(), "", 1000); len(es) != 0 {
		t.Errorf("the journal keeps %+v", es)
	}
}

// TestAnUnknownEntryIsSettledByHand: queue retry lets the client send it again,
// queue drop takes it as delivered.
func TestAnUnknownEntryIsSettledByHand(t *testing.T) {
	for _, tt := range []struct {
		name string
		act  func(q *queue.Queue, id string) error
		mail int
	}{
		{"retry", func(q *queue.Queue, id string) error { return q.Retry(t.Context(), id) }, 2},
		{"drop", func(q *queue.Queue, id string) error { return q.Drop(t.Context(), id) }, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			u := newUpstream(t)
			b := newBridge(t, u)
			u.failWith(func(step string, n int, _ string) fault {
				return fault{apply: step == "dot" && n == 1, drop: step == "dot" && n == 1}
			})
			msg := wired(letter("1", "bob@example.net"))
			for range 2 {
				if got := b.login().submit(msg, "bob@example.net"); !strings.HasPrefix(got, "451 4.4.2") {
					t.Fatalf("reply %q", got)
				}
			}
			es, err := b.queue.List(t.Context(), "", 1000)
			if err != nil || len(es) != 1 || es[0].State != queue.Unknown {
				t.Fatalf("queue: %+v, %v", es, err)
			}
			if err := tt.act(b.queue, es[0].ID); err != nil {
				t.Fatal(err)
			}
			if got := b.login().submit(msg, "bob@example.net"); !strings.HasPrefix(got, "250") {
				t.Fatalf("reply %q", got)
			}
			if n := len(u.received()); n != tt.mail {
				t.Errorf("%d messages, want %d", n, tt.mail)
			}
		})
	}
}

func TestTimeoutAfterTheFinalDotIsSaid(t *testing.T) {
	u := newUpstream(t)
	b := newBridge(t, u, func(c *smtpd.Config, _ *smtpd.Account, _ *queue.Config) { c.Timeouts.Final = 50 * time.Millisecond })
	u.failWith(func(step string, _ int, _ string) fault { return fault{apply: step == "dot", stall: step == "dot"} })
	got := b.login().submit(wired(letter("1", "bob@example.net")), "bob@example.net")
	if !strings.HasPrefix(got, "451 4.4.2") || !strings.Contains(got, "may have got the message or not") {
		t.Errorf("reply %q", got)
	}
}

// TestTheSameMessageWithoutMessageIDIsSentTwice: nobody can know whether the
// second is a repetition.
func TestTheSameMessageWithoutMessageIDIsSentTwice(t *testing.T) {
	u := newUpstream(t)
	b := newBridge(t, u)
	msg := strings.Replace(wired(letter("1", "bob@example.net")), "Message-ID: <1@example.org>\r\n", "", 1)
	for range 2 {
		if got := b.login().submit(msg, "bob@example.net"); !strings.HasPrefix(got, "250") {
			t.Fatalf("reply %q", got)
		}
	}
	if n := len(u.received()); n != 2 {
		t.Errorf("%d messages, want 2", n)
	}
}

package smtpd_test

import (
	"fmt"
	"testing"
	"time"

	"letterlock.org/letterlock/smtpd"
	"letterlock.org/letterlock/smtpd/queue"
)

// TestEverySilence is TestEveryFaultTimesEveryNumberOfGroups with an upstream that
// doesn't answer at a step, takes what comes behind it, or not, and stays connected.
func TestEverySilence(t *testing.T) {
	all := []string{"bob@example.net", "carol@example.net", "dave@example.net", "erin@example.net"}
	const soon = time.Hour // it passes at once, where somebody is silent
	greet, command, final := smtpd.Timeouts{Greet: soon}, smtpd.Timeouts{Command: soon}, smtpd.Timeouts{Final: soon}
	for _, tt := range []struct {
		name, step string
		f          fault
		times      smtpd.Timeouts
		ambiguous  bool
	}{
		{"at the greeting", "connect", fault{stall: true}, greet, false},
		{"at EHLO", "ehlo", fault{stall: true}, greet, false},
		{"at the login", "auth", fault{stall: true}, greet, false},
		{"at MAIL", "mail", fault{stall: true}, command, false},
		{"at RCPT", "rcpt", fault{stall: true}, command, false},
		{"at DATA", "data", fault{stall: true}, command, false},
		{"in the middle of the message", "body", fault{stall: true}, final, true},
		{"after the dot, not taken", "dot", fault{stall: true}, final, true},
		{"after the dot, taken", "dot", fault{stall: true, apply: true}, final, true},
	} {
		for _, groups := range []int{1, len(all)} {
			for nth := 1; nth <= groups+1; nth++ {
				t.Run(fmt.Sprintf("%s/%d groups/time %d", tt.name, groups, nth), func(t *testing.T) {
					t.Parallel()
					u, clock, log := newUpstream(t), &clock{now: time.Now()}, &ledger{}
					u.user = "alice"
					p := &patience{}
					u.stalled = p.ends
					b := newBridge(t, u, clock.set, log.set, func(c *smtpd.Config, a *smtpd.Account, q *queue.Config) {
						c.Timeouts, q.WarnAfter = tt.times, q.Lifetime
						a.Upstream.Dial = p.dial(a.Upstream.Dial)
					})
					hit := false
					u.failWith(func(step string, n int, _ string) fault {
						if step == tt.step && n == nth {
							hit = true
							return tt.f
						}
						return fault{}
					})
					told := sendUntilAnswered(t, b, wired(letter("1", all[0])), all[:groups])
					eventually(t, "the queue has nothing left to send", func() bool {
						clock.advance(time.Hour)
						b.queue.Wake()
						return settled(t, b)
					})
					u.mu.Lock()
					wasHit := hit
					u.mu.Unlock()
					if waited := p.longest(); wasHit && (waited < soon-10*time.Minute || waited > soon) {
						t.Errorf("it would have waited for %v", waited)
					}
					check(t, u, b, all[:groups], wasHit && tt.ambiguous, told)
					b.stop()
					log.check(t, u, all[:groups])
				})
			}
		}
	}
}

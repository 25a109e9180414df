package smtpd_test

import (
	"fmt"
	"strings"
	"testing"

	"letterlock.org/letterlock/smtpd"
	"letterlock.org/letterlock/smtpd/queue"
)

// TestAPanicLeavesNothingUnderWay: a session that panics settles what it had begun,
// since nobody else does as long as the process lives. What was surely not sent, the
// client sends again; of what may have been, it is told.
func TestAPanicLeavesNothingUnderWay(t *testing.T) {
	all := []string{"bob@example.net", "carol@example.net", "dave@example.net", "erin@example.net"}
	for _, tt := range []struct {
		step   string
		groups int
		want   string
	}{
		{"prepared", 1, "250"},
		{"journalled", 1, "250"},
		{"commit 0", 1, "250"},
		{"committed 0", 1, "451 4.4.2"},
		{"settled", 1, "250"},
		{"opened", 2, "250"},
		{"journalled", 4, "250"},
		{"committed 0", 4, "451 4.4.2"},
		{"commit 1", 2, "250"},
		{"committed 1", 4, "451 4.4.2"},
	} {
		t.Run(fmt.Sprintf("%s of %d", tt.step, tt.groups), func(t *testing.T) {
			u := newUpstream(t)
			log := &ledger{}
			b := newBridge(t, u, log.set)
			restore := smtpd.SetFailpoint(func(step string) {
				if step == tt.step {
					panic("at " + step)
				}
			})
			msg := wired(letter("1", all[0]))
			if got := b.login().submit(msg, all[:tt.groups]...); !strings.HasPrefix(got, "421") {
				t.Errorf("the answer is %q", got)
			}
			restore()
			got := b.login().submit(msg, all[:tt.groups]...)
			if !strings.HasPrefix(got, tt.want) {
				t.Errorf("the second time it is %q, want %q", got, tt.want)
			}
			eventually(t, "nothing waits or is under way", func() bool {
				// A worker takes what waits between two looks, but never gives back
				// and takes again.
				for _, state := range []queue.State{"waiting", "sending", "waiting"} {
					if es, err := b.queue.List(t.Context(), state, 10); err != nil || len(es) != 0 {
						return false
					}
				}
				return true
			})
			copies := map[string]int{}
			for _, m := range u.received() {
				for _, r := range m.rcpts {
					copies[r]++
				}
			}
			for _, r := range all[:tt.groups] {
				if copies[r] != 1 {
					t.Errorf("%s got %d copies", r, copies[r])
				}
			}
			if es, err := b.queue.List(t.Context(), "unknown", 10); err != nil || len(es) > 1 || (len(es) == 1) != (tt.want == "451 4.4.2") {
				t.Errorf("unknown: %+v, %v", es, err)
			}
			b.stop()
			log.check(t, u, all[:tt.groups])
		})
	}
}

package smtpd_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"letterlock.org/letterlock/smtpd/queue"
)

// TestACopyThatIsMadeDeclaresItsSize, so that what the upstream doesn't take now isn't
// sent there first; who asks before it is made declares none. The double compares.
func TestACopyThatIsMadeDeclaresItsSize(t *testing.T) {
	for _, tt := range []struct {
		name     string
		caps     []string
		rcpts    []string
		declared int // of the copies
	}{
		{"one copy, in the transaction that asked", []string{"SIZE 100000000"}, []string{"bob@example.net"}, 0},
		{"two copies", []string{"SIZE 100000000"}, []string{"bob@example.net", "carol@example.net"}, 2},
		{"no most is told", []string{"SIZE"}, []string{"bob@example.net", "carol@example.net"}, 2},
		{"not offered", []string{"8BITMIME"}, []string{"bob@example.net", "carol@example.net"}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			u := newUpstream(t)
			u.caps = tt.caps
			if got := newBridge(t, u).login().submit(wired(letter("1", tt.rcpts[0])), tt.rcpts...); !strings.HasPrefix(got, "250") {
				t.Fatalf("reply %q", got)
			}
			declared := 0
			for _, m := range u.received() {
				if strings.Contains(m.mail, " SIZE=") {
					declared++
				}
			}
			if declared != tt.declared {
				t.Errorf("%d of %d copies declared their size, want %d", declared, len(u.received()), tt.declared)
			}
		})
	}
}

// TestWhatWaitsIsRefusedForItsSizeBeforeItIsSent: its sender is told.
func TestWhatWaitsIsRefusedForItsSizeBeforeItIsSent(t *testing.T) {
	u := newUpstream(t)
	c := &clock{now: time.Now()}
	b := newBridge(t, u, c.set)
	u.failWith(func(step string, n int, _ string) fault {
		if step == "dot" && n == 2 {
			return fault{reply: "451 4.3.0 later"}
		}
		return fault{}
	})
	if got := b.login().submit(wired(letter("1", "bob@example.net")), "bob@example.net", "carol@example.net"); !strings.HasPrefix(got, "250") {
		t.Fatalf("reply %q", got)
	}
	u.failWith(func(step string, n int, _ string) fault {
		if step == "mail" && n == 1 {
			return fault{reply: "552 5.3.4 too large for you today"}
		}
		return fault{}
	})
	c.advance(2 * time.Hour)
	b.queue.Wake()
	eventually(t, "the sender is told", func() bool {
		return slices.ContainsFunc(u.received(), func(m delivered) bool { return strings.Contains(m.data, "552 5.3.4 too large for you today") })
	})
	if n := u.count("data"); n != 1 { // the report
		t.Errorf("%d messages were sent", n)
	}
	es, err := b.queue.List(t.Context(), queue.Failed, 10)
	if err != nil || len(es) != 1 || es[0].Recipients[0].Key != "carol@example.net" {
		t.Errorf("failed: %v, %v", es, err)
	}
}

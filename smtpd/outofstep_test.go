package smtpd_test

import (
	"strings"
	"testing"
	"time"
)

// TestAReplyThatIsNoneToTheEndOfAMessage: only 2yz, 4yz and 5yz say what became of
// a message (RFC 5321, Section 4.2.1). After anything else nobody knows.
func TestAReplyThatIsNoneToTheEndOfAMessage(t *testing.T) {
	u := newUpstream(t)
	b := newBridge(t, u)
	u.failWith(func(step string, n int, _ string) fault {
		if step == "dot" && n == 1 {
			return fault{reply: "354 more", apply: true}
		}
		return fault{}
	})
	for range 2 {
		if got := b.login().submit(wired(letter("1", "bob@example.net")), "bob@example.net"); !strings.Contains(got, "did not confirm") {
			t.Errorf("reply %q", got)
		}
	}
	if n := len(u.received()); n != 1 {
		t.Errorf("%d copies", n)
	}
}

// TestAYesToDATAIsNoDelivery: a reply that is out of step must not be taken for
// the message's.
func TestAYesToDATAIsNoDelivery(t *testing.T) {
	all := []string{"bob@example.net", "carol@example.net", "dave@example.net", "erin@example.net"}
	for nth := 1; nth <= 4; nth++ { // the fourth is the queue's
		u := newUpstream(t)
		clock := &clock{now: time.Now()}
		b := newBridge(t, u, clock.set)
		u.failWith(func(step string, n int, _ string) fault {
			if step == "data" && n == nth {
				return fault{reply: "250 2.0.0 ok"}
			}
			return fault{}
		})
		sendUntilAnswered(t, b, wired(letter("1", all[0])), all)
		eventually(t, "everybody has it", func() bool {
			clock.advance(time.Hour)
			b.queue.Wake()
			return settled(t, b)
		})
		check(t, u, b, all, false, false)
	}
}

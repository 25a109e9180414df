package smtpd_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/store"
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

// TestAJournalThatFailsAfterTheLastDot: everybody has the message, and the client
// is told so; a repetition would be a second copy of what has no Message-ID.
func TestAJournalThatFailsAfterTheLastDot(t *testing.T) {
	u := newUpstream(t)
	st := &fullDisk{Store: memory(t)}
	b := newBridgeOn(t, u, st)
	u.failWith(func(step string, n int, _ string) fault {
		st.down.Store(step == "dot" && n == 2)
		return fault{}
	})
	msg := strings.Replace(wired(letter("1", "bob@example.net")), "Message-ID: <1@example.org>\r\n", "", 1)
	if got := b.login().submit(msg, "bob@example.net", "carol@example.net"); !strings.HasPrefix(got, "250") {
		t.Errorf("reply %q", got)
	}
	if n := len(u.received()); n != 2 {
		t.Errorf("%d copies", n)
	}
	st.down.Store(false)
	eventually(t, "the journal knows it", func() bool { return settled(t, b) })
}

// fullDisk is a store that doesn't write while it is down.
type fullDisk struct {
	store.Store
	down atomic.Bool
}

func (f *fullDisk) Update(ctx context.Context, do func(store.Tx) error) error {
	if f.down.Load() {
		return errDisk
	}
	return f.Store.Update(ctx, do)
}

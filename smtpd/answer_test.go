package smtpd_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/smtpd"
	"letterlock.org/letterlock/smtpd/queue"
)

// TestTheAnswerToAMessageDoesNotWait for what the client has sent behind it: if we
// stop meanwhile, it would send the message again.
func TestTheAnswerToAMessageDoesNotWait(t *testing.T) {
	for _, bdat := range []bool{false, true} {
		asked, goOn := make(chan bool, 1), make(chan bool)
		b := newBridge(t, newUpstream(t), func(_ *smtpd.Config, a *smtpd.Account, _ *queue.Config) {
			known := a.Find
			a.Find = finder(func(ctx context.Context, to address.Address) (keydir.Finding, error) {
				if to == addr("carol@example.net") {
					asked <- true
					<-goOn
				}
				return known.Find(ctx, to)
			})
		})
		k := b.login()
		msg := letter("1", "bob@example.net")
		text := "DATA\r\n" + wired(msg) + ".\r\n"
		if bdat {
			text = fmt.Sprintf("BDAT %d LAST\r\n%s", len(msg), msg)
		}
		k.send("MAIL FROM:<alice@example.org>\r\nRCPT TO:<bob@example.net>\r\n" + text + "MAIL FROM:<alice@example.org>\r\nRCPT TO:<carol@example.net>\r\n")
		k.run("S: 250\nS: 250")
		if !bdat {
			k.run("S: 354")
		}
		<-asked
		k.run("S: 250 2.0.0 sent")
		close(goOn)
		k.run("S: 250\nS: 250")
	}
}

// TestALongMessageIDIsNotKept by the journal for days, with each copy; a repetition of
// its message is known all the same.
func TestALongMessageIDIsNotKept(t *testing.T) {
	u := newUpstream(t)
	b := newBridge(t, u)
	u.failWith(func(step string, n int, _ string) fault { return fault{apply: step == "dot", drop: step == "dot"} })
	for i, size := range []int{800, 900_000} {
		msg := strings.Replace(wired(letter("1", "bob@example.net")), "<1@", "<"+strings.Repeat("1", size)+"@", 1)
		for range 2 {
			if got := b.login().submit(msg, "bob@example.net"); !strings.Contains(got, "did not confirm") {
				t.Errorf("an ID of %d bytes: %q", size, got)
			}
		}
		es, err := b.queue.List(t.Context(), queue.Unknown, 10)
		if err != nil || len(es) != i+1 || len(u.received()) != i+1 {
			t.Fatalf("an ID of %d bytes: %d entries, %d copies, %v", size, len(es), len(u.received()), err)
		}
		if n := max(len(es[0].MessageID), len(es[i].MessageID)); n > 998 || size < 900 && n < size {
			t.Errorf("an ID of %d bytes: %d are kept", size, n)
		}
	}
}

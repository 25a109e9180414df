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

// BenchmarkRecipients measures one message to one recipient and to a hundred who
// read of each other, by a client that pipelines (RFC 2920); the goal is half of
// the messages a second. The upstream is on loopback, where a round trip is
// cheap: a slow one would show what probing each recipient costs. Two thirds of
// what a hundred take is their session key packets, 60 us each.
func BenchmarkRecipients(b *testing.B) {
	for _, n := range []int{1, 100} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var to []string
			for i := range n {
				to = append(to, fmt.Sprintf("r%d@example.net", i))
			}
			u := newUpstream(b)
			known := map[address.Address]keydir.Finding{}
			for _, a := range to {
				known[addr(a)], _ = directory{t: b, has: []string{a}}.Find(b.Context(), addr(a))
			}
			r := newBridge(b, u, func(_ *smtpd.Config, a *smtpd.Account, _ *queue.Config) {
				a.Find = finder(func(_ context.Context, to address.Address) (keydir.Finding, error) { return known[to], nil })
			})
			c := r.login()
			head := "From: alice@example.org\r\nTo: " + strings.Join(to, ",\r\n ") + "\r\nSubject: s\r\nMIME-Version: 1.0\r\nContent-Type: text/plain\r\n"
			i := 0
			for b.Loop() {
				i++
				var commands strings.Builder
				commands.WriteString("MAIL FROM:<alice@example.org>\r\n")
				for _, a := range to {
					commands.WriteString("RCPT TO:<" + a + ">\r\n")
				}
				c.send(commands.String() + "DATA\r\n")
				for range n + 1 {
					if r := c.reply(); !strings.HasPrefix(r, "250") {
						b.Fatal(r)
					}
				}
				c.reply()
				c.send(fmt.Sprintf("%sMessage-ID: <%d.%d@x>\r\n\r\ntext\r\n.\r\n", head, n, i))
				if r := c.reply(); !strings.HasPrefix(r, "250") {
					b.Fatal(r)
				}
			}
		})
	}
}

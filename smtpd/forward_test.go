package smtpd_test

import (
	"strings"
	"testing"

	"letterlock.org/letterlock/smtpd"
	"letterlock.org/letterlock/smtpd/queue"
)

// TestXCLIENTIsBounded: an MTA tells of its clients in as many commands as it needs,
// but not without end and without any message.
func TestXCLIENTIsBounded(t *testing.T) {
	var peers []smtpd.Peer
	u := newUpstream(t)
	b := newBridge(t, u, asRelay(), func(c *smtpd.Config, a *smtpd.Account, _ *queue.Config) {
		c.Listeners[0].Forward = func(smtpd.Peer) bool { return true }
	})
	k := b.mta()
	for range 2 {
		for range 100 {
			k.run("C: XCLIENT ADDR=192.0.2.7\nS: 220")
		}
		k.run("C: EHLO mta.example.org\nS: 250")
		if got := k.hand(letter("1", "bob@example.net"), "carl@example.org", "bob@example.net"); !strings.HasPrefix(got, "250") {
			t.Fatalf("reply %q", got)
		}
	}
	for range 100 {
		k.run("C: XCLIENT NAME=a.example\nS: 220")
	}
	if got := k.run("C: XCLIENT ADDR=192.0.2.7\nS: 421 4.7.0"); !strings.Contains(got, "no message of any") {
		t.Errorf("it says %q", got)
	}
	if got := k.reply(); !strings.Contains(got, "EOF") {
		t.Errorf("the connection stays: %q", got)
	}
	// What came in several commands is told of one client.
	k = forwarding(t, &peers).dial()
	k.run("S: 220\nC: EHLO mta\nS: 250\nC: XCLIENT ADDR=192.0.2.7 PORT=99\nS: 220\nC: XCLIENT NAME=a.example HELO=a.example\nS: 220\nC: EHLO a.example\nS: 250\nC: MAIL FROM:<alice@example.org>\nS: 250")
	if last := peers[len(peers)-1]; last.Remote.String() != "192.0.2.7:99" {
		t.Errorf("peer %+v", last)
	}
}

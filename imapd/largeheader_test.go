package imapd_test

import (
	"slices"
	"strings"
	"testing"

	"letterlock.org/letterlock/internal/mailtest/peer"
)

// TestAHeaderWithoutEnd: whoever sends one stalls no mailbox.
func TestAHeaderWithoutEnd(t *testing.T) {
	d := peer.Dovecot(t)
	line := strings.Repeat("x", 900) + "\r\n"
	d.Append(t, peer.Alice, "INBOX",
		[]byte("Subject: first\r\n\r\nhi\r\n"),
		[]byte("Subject: long\r\n"+strings.Repeat("X-Long: "+line, 6000)+"\r\nhi\r\n"),
		[]byte("Subject: endless\r\n"+strings.Repeat("X-Long: "+line, 6000)),
		[]byte("Subject: text\r\n\r\n"+strings.Repeat(line, 9000)),
		[]byte("Subject: "+strings.Repeat("x", 5<<20)+"\r\n\r\nhi\r\n"),
		[]byte("To: "+strings.Repeat("abcdefg <a@example.org>,\r\n ", 100000)+"b@example.org\r\n\r\nhi\r\n"),
		[]byte("Subject: last\r\n\r\nhi\r\n"))
	for _, items := range []string{
		"(ENVELOPE)", "(BODYSTRUCTURE)",
		"(BODY.PEEK[HEADER])", "(BODY.PEEK[])", "(BODY.PEEK[HEADER.FIELDS (Subject)])", "(BODY.PEEK[HEADER.FIELDS (X-Long)])",
		"(BODY.PEEK[TEXT]<0.8000000>)", "(BODY.PEEK[1.MIME])", "(BODY.PEEK[1.MIME]<5.5000000>)",
		"(BODY.PEEK[HEADER.FIELDS (X-Long)]<100.5000000> BODY.PEEK[HEADER.FIELDS (X-Long)])", "(BODY.PEEK[]<0.7000000>)", "(BODY.PEEK[]<10.7000000>)",
	} {
		t.Run(items, func(t *testing.T) {
			b := startBridge(t, d.Addr, peer.Alice, peer.AlicePassword, nil)
			direct, bridged := login(t, d.Addr, peer.Alice, peer.AlicePassword), login(t, b.addr, user, password)
			direct.ok("SELECT INBOX")
			bridged.ok("SELECT INBOX")
			answers := func(c *client) string { // what has to be asked for again comes last
				all := c.ok("UID FETCH 1:* " + items)
				slices.Sort(all)
				return strings.Join(all, "\n")
			}
			want := answers(direct)
			for _, when := range []string{"first", "second"} {
				got := answers(bridged)
				if got != want {
					t.Errorf("%s contact: %d bytes, want %d", when, len(got), len(want))
				}
			}
		})
	}
}

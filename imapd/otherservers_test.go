package imapd_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"letterlock.org/letterlock/imapd"
	"letterlock.org/letterlock/internal/mailtest/peer"
)

// TestReadingBehindOthers: a conversation with servers that have little of what
// Dovecot and Cyrus have, and some of it wrong.
func TestReadingBehindOthers(t *testing.T) {
	users := map[string]string{peer.Alice: peer.AlicePassword}
	for _, tt := range []struct {
		name, prefix, trash string
		start               func(t *testing.T) string
	}{
		{"Courier", "INBOX.", "INBOX.Tr&AOQ-sh", func(t *testing.T) string { return peer.StartCourier(t, users).Addr }},
		{"Mailutils", "", "Tr&AOQ-sh", func(t *testing.T) string { return peer.StartMailutils(t, users).Addr }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := startBridge(t, tt.start(t), peer.Alice, peer.AlicePassword, func(_ *imapd.Config, a *imapd.Account) { a.Append = imapd.AppendNone })
			c := login(t, b.addr, user, password)
			c.ok("SELECT INBOX")
			mail := [][]byte{
				letter(1, "\r\nplain\r\n"),
				encrypt(t, b.key, letter(2, "\r\nthis was secret\r\n")),
				letter(3, "Content-Type: text/html\r\n\r\n<p>"+strings.Repeat("long ", 20000)+"\r\n"),
				encrypt(t, b.key, letter(4, "\r\nthis was secret, too\r\n")),
			}
			for _, m := range mail {
				c.upload("INBOX", `(\Seen) `, m)
			}
			c.ok("NOOP")
			for range 6 { // each is told the mailbox isn't there, and no more
				if r := c.cmd("SELECT " + tt.prefix + "none"); !strings.Contains(r[len(r)-1], " NO ") {
					t.Fatalf("%q", r)
				}
			}
			for _, again := range []string{"first", "second"} {
				c.ok("SELECT INBOX")
				shown := c.fetch("UID FETCH 1:* (UID FLAGS RFC822.SIZE BODY.PEEK[])")
				for i, m := range mail {
					got := shown[fmt.Sprint(i+1)]
					secret := i%2 == 1
					if !secret && got["BODY[]"] != string(m) {
						t.Errorf("%s: message %d is not as it was stored: %.200q", again, i+1, got)
					}
					if secret && (!strings.Contains(got["BODY[]"], "this was secret") || got["RFC822.SIZE"] != fmt.Sprint(len(got["BODY[]"])) || !strings.Contains(got["FLAGS"], "$LetterlockEncrypted")) {
						t.Errorf("%s: message %d is shown as %.200q", again, i+1, got)
					}
				}
			}
			if got := c.ok("UID SEARCH SUBJECT secret"); !slices.Equal(got, []string{"* SEARCH 1 2 3 4"}) {
				t.Errorf("search: %q", got)
			}
			c.ok(`CREATE "` + tt.trash + `"`)
			c.ok(`UID COPY 2 "` + tt.trash + `"`)
			c.ok(`STORE 2:3 +FLAGS (\Deleted)`)
			if got := c.ok("EXPUNGE"); slices.ContainsFunc(got, func(r string) bool { return strings.Contains(r, "EXPUNGED") }) || !slices.Contains(got, "* 2 EXPUNGE") {
				t.Errorf("EXPUNGE: %q", got)
			}
			if got := c.fetch("FETCH 1:* (UID BODY.PEEK[TEXT])"); len(got) != 2 || got["4"]["BODY[TEXT]"] != "this was secret, too\r\n" {
				t.Errorf("after EXPUNGE: %q", got)
			}
			c.ok(`SELECT "` + tt.trash + `"`)
			if got := c.fetch("FETCH 1 (UID BODY.PEEK[TEXT])"); len(got) != 1 || !strings.Contains(fmt.Sprint(got), "this was secret") {
				t.Errorf("the copy: %q", got)
			}
			c.ok("LOGOUT")
		})
	}
}

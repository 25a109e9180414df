package imapd_test

import (
	"testing"

	"letterlock.org/letterlock/internal/mailtest"
)

// TestAbsentSections: what an encrypted message doesn't have is an empty string.
// Roundcube and node-imap give NIL as content, three letters of it.
func TestAbsentSections(t *testing.T) {
	up, err := mailtest.Start(mailtest.Options{Users: map[string]string{user: "pw"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { up.Close() })
	b := startBridge(t, up.IMAPAddr, user, "pw", nil)
	for _, inside := range []string{
		"Subject: one part\r\nMessage-ID: <1@x>\r\n\r\ntext\r\n",
		"Subject: two\r\nMessage-ID: <2@x>\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\ntext\r\n--x--\r\n",
	} {
		if err := up.Deliver(user, "INBOX", encrypt(t, b.key, []byte("From: bob@example.org\r\nTo: alice@example.test\r\n"+inside))); err != nil {
			t.Fatal(err)
		}
	}
	c := login(t, b.addr, user, password)
	c.ok("SELECT INBOX")
	for uid, m := range c.fetch("UID FETCH 1:2 (BODY.PEEK[1] BODY.PEEK[2] BODY.PEEK[2.MIME] BODY.PEEK[1.1.1] BODY.PEEK[1.HEADER] BODY.PEEK[2]<5.10>)") {
		if m["BODY[1]"] != "text\r\n" && m["BODY[1]"] != "text" {
			t.Errorf("UID %s: BODY[1] %q", uid, m["BODY[1]"])
		}
		for _, absent := range []string{"BODY[2]", "BODY[2.MIME]", "BODY[1.1.1]", "BODY[1.HEADER]", "BODY[2]<5>"} {
			if got, ok := m[absent]; !ok || got != "" {
				t.Errorf("UID %s: %s %q, want an empty string", uid, absent, got)
			}
		}
	}
}

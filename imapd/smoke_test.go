package imapd_test

import (
	"strings"
	"testing"

	"letterlock.org/letterlock/internal/mailtest/peer"
)

func TestSmoke(t *testing.T) {
	d := peer.Dovecot(t)
	d.Append(t, peer.Alice, "INBOX", []byte("Subject: a\r\n\r\nhello\r\n"), []byte("Subject: b\r\nLetterlock-Status: encrypted\r\n\r\nhello\r\n"))
	b := startBridge(t, d.Addr, peer.Alice, peer.AlicePassword, nil)
	c := login(t, b.addr, user, password)
	for _, cmd := range []string{"CAPABILITY", "NOOP", `LIST "" "*"`, "SELECT INBOX", "FETCH 1:* (FLAGS)", "UID FETCH 1:* (RFC822.SIZE BODY.PEEK[HEADER.FIELDS (Subject letterlock-status)])",
		"FETCH 1:* (ENVELOPE BODY[])", "FETCH 2 (BODY[HEADER]<10.20>)", "UID SEARCH SUBJECT a", "UID SEARCH RETURN (ALL) ALL", "STORE 1 +FLAGS (\\Deleted $LetterlockVerified)", "EXPUNGE", "UID FETCH 1:* ALL", "XYZ", "LOGOUT"} {
		t.Logf("C: %s", cmd)
		for _, r := range c.cmd(cmd) {
			t.Logf("S: %s", strings.ReplaceAll(r, "\r\n", "\\r\\n"))
		}
	}
}

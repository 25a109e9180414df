package imapd_test

import (
	"bufio"
	"net"
	"strings"
	"testing"

	"letterlock.org/letterlock/imapd"
	"letterlock.org/letterlock/internal/mailtest/peer"
)

// TestAMessageTooLargeToOpen is shown as it arrived, with a warning: a NO would
// fail the whole FETCH, each time and for the other messages too.
func TestAMessageTooLargeToOpen(t *testing.T) {
	d := peer.Dovecot(t)
	b := startBridge(t, d.Addr, peer.Alice, peer.AlicePassword, func(_ *imapd.Config, a *imapd.Account) { a.Spool.Limit = 20_000 })
	letter := func(text string) []byte {
		return []byte("From: bob@example.test\r\nSubject: x\r\nMessage-ID: <" + text[:4] + "@x>\r\n\r\n" + text + "\r\n")
	}
	large := encrypt(t, b.key, letter(strings.Repeat("large letter\r\n", 3000)))
	d.Append(t, peer.Alice, "INBOX", encrypt(t, b.key, letter("first letter")), large, encrypt(t, b.key, letter("last letter")))
	c := login(t, b.addr, user, password)
	c.ok("SELECT INBOX")
	got := c.fetch("UID FETCH 1:3 (FLAGS RFC822.SIZE BODY.PEEK[])")
	if !strings.Contains(got["1"]["BODY[]"], "first letter") || !strings.Contains(got["3"]["BODY[]"], "last letter") {
		t.Errorf("the others: %.200q", got)
	}
	if got["2"]["BODY[]"] != string(large) {
		t.Errorf("the large one has %d bytes, want %d as they arrived", len(got["2"]["BODY[]"]), len(large))
	}
	if flags := c.fetch("UID FETCH 2 (FLAGS)")["2"]["FLAGS"]; !strings.Contains(flags, "$LetterlockWarning") {
		t.Errorf("the large one has FLAGS %s", flags)
	}
}

// TestIdleStrangersKeepNobodyOut: every program on the machine can connect.
func TestIdleStrangersKeepNobodyOut(t *testing.T) {
	d := (&double{}).start(t)
	b := startBridge(t, d.addr, "up", "pw", func(c *imapd.Config, _ *imapd.Account) { c.MaxSessions = 8 })
	first := login(t, b.addr, user, password)
	for range 3 {
		for range 8 {
			conn, err := net.Dial("tcp", b.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := bufio.NewReader(conn).ReadString('\n'); err != nil {
				t.Fatal(err)
			}
		}
		login(t, b.addr, user, password).ok("NOOP")
	}
	first.ok("NOOP")
}

package imapd_test

import (
	"strings"
	"testing"

	"letterlock.org/letterlock/internal/mailtest"
)

// TestPGPMIMEThatExchangeTookApart: in every order in which a client may ask, it is
// the letter that was encrypted.
func TestPGPMIMEThatExchangeTookApart(t *testing.T) {
	up, err := mailtest.Start(mailtest.Options{Users: map[string]string{user: "pw"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { up.Close() })
	b := startBridge(t, up.IMAPAddr, user, "pw", nil)
	const letter = "From: bob@example.org\r\nTo: alice@example.test\r\nSubject: inside\r\nMessage-ID: <1@x>\r\n\r\ntext\r\n"
	sealed := string(encrypt(t, b.key, []byte(letter)))
	i, j := strings.Index(sealed, "-----BEGIN PGP MESSAGE-----"), strings.Index(sealed, "-----END PGP MESSAGE-----")
	mixed := "From: bob@example.org\r\nTo: alice@example.test\r\nSubject: [...]\r\nMessage-ID: <1@x>\r\nX-MS-Has-Attach: yes\r\n" +
		"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\n\r\n" +
		"--b\r\nContent-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n--b\r\nContent-Type: application/octet-stream\r\n\r\n" +
		sealed[i:j] + "-----END PGP MESSAGE-----\r\n--b--\r\n"
	beside := strings.Replace(mixed, "text/plain\r\n\r\n\r\n", "text/plain\r\n\r\nHello\r\n", 1)
	for range 3 {
		for _, raw := range []string{mixed, beside} {
			if err := up.Deliver(user, "INBOX", []byte(raw)); err != nil {
				t.Fatal(err)
			}
		}
	}
	c := login(t, b.addr, user, password)
	c.ok("SELECT INBOX")
	for n, items := range []string{"ENVELOPE BODYSTRUCTURE RFC822.SIZE BODY.PEEK[]", "BODY.PEEK[] ENVELOPE", "BODY.PEEK[TEXT] RFC822.SIZE"} {
		for k, want := range []string{"text\r\n", "Hello\r\n"} {
			uid := string(rune('1' + 2*n + k))
			m := c.fetch("UID FETCH " + uid + " (UID " + items + ")")[uid]
			if e, ok := m["ENVELOPE"]; ok && strings.Contains(e, `"inside"`) != (k == 0) {
				t.Errorf("UID %s: envelope %s", uid, e)
			}
			if s, ok := m["BODYSTRUCTURE"]; ok && strings.Contains(strings.ToLower(s), "pgp-encrypted") != (k == 1) {
				t.Errorf("UID %s: structure %s", uid, s)
			}
			got := m["BODY[]"] + m["BODY[TEXT]"]
			if !strings.Contains(got, want) || strings.Contains(got, "BEGIN PGP") != (k == 1) || k == 1 && m["BODY[]"] != "" && got != beside {
				t.Errorf("UID %s: asked for %s, got %q", uid, items, got)
			}
		}
	}
	if got := c.ok("UID SEARCH SUBJECT inside"); !strings.Contains(strings.Join(got, "\n"), "* SEARCH 1 3 5") {
		t.Errorf("a search finds %q", got)
	}
}

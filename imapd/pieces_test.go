package imapd_test

import (
	"fmt"
	"strings"
	"testing"

	"letterlock.org/letterlock/internal/mailtest"
)

// withMail is a bridge before an upstream with plain mail in INBOX.
func withMail(t *testing.T, mail ...string) *bridge {
	t.Helper()
	up, err := mailtest.Start(mailtest.Options{Users: map[string]string{user: "pw"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { up.Close() })
	for _, m := range mail {
		if err := up.Deliver(user, "INBOX", []byte(m)); err != nil {
			t.Fatal(err)
		}
	}
	return startBridge(t, up.IMAPAddr, user, "pw", nil)
}

// TestPiecesAskedAtOnce: a client that asks for a shorter piece of a header before it
// has the answer to a longer one is no victim of its server.
func TestPiecesAskedAtOnce(t *testing.T) {
	b := withMail(t, "From: a@example.org\r\nX-Long: "+strings.Repeat("x", 2000)+"\r\n\r\ntext\r\n")
	for _, known := range []bool{false, true} {
		c := login(t, b.addr, user, password)
		c.ok("SELECT INBOX")
		if known {
			c.ok("UID FETCH 1 (BODY.PEEK[HEADER])")
		}
		c.send("x UID FETCH 1 (BODY.PEEK[]<0.1000>)\r\ny UID FETCH 1 (BODY.PEEK[]<0.500>)\r\nz FETCH 1 (BODY.PEEK[]<0.100>)\r\n")
		for _, tt := range []struct {
			tag string
			n   int
		}{{"x", 1000}, {"y", 500}, {"z", 100}} {
			got := strings.Join(c.until(tt.tag), "\n")
			if !strings.Contains(got, fmt.Sprintf("{%d}", tt.n)) || !strings.Contains(got, tt.tag+" OK") {
				t.Errorf("known before: %v: %.200q", known, got)
			}
		}
	}
}

// TestPiecesAmongManyImitations: a piece that ends in what may be the beginning of an
// imitation is the piece of the whole, however many there are before.
func TestPiecesAmongManyImitations(t *testing.T) {
	for _, n := range []int{1, 999, 1000, 1001, 1500} {
		before := "From: a@example.org\r\n" + strings.Repeat("Letterlock-A: b\r\n", n)
		for _, next := range []string{"List-Id: <x>\r\n", "Let: x\r\n", "Letterlock-B: x\r\n", "X: y\r\n"} {
			b := withMail(t, before+next+"\r\ntext\r\n")
			for end := range 14 {
				c := login(t, b.addr, user, password)
				c.ok("SELECT INBOX")
				whole := items(t, c.ok("UID FETCH 1 (BODY.PEEK[])")[0])["BODY[]"]
				at := min(len(before)+end, len(whole))
				first := items(t, c.ok(fmt.Sprintf("UID FETCH 1 (BODY.PEEK[]<0.%d>)", at))[0])["BODY[]<0>"]
				rest := items(t, c.ok(fmt.Sprintf("UID FETCH 1 (BODY.PEEK[]<%d.100>)", at))[0])[fmt.Sprintf("BODY[]<%d>", at)]
				if first+rest != whole {
					t.Errorf("%d imitations, cut in %.12q at %d: %q", n, next, end, first[len(before):]+"|"+rest)
				}
				c.conn.Close()
			}
		}
	}
}

package imapd_test

import (
	"fmt"
	"strings"
	"testing"

	"letterlock.org/letterlock/imapd"
)

// TestPartsOfASwappedRendering: a message that was opened doesn't lend its header to
// the text of another one that the upstream gives under the same UID later.
func TestPartsOfASwappedRendering(t *testing.T) {
	for _, tt := range []struct{ name, first, then string }{
		{"pieces", "BODY.PEEK[]<0.200>", "BODY.PEEK[]<200.4000>"},
		{"header and text", "BODY.PEEK[HEADER]", "BODY.PEEK[TEXT]"},
		{"fields and a part", "BODY.PEEK[HEADER.FIELDS (Letterlock-Status)]", "BODY.PEEK[1]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			raws := make([][]byte, 2)
			d := &double{}
			given := 0
			d.answer = func(c string) string {
				if !strings.HasPrefix(c, "UID FETCH") {
					return ""
				}
				var b strings.Builder
				raw := raws[given]
				b.WriteString("* 2 FETCH (UID 11")
				head, text, _ := strings.Cut(string(raw), "\r\n\r\n")
				for item, v := range map[string]string{"BODY.PEEK[]": string(raw), "BODY.PEEK[HEADER]": head + "\r\n\r\n", "BODY.PEEK[TEXT]<0": text[:100]} {
					if strings.Contains(c, item) {
						name := strings.Replace(item, ".PEEK", "", 1)
						if strings.HasSuffix(name, "<0") {
							name += ">"
						}
						fmt.Fprintf(&b, " %s {%d}\r\n%s", name, len(v), v)
					}
				}
				return b.String() + ")\r\nTAG OK done\r\n"
			}
			d.start(t)
			b := startBridge(t, d.addr, "up", "pw", func(c *imapd.Config, _ *imapd.Account) { c.Logger = nil })
			for i := range raws {
				text := fmt.Sprintf("From: alice@example.test\r\nSubject: x\r\nMessage-ID: <%d@x>\r\n\r\n%s\r\n", i, strings.Repeat(fmt.Sprintf("text %d ", i), 100))
				raws[i] = encrypt(t, b.key, []byte(text))
			}
			c := login(t, b.addr, user, password)
			c.ok("SELECT INBOX")
			if got := strings.Join(c.ok("UID FETCH 11 ("+tt.first+")"), ""); strings.Contains(got, "BEGIN PGP") || !strings.Contains(got, "FETCH") {
				t.Fatalf("at first %.300q", got)
			}
			b.library.Close() // so that nothing is kept
			given = 1
			c.send("x UID FETCH 11 (" + tt.then + ")\r\n")
			got := ""
			for {
				r, err := c.tryResponse()
				if got += r; err != nil {
					break
				}
				if strings.HasPrefix(r, "x ") {
					break
				}
			}
			if strings.Contains(got, "text 1") || strings.Contains(got, "x OK") {
				t.Errorf("then %.300q", got)
			}
		})
	}
}

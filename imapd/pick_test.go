package imapd_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestFieldsThatAreAskedAgain: where the header that tells a class can't answer for
// header fields, the upstream is asked for them once more, for these messages only.
func TestFieldsThatAreAskedAgain(t *testing.T) {
	const asked = "(UID BODY.PEEK[HEADER] BODY.PEEK[TEXT]<0.512> FLAGS)"
	const again = "(UID BODY.PEEK[HEADER] BODY.PEEK[TEXT]<0.512> FLAGS BODY.PEEK[HEADER.FIELDS (Subject)])"
	regular := func(n int) string { return fmt.Sprintf("Subject: %d\r\nContent-Type: text/html\r\n\r\n", n) }
	for _, tt := range []struct {
		name  string
		first string // what the upstream says of the second message at first; "" for nothing
		want  []string
	}{
		{"a regular header", regular(2), []string{"UID FETCH 10:12 " + asked}},
		{"a header that readers differ about", "Subject : 2\r\nContent-Type: text/html\r\n\r\n", []string{"UID FETCH 10:12 " + asked, "UID FETCH 11 " + again}},
		{"a header without end", "Subject: 2\r\n", []string{"UID FETCH 10:12 " + asked, "UID FETCH 11 " + again}},
		{"no header", "-", []string{"UID FETCH 10:12 " + asked, "UID FETCH 11 " + again}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := &double{}
			d.answer = func(c string) string {
				if !strings.HasPrefix(c, "UID FETCH") {
					return ""
				}
				var b strings.Builder
				for n := 1; n <= 3; n++ {
					if strings.HasPrefix(c, "UID FETCH 11 ") && n != 2 {
						continue
					}
					h := regular(n)
					if n == 2 && tt.first != "" {
						h = tt.first
					}
					fmt.Fprintf(&b, "* %d FETCH (UID %d", n, 9+n)
					if h != "-" {
						fmt.Fprintf(&b, " BODY[HEADER] {%d}\r\n%s BODY[TEXT]<0> {2}\r\nhi", len(h), h)
					}
					b.WriteString(" FLAGS (\\Seen)")
					if strings.Contains(c, "HEADER.FIELDS") {
						fmt.Fprintf(&b, " BODY[HEADER.FIELDS (SUBJECT)] {%d}\r\nSubject: %d\r\n\r\n", 14, n)
					}
					b.WriteString(")\r\n")
				}
				return b.String() + "TAG OK done\r\n"
			}
			d.start(t)
			b := startBridge(t, d.addr, "up", "pw", nil)
			c := login(t, b.addr, user, password)
			c.ok("SELECT INBOX")
			answers := c.cmd("UID FETCH 10:12 (FLAGS BODY.PEEK[HEADER.FIELDS (Subject)])")
			var got []string
			for _, l := range strings.Split(d.received(), "\n") {
				if strings.HasPrefix(l, "UID FETCH") {
					got = append(got, l)
				}
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("the upstream was asked %q, want %q", got, tt.want)
			}
			said := strings.Join(answers, "\n")
			for n := 1; n <= 3; n++ {
				want := 1
				if n == 2 && tt.first == "-" {
					want = 0 // its class isn't known: NO
				}
				if strings.Count(said, fmt.Sprintf("Subject: %d\r\n", n)) != want || strings.Count(said, fmt.Sprintf("* %d FETCH", n)) != 2-want {
					t.Errorf("message %d: %q", n, said)
				}
			}
			if strings.Contains(said, "NO [UNAVAILABLE]") != (tt.first == "-") {
				t.Errorf("the end is %q", answers[len(answers)-1])
			}
		})
	}
}

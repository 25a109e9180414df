package smtpd_test

import (
	"strings"
	"testing"

	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/pgp"
)

// What the session says of a message spares a reading of it, and must be true.
func TestWhatIsNotPlainIsEncoded(t *testing.T) {
	tests := []struct {
		name, line string
		encoded    bool
	}{
		{"short lines", "hello", false},
		{"the longest line that mail may have", strings.Repeat("x", 998), false},
		{"a longer one", strings.Repeat("x", 999), true},
		{"a longer one, of dots", strings.Repeat(".", 999), true},
		{"the longest one, of dots", strings.Repeat(".", 998), false},
		{"a letter beyond ASCII", "h\xc3\xa4llo", true},
		{"a NUL", "h\x00llo", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, before := range []int{0, 70_000} { // in the first piece that is read, and in another
				u := newUpstream(t)
				text := letter("plain", "bob@example.net") + strings.Repeat("0123456789\r\n", before/12) + tt.line + "\r\nend\r\n"
				if got := newBridge(t, u).login().submit(wired(text), "bob@example.net"); !strings.HasPrefix(got, "250") {
					t.Fatal(got)
				}
				o, err := pgp.Open(t.Context(), message.Bytes([]byte(u.received()[0].data)), pgp.Opening{Keys: pgp.Keys(key(t, "bob@example.net")), Certificates: known{t}})
				if err != nil {
					t.Fatal(err)
				}
				got, err := message.ReadAll(o.Rendering, 1<<20)
				o.Rendering.Close()
				if err != nil {
					t.Fatal(err)
				}
				if encoded := strings.Contains(string(got), "Content-Transfer-Encoding: "); encoded != tt.encoded {
					t.Errorf("after %d bytes: encoded %v, want %v", before, encoded, tt.encoded)
				}
				if !tt.encoded && !strings.HasSuffix(string(got), "\r\n"+tt.line+"\r\nend\r\n") {
					t.Errorf("after %d bytes: changed", before)
				}
			}
		})
	}
}

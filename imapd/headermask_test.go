package imapd

import (
	"bytes"
	"strings"
	"testing"

	"letterlock.org/letterlock/imapd/render"
	"letterlock.org/letterlock/internal/message"
)

// maskedIn is text masked as it comes in pieces of n bytes.
func maskedIn(t testing.TB, text string, n int, whole bool) string {
	t.Helper()
	var out bytes.Buffer
	m := newHeaderMask(&out, nil, whole)
	for p := []byte(text); len(p) > 0; {
		k := min(n, len(p))
		piece := bytes.Clone(p[:k])
		if got, err := m.Write(piece); err != nil || got != k || !bytes.Equal(piece, p[:k]) {
			t.Fatalf("Write: %d, %v; its bytes are now %q", got, err, piece)
		}
		p = p[k:]
	}
	if err := m.flush(); err != nil {
		t.Fatal(err)
	}
	m.release()
	return out.String()
}

func TestHeaderMask(t *testing.T) {
	const forged = "Letterlock-Status: x"
	const masked = "XXXXXXXXXX-Status: x"
	for _, tt := range []struct {
		name, text, want string
		whole            bool
	}{
		{"at the beginning", forged + "\r\n\r\n", masked + "\r\n\r\n", false},
		{"in another case", "A: b\r\nlEtTeRlOcK-x : y\r\n\r\n", "A: b\r\nXXXXXXXXXX-x : y\r\n\r\n", false},
		{"behind a bare CR", "A: b\r" + forged + "\r\n\r\n", "A: b\r" + masked + "\r\n\r\n", false},
		{"behind an odd line end", "A: b\r\r\n" + forged + "\r\n\r\n", "A: b\r\r\n" + masked + "\r\n\r\n", false},
		{"with lines of LF", "A: b\n" + forged + "\n\n" + forged, "A: b\n" + masked + "\n\n" + forged, false},
		{"after the header", "A: b\r\n\r\n" + forged, "A: b\r\n\r\n" + forged, false},
		{"in a continuation line", "A: b\r\n " + forged + "\r\n\r\n", "A: b\r\n " + forged + "\r\n\r\n", false},
		{"a beginning only", "Letterlock", "Letterlock", false},
		{"almost", "Letterloc\r\nLetterlock-", "Letterloc\r\nXXXXXXXXXX-", false},
		{"after an empty line in picked fields", "\r\n" + forged, "\r\n" + masked, true},
	} {
		for n := 1; n <= len(tt.text); n++ {
			if got := maskedIn(t, tt.text, n, tt.whole); got != tt.want {
				t.Errorf("%s, in pieces of %d: got %q, want %q", tt.name, n, got, tt.want)
			}
		}
	}
}

// FuzzHeaderMask: it masks what render.Imitations finds in the header that
// message.ParseHeader sees, and changes nothing else.
func FuzzHeaderMask(f *testing.F) {
	f.Add("A: b\r\nLetterlock-Status: x\r\n\r\nLetterlock-", 3)
	f.Add("\r\rLetterlock-Letterlock-\n\n", 1)
	f.Fuzz(func(t *testing.T, text string, n int) {
		want := []byte(text)
		h := message.ParseHeader([]byte(text))
		render.Mask(want, 0, render.Imitations(h.Raw))
		if got := maskedIn(t, text, max(1, min(n, 1000)), false); got != string(want) {
			t.Errorf("got %q, want %q", got, want)
		}
		if got := maskedIn(t, text, max(1, min(n, 1000)), true); len(render.Imitations([]byte(got))) > 0 || len(got) != len(text) {
			t.Errorf("as picked fields: %q", got)
		}
	})
}

func TestHarmless(t *testing.T) {
	for text, want := range map[string]bool{
		`* LIST () "/" INBOX`:                     true,
		"* LIST () \"/\" {5}\r\nINBOX":            true,
		"* LIST () \"/\" Ünïcode":                 true,
		"* LIST () \"/\" {9}\r\na\r\n* 1 FE":      false,
		"* LIST () \"/\" {3}\r\na}\r\n* 1 FETCH ": false,
		"* SEARCH 1\r* 1 FETCH":                   false,
		"* SEARCH 1\n* 1 FETCH":                   false,
		"* SEARCH\t1":                             false,
		"\r\n":                                    false,
		"* SEARCH {12}\r\n* 1 FETCH (X":           false,
		"* SEARCH {0}\r\n* 1 FETCH (FLAGS ())":    false,
		"* LIST () \"/\" {0}\r\n":                 true,
	} {
		if got := harmless([]byte(text)); got != want {
			t.Errorf("harmless(%q) = %v", text, got)
		}
	}
	if got := string(printable([]byte("OK x\r* 1 FETCH {5}"))); got != "OK x?* 1 FETCH {5}" || strings.Contains(got, "\r") {
		t.Errorf("printable: %q", got)
	}
}

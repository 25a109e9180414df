package pgp_test

import (
	"testing"

	"letterlock.org/letterlock/pgp"
)

// FuzzSuffices: what suffices to tell a class is not told otherwise by more.
func FuzzSuffices(f *testing.F) {
	f.Add("", "", "-----BEGIN PGP MESSAGE-----")
	f.Add("", "\r\n -----BEGIN PGP SIGN", "ED MESSAGE-----")
	f.Add("quoted-printable", "=", "2D----BEGIN PGP MESSAGE-----")
	f.Add("Quoted-Printable ", "\r\nx", "=")
	f.Add("base64", "LS0t", "LS1CRUdJTiBQR1AgTUVTU0FHRS0tLS0t")
	f.Add("8bit", "hello", "")
	f.Add("7bit", "--b\r\nContent-Type: application/", "pgp-encrypted")
	f.Fuzz(func(t *testing.T, encoding, begin, rest string) {
		for _, s := range []pgp.Shape{
			{Type: "text", Subtype: "plain", Encoding: encoding},
			{Type: "multipart", Subtype: "mixed", Exchange: true},
		} {
			if s.Text = []byte(begin); !pgp.Suffices(s) {
				continue
			}
			was := pgp.Classify(s)
			s.Text = []byte(begin + rest)
			if now := pgp.Classify(s); now != was {
				t.Errorf("%q alone is %s, with %q it is %s", begin, was, rest, now)
			}
		}
	})
}

func TestSuffices(t *testing.T) {
	for _, tt := range []struct {
		name string
		s    pgp.Shape
		want bool
	}{
		{"no text can matter", pgp.Shape{Type: "text", Subtype: "html"}, true},
		{"nothing of the text", pgp.Shape{Type: "text", Subtype: "plain"}, false},
		{"white space only", pgp.Shape{Type: "text", Subtype: "plain", Text: []byte(" \r\n\t")}, false},
		{"a word", pgp.Shape{Type: "text", Subtype: "plain", Text: []byte("Hello")}, true},
		{"a word after white space", pgp.Shape{Type: "text", Subtype: "plain", Text: []byte("\r\n Hello")}, true},
		{"dashes", pgp.Shape{Type: "text", Subtype: "plain", Text: []byte("-----")}, false},
		{"other dashes", pgp.Shape{Type: "text", Subtype: "plain", Text: []byte("-- ")}, true},
		{"a whole beginning", pgp.Shape{Type: "text", Subtype: "plain", Text: []byte("-----BEGIN PGP MESSAGE-----")}, true},
		{"something written in base64", pgp.Shape{Type: "text", Subtype: "plain", Encoding: "BASE64", Text: []byte("SGVsbG8=")}, false},
		{"a word in quoted-printable", pgp.Shape{Type: "text", Subtype: "plain", Encoding: "quoted-printable", Text: []byte("Hello")}, true},
		{"parts from Exchange", pgp.Shape{Type: "multipart", Subtype: "mixed", Exchange: true, Text: []byte("--b\r\nContent-Type: text/plain")}, false},
		{"a part that only PGP/MIME has", pgp.Shape{Type: "multipart", Subtype: "mixed", Exchange: true, Text: []byte("--b\r\nContent-Type: application/pgp-encrypted")}, true},
		{"parts from elsewhere", pgp.Shape{Type: "multipart", Subtype: "mixed"}, true},
		{"a character in quoted-printable", pgp.Shape{Type: "text", Subtype: "plain", Encoding: "quoted-printable", Text: []byte("=2D")}, false},
	} {
		if got := pgp.Suffices(tt.s); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

package server_test

import (
	"bytes"
	"io"
	"net/mail"
	"strings"
	"testing"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/keydir/server"
)

// Whatever an address is made of, the mail to it goes to it alone, and says what it
// says: nothing in an address begins a field, an address or a line.
func FuzzLetters(f *testing.F) {
	for _, a := range []string{"joe.doe@example.org", `"a b"@example.org`, `"x> , <victim@example.net"@example.org`, `"a\" <eve@example.net>, \"b"@example.org`,
		`"Bcc: eve@example.net"@example.org`, `"\\"@example.org`, `"@"@example.org`, `"(comment)"@example.org`, `"=?utf-8?q?=0ABcc:?="@example.org`, "jörg@bücher.example",
		`"https://evil.example/"@example.org`, "a\u202eb@example.org", "a\u2028b@example.org", strings.Repeat("a", 128) + "@example.org", "a@[192.0.2.1]", "a\r\nBcc: x@example.org", "\"a\r\n b\"@example.org"} {
		f.Add(a)
	}
	from, c := addr(f, "keys@example.org"), cert(f, "joe.doe@example.org")
	const link = "https://keys.example.org/publish/yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy"
	want := server.Letters(from, addr(f, "joe.doe@example.org"), c, link, today)
	f.Fuzz(func(t *testing.T, s string) {
		a, err := address.Parse(s)
		if err != nil {
			return
		}
		for i, m := range server.Letters(from, a, c, link, today) {
			if !m.To.Equal(a) || !m.From.Equal(from) {
				t.Errorf("%q: the envelope is from %s to %s", s, m.From, m.To)
			}
			if bytes.Contains(bytes.ReplaceAll(m.Text, []byte("\r\n"), nil), []byte("\n")) || bytes.Contains(bytes.ReplaceAll(m.Text, []byte("\r\n"), nil), []byte("\r")) {
				t.Errorf("%q: bare line ends", s)
			}
			if bytes.Count(m.Text, []byte("\r\n")) != bytes.Count(want[i].Text, []byte("\r\n")) {
				t.Errorf("%q: %d lines", s, bytes.Count(m.Text, []byte("\r\n")))
			}
			for line := range bytes.Lines(m.Text) {
				if len(line) > 1000 {
					t.Errorf("%q: a line of %d bytes", s, len(line))
				}
			}
			got, err := mail.ReadMessage(bytes.NewReader(m.Text))
			if err != nil {
				t.Fatalf("%q: %v", s, err)
			}
			wanted, err := mail.ReadMessage(bytes.NewReader(want[i].Text))
			if err != nil {
				t.Fatal(err)
			}
			if len(got.Header) != len(wanted.Header) || len(got.Header["To"]) != 1 {
				t.Errorf("%q: fields %v", s, got.Header)
			}
			// Who reads the field finds one address, and this one. net/mail reads no
			// address literals, nor every letter of RFC 6531.
			if to, err := mail.ParseAddressList(got.Header.Get("To")); err == nil {
				if b, err := address.Parse(a.String()); len(to) != 1 || err != nil || !b.Equal(a) {
					t.Errorf("%q: to %v", s, to)
				}
			} else if a.IsASCII() && !strings.HasPrefix(a.Domain, "[") {
				t.Errorf("%q: To: %s: %v", s, got.Header.Get("To"), err)
			}
			text, err := io.ReadAll(got.Body)
			if err != nil || strings.Count(string(text), link) != 1 {
				t.Errorf("%q: %v\n%s", s, err, text)
			}
		}
	})
}

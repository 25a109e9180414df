package pgp_test

import (
	"encoding/base64"
	"io"
	"mime/quotedprintable"
	"strings"
	"testing"

	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/pgp"
)

// content decodes a part's body.
func content(t testing.TB, mail string, p *message.Part) string {
	t.Helper()
	var r io.Reader = strings.NewReader(mail[p.Body:p.End])
	switch strings.ToLower(p.Header.Get("Content-Transfer-Encoding")) {
	case "quoted-printable":
		r = quotedprintable.NewReader(r)
	case "base64":
		r = base64.NewDecoder(base64.StdEncoding, r)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		t.Errorf("decoding: %v", err)
	}
	return string(b)
}

// TestSevenBit: which bodies are encoded, how, and that they say the same.
func TestSevenBit(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 2000)
	cyrillic := strings.Repeat("Привет, мир!\r\n", 30)
	tests := []struct {
		name, header, body string
		signOnly           bool
		encoding, want     string
	}{
		{"plain text stays", "", "hello\r\nworld \r\n", false, "", "hello\r\nworld \r\n"},
		{"trailing space is encoded when only signed", "Content-Type: text/plain; format=flowed\n", "hello \r\nworld\r\n", true, "quoted-printable", "hello \r\nworld\r\n"},
		{"mbox lines are encoded when only signed", "", "From me\r\nto you\r\n", true, "quoted-printable", "From me\r\nto you\r\n"},
		{"a little 8bit is quoted", "Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n", "a long enough line with one ü in it = equal\r\n", false, "quoted-printable", "a long enough line with one ü in it = equal\r\n"},
		{"much 8bit is base64", "Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n", cyrillic, false, "base64", cyrillic},
		{"long lines are quoted", "", long + "\r\n", false, "quoted-printable", long + "\r\n"},
		{"a claim of 8bit for nothing is corrected", "Content-Transfer-Encoding: 8bit\n", "hello\r\n", false, "7bit", "hello\r\n"},
		{"NUL in text is base64", "", "a\x00b\r\n", false, "base64", "a\x00b\r\n"},
		{"a bare CR is kept, encoded", "", "a\rb\r\n", false, "quoted-printable", "a\rb\r\n"},
		{"bare LF becomes a line end", "", "a\nb\n", false, "", "a\r\nb\r\n"},
		{"binary is base64", "Content-Type: application/x-y\nContent-Transfer-Encoding: binary\n", "\x00\n\r\xff", false, "base64", "\x00\n\r\xff"},
		{"8bit that is no text is base64", "Content-Type: application/x-y\nContent-Transfer-Encoding: 8bit\n", "\xff\r\n", false, "base64", "\xff\r\n"},
		{"base64 in one line is rewrapped", "Content-Type: application/x-y\nContent-Transfer-Encoding: base64\n", strings.Repeat("QUJD", 500), false, "base64", strings.Repeat("ABC", 500)},
		{"bad quoted-printable is repaired", "Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n", "=C3=BC and \xc3\xbc \r\nsoft=\r\n" + long + "=20\r\n", false, "quoted-printable", "ü and ü\r\nsoft" + long + " \r\n"},
	}
	alice, bob := makeKey(t, "alice@example.org"), makeKey(t, "bob@example.net")
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			mail := crlf("From: alice@example.org\n"+tt.header+"\n") + tt.body
			var inner string
			if tt.signOnly {
				out := protect(t, mail, pgp.Protection{Signer: alice})
				p := parseMail(t, out).Children[0]
				inner = out[p.Start:p.End]
			} else {
				inner, _ = decrypted(t, protect(t, mail, pgp.Protection{Signer: alice, Recipients: []*pgp.Certificate{bob.Certificate()}}), alice, bob)
			}
			root := parseMail(t, inner)
			if got := root.Header.Get("Content-Transfer-Encoding"); got != tt.encoding {
				t.Errorf("encoding %q, want %q", got, tt.encoding)
			}
			if got := content(t, inner, root); got != tt.want {
				t.Errorf("content %q, want %q", got, tt.want)
			}
			checkSafe(t, inner)
		})
	}
}

func checkSafe(t testing.TB, payload string) {
	t.Helper()
	for line := range strings.SplitSeq(payload, "\r\n") {
		if len(line) > 998 || strings.ContainsFunc(line, func(r rune) bool { return r > 126 || r == '\r' || r == '\n' || r == 0 }) {
			t.Errorf("line is not 7bit: %.200q", line)
		}
	}
}

// TestSevenBitInside: embedded messages are converted within, and signed parts
// not at all.
func TestSevenBitInside(t *testing.T) {
	t.Parallel()
	signed := crlf("Content-Type: multipart/signed; protocol=\"application/pgp-signature\"; boundary=sig\n\n" +
		"--sig\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\nGrüße \n--sig\n" +
		"Content-Type: application/pgp-signature\n\nxyz\n--sig--")
	mail := crlf("From: alice@example.org\nContent-Type: multipart/mixed; boundary=out\nContent-Transfer-Encoding: 8bit\n\n" +
		"--out\nContent-Type: message/rfc822\nContent-Transfer-Encoding: 8bit\n\n" +
		"From: x@example.com\nSubject: inner\nContent-Type: multipart/alternative; boundary=in\nContent-Transfer-Encoding: 8bit\n\n" +
		"--in\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\nGrüße und mehr Text\n--in--\n" +
		"\n--out\n")
	alice, bob := makeKey(t, "alice@example.org"), makeKey(t, "bob@example.net")
	p := pgp.Protection{Signer: alice, Recipients: []*pgp.Certificate{bob.Certificate()}}

	inner, _ := decrypted(t, protect(t, mail+crlf("Content-Type: text/plain\n\nhi\n--out--\n"), p), alice, bob)
	checkSafe(t, inner)
	root := parseMail(t, inner)
	embedded := root.Children[0].Embedded
	for name, part := range map[string]*message.Part{"root": root, "message/rfc822": root.Children[0], "embedded": embedded} {
		if got := part.Header.Get("Content-Transfer-Encoding"); got != "7bit" {
			t.Errorf("%s has encoding %q, want 7bit", name, got)
		}
	}
	// RFC 2045, Section 4: without it the encoding would not be read as one.
	if got := embedded.Header.All("MIME-Version"); len(got) != 1 {
		t.Errorf("embedded message has %d MIME-Version fields, want 1", len(got))
	}
	if got := content(t, inner, embedded.Children[0]); got != "Grüße und mehr Text" {
		t.Errorf("embedded text is %q", got)
	}

	inner, _ = decrypted(t, protect(t, mail+signed+crlf("\n--out--\n"), p), alice, bob)
	if !strings.Contains(inner, signed) {
		t.Errorf("the signed part was changed:\n%s", inner)
	}
	if got := parseMail(t, inner).Header.Get("Content-Transfer-Encoding"); got != "8bit" {
		t.Errorf("root of an 8bit part has encoding %q, want 8bit", got)
	}
}

// TestSoftBreakMakesNoDelimiter: text that is broken anew must not end its part.
func TestSoftBreakMakesNoDelimiter(t *testing.T) {
	t.Parallel()
	alice, bob := makeKey(t, "alice@example.org"), makeKey(t, "bob@example.net")
	for n := range 80 {
		text := strings.Repeat("x", n) + "--b--ü"
		mail := crlf("From: alice@example.org\nContent-Type: multipart/mixed; boundary=b\n\npre\ramble\n" +
			"--b\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\ny" + text + "\n--b--\nepi\rlogue\n")
		inner, _ := decrypted(t, protect(t, mail, pgp.Protection{Signer: alice, Recipients: []*pgp.Certificate{bob.Certificate()}}), alice, bob)
		checkSafe(t, inner)
		root := parseMail(t, inner)
		if len(root.Children) != 1 || content(t, inner, root.Children[0]) != "y"+text {
			t.Fatalf("%d x: the part became %q", n, inner)
		}
	}
}

// TestLongHeader: a field that is too long for mail is folded, and says the same.
func TestLongHeader(t *testing.T) {
	t.Parallel()
	alice, bob := makeKey(t, "alice@example.org"), makeKey(t, "bob@example.net")
	refs := strings.TrimSpace(strings.Repeat("<0123456789abcdef@example.org> ", 100))
	mail := "From: alice@example.org\r\nReferences: " + refs + "\r\n\r\nhi\r\n"
	out := protect(t, mail, pgp.Protection{Signer: alice, Recipients: []*pgp.Certificate{bob.Certificate()}})
	inner, _ := decrypted(t, out, alice, bob)
	for _, text := range []string{out, inner} {
		checkSafe(t, text)
		if got := parseMail(t, text).Header.Get("References"); got != refs {
			t.Errorf("References became %q", got)
		}
	}
}

// TestHostileMIME: odd structures neither fail nor tell anything outside.
func TestHostileMIME(t *testing.T) {
	t.Parallel()
	alice, bob := makeKey(t, "alice@example.org"), makeKey(t, "bob@example.net")
	for _, tail := range []string{
		"", "\n", "Content-Type: multipart/mixed\n\ncanary", "Content-Type: multipart/mixed; boundary=b; boundary=c\n\n--b\n\ncanary\n--c\n",
		"Content-Type: multipart/mixed; boundary=b\n\n--b\nX: canary\n--b--", "Content-Type: multipart/mixed; boundary=b\n\n--b--\ncanary",
		"Content-Type: text/plain; hp=cipher; hp=\"clear\"; name=\"a\\\"b;c\"\n\ncanary", "Content-Type: nonsense\n\ncanary",
		"Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\nY2FuYXJ5", "Content-Type: message/rfc822\n\ncanary",
		"no colon here canary\n\nbody", "Subject: a\n \n b canary\n\nx", "X: canary\x00\r\rY: z\n\nx",
	} {
		mail := crlf("From: alice@example.org\n" + tail)
		out := protect(t, mail, pgp.Protection{Signer: alice, Recipients: []*pgp.Certificate{bob.Certificate()}})
		if strings.Contains(out, "canary") {
			t.Errorf("%q: canary outside", tail)
		}
		inner, _ := decrypted(t, out, alice, bob)
		root := parseMail(t, inner)
		if root.Params["hp"] != "cipher" {
			t.Errorf("%q: hp is %q", tail, root.Params["hp"])
		}
		if n := len(root.Header.All("Content-Type")); n != 1 {
			t.Errorf("%q: %d Content-Type fields inside", tail, n)
		}
		protect(t, mail, pgp.Protection{Signer: alice})
	}
}

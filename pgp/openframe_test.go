package pgp_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	stdmime "mime"
	"mime/multipart"
	netmail "net/mail"
	"strings"
	"testing"

	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/pgp"
)

// detachedBy is an armored signature over text.
func detachedBy(t testing.TB, k *pgp.Key, text string, textSig bool) string {
	t.Helper()
	var sig bytes.Buffer
	must(t, openpgp.DetachSignWithParams(&sig, []*openpgp.Entity{engineOf(t, k)}, strings.NewReader(text), &openpgp.SignParams{Config: at(testNow), TextSig: textSig}))
	return strings.ReplaceAll(pgpMessage(sig.Bytes()), "PGP MESSAGE", "PGP SIGNATURE")
}

// signedFraming are a signed message in the frames that anybody can put around it.
func signedFraming(t testing.TB, c *couple) []struct{ name, head, body, want string } {
	const part = "Content-Type: text/plain\r\n\r\nCANARY\r\n"
	sig := detachedBy(t, c.alice, part, false)
	frame := func(before, between, boxHead, after string) string {
		return before + part + between + "Content-Type: application/pgp-signature\r\n" + boxHead + "\r\n" + sig + after
	}
	const signed, d = `Content-Type: multipart/signed; protocol="application/pgp-signature"; micalg=pgp-sha512; `, "\r\n--ss\r\n"
	const first, end, ss = "--ss\r\n", "\r\n--ss--\r\n", signed + "boundary=ss\r\n"
	whole := frame(first, d, "", end)
	const mallory = "\r\nMallory's words\r\n"
	return []struct{ name, head, body, want string }{
		{"as it should be", ss, whole, "signed valid"},
		{"with a preamble", ss, "This is an OpenPGP/MIME signed message (RFC 4880 and 3156)\r\n" + whole, "signed valid"},
		{"with text after the end", ss, whole + "list footer\r\n", "signed valid"},
		{"without an end", ss, frame(first, d, "", ""), "signed valid"},
		{"with a boundary in quotes", signed + "\r\n\tboundary=\"=-+'(s s)_,./:=?\"\r\n", strings.ReplaceAll(whole, "--ss", "--=-+'(s s)_,./:=?"), "signed valid"},
		{"with a protocol without quotes", strings.Replace(ss, `"application/pgp-signature"`, "application/pgp-signature", 1), whole, "signed valid"},
		{"with semicolons too many", signed + "; boundary=ss;\r\n", whole, "signed valid"},
		{"with a word among its parameters, as some write it", signed + "protected; \r\n\tboundary=\"ss\"\r\n", whole, "signed valid"},
		{"with line ends of LF", ss, strings.ReplaceAll(whole, "\r\n", "\n"), "plain"}, // its header has CRLF
		{"with a delimiter that only begins like one", ss, frame(first, "\r\n--ssX\r\n", "X-Note:"+mallory, end), "plain"},
		{"with an end that only begins like one", ss, frame(first, d, "", "\r\n--ss--X\r\n"+mallory+end), "plain"},
		{"with neither, and words for those who see none", ss, frame(first, "\r\n--ssX\r\n", "", "\r\n--ss--X\r\n"+mallory+end), "plain"},
		{"with words after the delimiter", ss, frame(first, "\r\n--ss X\r\n", "", end), "plain"},
		{"with white space after the delimiter", ss, frame(first, "\r\n--ss \r\n", "", end), "plain"},
		{"with white space after the first delimiter", ss, frame("--ss\t\r\n", d, "", end), "plain"},
		{"with a delimiter on a line of LF", ss, frame(first, "\n--ss\n", "", end), "plain"},
		{"with a part before it for who takes CR for a line end", ss, "x\r--ss\r" + mallory + whole, "plain"},
		{"with a part after its end", ss, whole + first + mallory + end, "plain"},
		{"with a part after its end for who takes CR for a line end", ss, whole + "\r--ss\r" + mallory, "plain"},
		{"with a boundary that ends in a space", signed + "boundary=\"ss \"\r\n", first + mallory + strings.ReplaceAll(whole, "--ss", "--ss "), "plain"},
		{"with a boundary in escapes", signed + "boundary=\"s\\s\"\r\n", whole, "plain"},
		{"with a boundary that some cut short", signed + "boundary=ss=x\r\n", strings.ReplaceAll(whole, "--ss", "--ss=x"), "plain"},
		{"with a boundary in a comment", strings.Replace(ss, "signed;", "signed (; boundary=s2);", 1), "--s2\r\n" + mallory + "--s2--\r\n" + whole, "plain"},
		{"with a boundary before the first semicolon", strings.Replace(ss, "signed;", "signed boundary=s2;", 1), whole, "plain"},
		{"with a boundary behind a space", signed + "boundary =ss\r\n", whole, "plain"},
		{"with a boundary in another parameter", signed + "x=\"; boundary=s2\"; boundary=ss\r\n", whole, "plain"},
		{"with a word for a boundary in another parameter", signed + "x=boundary=s2; boundary=ss\r\n", whole, "plain"},
		{"with a parameter whose name ends like a boundary's", signed + "x-boundary=s2; boundary=ss\r\n", whole, "plain"},
		{"with a charset for parts that have none", signed + "charset=utf-7; boundary=ss\r\n", whole, "plain"},
		{"with a parameter in quotes", signed + "x=\"a b, c\"; boundary=ss\r\n", whole, "signed valid"},
		{"with a type that some see no field in", strings.Replace(ss, "Content-Type:", "Content-Type :", 1), whole, "plain"},
		{"with a type behind a line of white space", "X-A: b\r\n \r\n" + ss, whole, "plain"},
		{"with a signature that says to be a letter too", ss, frame(first, d, "Content-Type: text/html\r\n", end), "plain"},
		{"with an encoding that some undo", ss + "Content-Transfer-Encoding: x-uuencode\r\n", whole, "plain"},
	}
}

// TestSignedFraming: what is not signed around a signed part must not have any
// program show more than that part.
func TestSignedFraming(t *testing.T) {
	t.Parallel()
	c := newCouple(t)
	for _, tt := range signedFraming(t, c) {
		t.Run(tt.name, func(t *testing.T) {
			if got := openBytes(t, []byte(outside+tt.head+"\r\n"+tt.body), c.opening()); summary(got) != tt.want {
				t.Errorf("got %q, want %q", summary(got), tt.want)
			}
			want := map[string]string{"signed valid": "encrypted valid", "plain": "encrypted none"}[tt.want]
			if strings.HasSuffix(tt.name, "LF") || strings.Contains(tt.name, "some see no field") {
				return // whose root is no multipart, or which the header makes no difference to
			}
			k, d := locked(t, literal(t, tt.head+"\r\n"+tt.body), c.bob)
			if got := openBytes(t, []byte(mime(outside, append(k, d...))), c.opening()); summary(got) != want {
				t.Errorf("inside: got %q, want %q", summary(got), want)
			}
		})
	}
	lf := strings.ReplaceAll(outside, "\r\n", "\n") + strings.ReplaceAll(signedFraming(t, c)[0].head+"\r\n"+signedFraming(t, c)[0].body, "\r\n", "\n")
	if got := openBytes(t, []byte(lf), c.opening()); summary(got) != "signed valid" {
		t.Errorf("all of it with LF: got %q", summary(got))
	}
}

// TestClearFraming: of what stands around a clear-signed text nothing may be
// anybody's words.
func TestClearFraming(t *testing.T) {
	t.Parallel()
	c := newCouple(t)
	sig := detachedBy(t, c.alice, "CANARY", true)
	mail := func(head, hashes, headers string) string {
		return outside + head + "\r\n-----BEGIN PGP SIGNED MESSAGE-----\r\n" + hashes + "\r\nCANARY\r\n" +
			strings.Replace(sig, "-----\r\n", "-----\r\n"+headers, 1)
	}
	const hash, valid = "Hash: SHA512\r\n", "signed valid"
	tests := []struct{ name, mail, want string }{
		{"a hash", mail("", hash, ""), valid},
		{"no hash", mail("", "", ""), valid},
		{"two hashes on a line", mail("", "Hash: SHA256, SHA512\r\n", ""), valid},
		{"GnuPG of old", mail("", hash, "Version: GnuPG v1.4.11 (GNU/Linux)\r\nComment: Using GnuPG with Mozilla - http://enigmail.mozdev.org/\r\n"), valid},
		{"a Mac", mail("", hash, "Version: GnuPG/MacGPG2 v2.0.22 (Darwin)\r\nComment: GPGTools - https://gpgtools.org\r\n"), valid},
		{"Mailvelope", mail("", hash, "Version: Mailvelope v4.4.1\r\nComment: https://www.mailvelope.com\r\n"), valid},
		{"FlowCrypt", mail("", hash, "Version: FlowCrypt Email Encryption 8.5.14\r\nComment: Seamlessly send and receive encrypted email\r\n"), valid},
		{"FlowCrypt of old", mail("", hash, "Version: FlowCrypt 5.1.8 Gmail Encryption flowcrypt.com\r\nComment: Seamlessly send, receive and search encrypted email\r\n"), valid},
		{"Proton", mail("", hash, "Version: GopenPGP 2.7.5\r\nComment: https://gopenpgp.org\r\n"), valid},
		{"PGP", mail("", hash, "Version: PGP Desktop 9.0.2 (Build 2424)\r\n"), valid},
		{"an encoding that some undo", mail("Content-Transfer-Encoding: x-uuencode\r\n", hash, ""), "plain"},
		{"a charset of its own", mail("Content-Type: text/plain; charset=ISO-2022-JP\r\n", hash, ""), valid},
		{"a charset that makes other letters of it", mail("Content-Type: text/plain; charset=utf-7\r\n", hash, ""), "plain"},
		{"lines that flow", mail("Content-Type: text/plain; format=flowed\r\n", hash, ""), valid},
		{"lines that flow into one word", mail("Content-Type: text/plain; format=flowed; delsp=yes\r\n", hash, ""), "plain"},
		{"words after a hash's name", mail("", "Hash: SHA512 The deal is off. Alice\r\n", ""), "plain"},
		{"words for a hash's name", mail("", "Hash: SHA512\r\nHash: The deal is off. Alice\r\n", ""), "plain"},
		{"many hashes", mail("", strings.Repeat(hash, 5), ""), "plain"},
		{"words as a comment", mail("", hash, "Comment: pay 5000 to Mallory\r\n"), "plain"},
		{"words before a comment's address", mail("", hash, "Comment: pay 5000 to Mallory - https://enigmail.net\r\n"), "plain"},
		{"words as a version", mail("", hash, "Version: pay Mallory at once\r\n"), "plain"},
		{"words as a program's name, number and system", mail("", hash, "Version: Pay Mallory 5000 (at once)\r\n"), "plain"},
		{"words as a header of their own", mail("", hash, "PS: pay Mallory\r\n"), "plain"},
	}
	for _, tt := range tests {
		if got := openBytes(t, []byte(tt.mail), c.opening()); summary(got) != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, summary(got), tt.want)
		}
	}
}

// TestClearEscapes: "- " before a line that needs no escape is a sign that nobody signed.
func TestClearEscapes(t *testing.T) {
	t.Parallel()
	c := newCouple(t)
	text := "Your balance:\r\n5000 EUR\r\n-- \r\nFrom Alice"
	sig := detachedBy(t, c.alice, strings.Replace(text, "-- ", "--", 1), true)
	for _, tt := range []struct{ name, shown, want string }{
		{"what must be", strings.Replace(text, "-- ", "- -- ", 1), "signed valid"},
		{"what mailboxes would change, too", strings.NewReplacer("-- ", "- -- ", "From ", "- From ").Replace(text), "signed valid"},
		{"an amount", strings.NewReplacer("-- ", "- -- ", "5000", "- 5000").Replace(text), "plain"},
		{"nothing", text, "plain"},
	} {
		mail := outside + "\r\n-----BEGIN PGP SIGNED MESSAGE-----\r\nHash: SHA512\r\n\r\n" + tt.shown + "\r\n" + sig
		if got := openBytes(t, []byte(mail), c.opening()); summary(got) != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, summary(got), tt.want)
		}
	}
}

// TestClearEncodings: of what is signed no program may show less than another.
func TestClearEncodings(t *testing.T) {
	t.Parallel()
	c := newCouple(t)
	text := strings.Repeat("I pay 5000, if you deliver. ", 40) + "You did not."
	body := "-----BEGIN PGP SIGNED MESSAGE-----\r\nHash: SHA512\r\n\r\n" + text + "\r\n" + detachedBy(t, c.alice, text, true)
	quoted := strings.ReplaceAll(body, "=", "=3D")
	for _, tt := range []struct{ name, encoding, body, want string }{
		{"base64", "base64", wrapped64(body), "signed valid"},
		{"base64 with its end in the middle", "base64", wrapped64(body[:497]) + wrapped64(body[497:]), "plain"},
		{"base64 with its end in the middle of a line", "base64", strings.TrimSpace(wrapped64(body[:497])) + wrapped64(body[497:]), "plain"},
		{"quoted-printable", "quoted-printable", strings.Replace(quoted, "pay 5000", "pay 5=\r\n000", 1), "signed valid"},
		{"quoted-printable with a space before the line end", "quoted-printable", strings.Replace(quoted, "pay 5000", "pay 5= \r\n000", 1), "plain"},
	} {
		mail := outside + "Content-Transfer-Encoding: " + tt.encoding + "\r\n\r\n" + tt.body
		if got := openBytes(t, []byte(mail), c.opening()); summary(got) != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, summary(got), tt.want)
		}
	}
}

// TestForwardedBoundaries: somebody whose letter was forwarded in a signed one puts a
// boundary of that around it, for who looks for the outer one first to show the
// forwarded words beside the signed ones.
func TestForwardedBoundaries(t *testing.T) {
	t.Parallel()
	c := newCouple(t)
	const part = "Content-Type: multipart/mixed; boundary=alices\r\n\r\n--alices\r\n\r\nI don't agree to this:\r\n" +
		"--alices\r\nContent-Type: message/rfc822\r\n\r\nFrom: mallory@example.net\r\nContent-Type: multipart/mixed; boundary=mallorys\r\n\r\n" +
		"--mallorys\r\n\r\nI owe Mallory 5000\r\n--mallorys--\r\n\r\n--alices--\r\n"
	for _, tt := range []struct{ name, boundary, part, want string }{
		{"one of its own", "outer", part, "signed valid"},
		{"that of the forwarded letter", "mallorys", part, "plain"},
		{"that of the signed letter", "alices", part, "plain"},
		{"what one only begins with", "mallory", part, "plain"},
		{"what one ends with", "lorys", part, "signed valid"},
		{"with line ends of LF", "mallorys", strings.ReplaceAll(part, "\r\n", "\n"), "plain"},
		{"for who takes CR for a line end", "cr", strings.Replace(part, "I owe", "x\r--cr\r\rI owe", 1), "plain"},
		{"with a header of other line ends than the rest", "outer", strings.Replace(part, "\r\n", "\n", 2), "plain"},
	} {
		sig := detachedBy(t, c.alice, strings.ReplaceAll(strings.ReplaceAll(tt.part, "\r\n", "\n"), "\n", "\r\n"), false)
		body := "Content-Type: multipart/signed; protocol=\"application/pgp-signature\"; boundary=" + tt.boundary + "\r\n\r\n--" + tt.boundary + "\r\n" + tt.part +
			"\r\n--" + tt.boundary + "\r\nContent-Type: application/pgp-signature\r\n\r\n" + sig + "\r\n--" + tt.boundary + "--\r\n"
		if got := openBytes(t, []byte(outside+body), c.opening()); summary(got) != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, summary(got), tt.want)
		}
		k, d := locked(t, literal(t, body), c.bob)
		want := map[string]string{"signed valid": "encrypted valid", "plain": "encrypted none"}[tt.want]
		if strings.Contains(tt.name, "header") { // a rendering has the same everywhere
			want = "encrypted valid"
		}
		if got := openBytes(t, []byte(mime(outside, append(k, d...))), c.opening()); summary(got) != want {
			t.Errorf("%s, inside: got %q, want %q", tt.name, summary(got), want)
		}
	}
}

// FuzzSignedFraming: where a signed message is called valid, another reader of MIME
// cuts it into the same two parts.
func FuzzSignedFraming(f *testing.F) {
	const part = "Content-Type: text/plain\r\n\r\nCANARY\r\n"
	c := fixedCouple(f)
	for _, tt := range signedFraming(f, c) {
		before, rest, ok := strings.Cut(tt.body, part)
		between, after, ok2 := strings.Cut(rest, "-----BEGIN PGP SIGNATURE")
		_, after, ok3 := strings.Cut(after, "-----END PGP SIGNATURE-----\r\n")
		if ok && ok2 && ok3 {
			f.Add(tt.head, before, part, between, after)
		}
	}
	const signed = "Content-Type: multipart/signed; protocol=\"application/pgp-signature\"; boundary="
	for _, b := range []string{"ss", "s", "tt", "t"} {
		f.Add(signed+b+"\r\n", "--"+b+"\r\n", "Content-Type: multipart/mixed; boundary=tt\r\n\r\n--tt\r\n\r\na\r\n--tt\r\n\r\nb\r\n--tt--\r\n",
			"\r\n--"+b+"\r\nContent-Type: application/pgp-signature\r\n\r\n", "\r\n--"+b+"--\r\n")
	}
	o := c.opening()
	f.Fuzz(func(t *testing.T, head, before, part, between, after string) {
		sig := detachedBy(t, c.alice, strings.ReplaceAll(strings.ReplaceAll(part, "\r\n", "\n"), "\n", "\r\n"), false)
		mail := outside + head + "\r\n" + before + part + between + sig + after
		got, err := pgp.Open(context.Background(), message.Bytes([]byte(mail)), o)
		if err != nil {
			t.Fatalf("Open: %v", err)
		}
		if got.Class == pgp.Signed && got.Verdict.Signature == pgp.SignatureValid {
			checkSignedAlone(t, mail, part)
		}
	})
}

// checkSignedAlone demands that the standard library, and readers that look for the
// boundary in simpler ways, find nothing but the signed part and a signature in a
// multipart/signed mail.
func checkSignedAlone(t testing.TB, mail, text string) {
	t.Helper()
	m, err := netmail.ReadMessage(strings.NewReader(mail))
	if err != nil {
		t.Fatalf("called valid, but: %v\n%s", err, mail)
	}
	_, params, err := stdmime.ParseMediaType(m.Header.Get("Content-Type"))
	if errors.Is(err, stdmime.ErrInvalidMediaParameter) {
		return // such as a word among the parameters, where it gives none of them
	}
	if err != nil {
		t.Fatalf("called valid, but: %v\n%s", err, mail)
	}
	for _, ends := range []string{"\n", "\r\n", "\r"} {
		if ends == "\r\n" && !strings.Contains(mail, "\r\n") || ends == "\r" && !strings.Contains(mail, "\r") {
			continue
		}
		for _, prefix := range []bool{false, true} {
			n := 0
			for line := range strings.SplitSeq(mail, ends) {
				line = strings.TrimLeft(line, "\r\n")
				b := "--" + params["boundary"]
				if line = strings.TrimRight(line, " \t\r\n"); line == b || line == b+"--" || prefix && strings.HasPrefix(line, b) {
					n++
				}
			}
			if n != 3 && (n != 2 || strings.Contains(mail, "--"+params["boundary"]+"--")) {
				t.Fatalf("called valid, but with %d delimiters between line ends of %q\n%s", n, ends, mail)
			}
		}
	}
	text = text[len(message.ParseHeader([]byte(text)).Raw):]
	r, n := multipart.NewReader(m.Body, params["boundary"]), 0
	for {
		p, err := r.NextRawPart()
		if n == 0 && err != nil && strings.Contains(err.Error(), "malformed MIME header") {
			return // which is signed
		}
		if err == io.EOF || err != nil && n == 2 { // cut off
			break
		}
		if err != nil {
			t.Fatalf("called valid, but: %v\n%s", err, mail)
		}
		b, err := io.ReadAll(p)
		if n++; n == 1 && (err != nil || string(b) != text) || n > 2 {
			t.Fatalf("called valid, but part %d is %q (%v)\n%s", n, b, err, mail)
		}
	}
	if n != 2 {
		t.Fatalf("called valid, but of %d parts\n%s", n, mail)
	}
}

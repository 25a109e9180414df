package pgp_test

import (
	"bytes"
	"context"
	netmail "net/mail"
	"regexp"
	"strings"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/pgp"
)

// letterMaker makes mail of a header and a text as programs do, one bit of how for
// each thing that they do to it.
type letterMaker struct{ c *couple }

const (
	howSigned   = 1 << iota // by Alice, with the text
	howInline               // no PGP/MIME
	howPressed              // compressed
	howDetached             // what is encrypted is multipart/signed
	howOpen                 // not encrypted
	howHalf                 // with line ends of LF
	howAll      = 1<<iota - 1
)

func (m letterMaker) make(t testing.TB, head, text string, how byte) string {
	t.Helper()
	text = halved(text, how)
	if how&(howDetached|howOpen) != 0 && how&howInline == 0 {
		part := strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\n", "\r\n")
		text = "Content-Type: multipart/signed; protocol=\"application/pgp-signature\"; boundary=ss\r\n\r\n--ss\r\n" + text +
			"\r\n--ss\r\nContent-Type: application/pgp-signature\r\n\r\n" + detachedBy(t, m.c.alice, part, false) + "\r\n--ss--\r\n"
	}
	switch {
	case how&howOpen != 0 && how&howInline != 0:
		clear, err := pgp.SignClear([]byte(text), testNow, m.c.alice)
		must(t, err)
		return head + "\r\n" + string(clear)
	case how&howOpen != 0:
		return head + text
	}
	var b []byte
	if how&howSigned != 0 {
		p := &openpgp.EncryptParams{Config: at(testNow)}
		if how&howPressed != 0 {
			p.Config.DefaultCompressionAlgo = packet.CompressionZLIB
		}
		b = written(t, text, m.c.alice, p, m.c.bob)
	} else {
		lit := literal(t, text)
		if how&howPressed != 0 {
			lit = pressed(t, lit, packet.CompressionZLIB, 1)
		}
		k, d := locked(t, lit, m.c.bob)
		b = append(k, d...)
	}
	if how&howInline != 0 {
		return head + "\r\n" + pgpMessage(b)
	}
	return mime(head, b)
}

// halved is the text of a letter with the line ends that it is to have.
func halved(text string, how byte) string {
	if how&howHalf != 0 {
		return strings.ReplaceAll(text, "\r\n", "\n")
	}
	return text
}

// FuzzInsideLetter puts anything behind a good encryption, a good signature, or both:
// what is shown is what was inside, the same each time, and Alice is only named where
// she signed it and every reader finds her, and nothing else than she signed.
func FuzzInsideLetter(f *testing.F) {
	m := letterMaker{c: fixedCouple(f)}
	inside := []string{payload, payloadOf("From: alice@example.org\r\nSubject: x\n y\r\n"), "no header", "\r\nbody", "From x\r\nA: b\r\n\r\nc",
		"Content-Type: multipart/mixed; boundary=ss; hp=clear\r\nSubject: [...]\r\n\r\n--ss\r\n\r\na\r\n--ss\r\n\r\nb\r\n--ss--\r\n",
		"Content-Type: message/rfc822\r\n\r\nFrom: Alice <alice@example.org>\r\nMessage-ID: <1@example.org>\r\nSubject: in\r\n\r\nbody\r\n",
		"Subject: x\r\nContent-Type: text/plain; hp=cipher; hp-legacy-display=1\r\n\r\nSubject: x\r\n\r\nHello\r\n",
		"Content-Type: application/x\r\nContent-Transfer-Encoding: binary\r\n\r\na\x00\n"}
	for _, text := range inside {
		for how := range byte(howAll + 1) {
			f.Add(outside, text, how)
		}
	}
	f.Add(outside, "0\r\r\n0", byte(howSigned|howInline|howDetached|howHalf))
	for _, head := range []string{"From : alice@example.org\r\n", "From: alice@example.org\r\nFrom: mallory@example.net\r\n", "Letterlock-Status : valid\r\nFrom: alice@example.org\r\n", "From: mallory@example.net\r\n"} {
		for how := range byte(howAll + 1) {
			f.Add(head, inside[1], how)
		}
	}
	o := m.c.opening()
	o.Spool.Limit = 1 << 20
	f.Fuzz(func(t *testing.T, head, text string, how byte) {
		mail := m.make(t, head, text, how)
		got := openTwice(t, []byte(mail), o)
		signed := how&(howSigned|howOpen) != 0 || how&howDetached != 0 && how&howInline == 0
		if !signed && got.Verdict.Signature.Good() {
			t.Fatalf("called %s, which nobody signed\n%s", got.Verdict.Signature, mail)
		}
		if got.Rendering == nil {
			if got.Verdict.Signature.Good() && how&howOpen != 0 {
				checkOpenLetter(t, mail, text, how)
			}
			return
		}
		defer got.Rendering.Close()
		shown := string(all(t, got.Rendering))
		checkRendering(t, []byte(shown))
		shownHead, body, _ := strings.Cut(shown, "\r\n\r\n")
		if !strings.Contains(text, "legacy") && how&(howDetached|howInline) != howDetached && !endsAs(halved(text, how), body) {
			t.Fatalf("shown is\n%q\nof\n%q", body, text)
		}
		checkOneHeader(t, shownHead, got.Verdict.Signature.Good())
	})
}

// openTwice opens a mail, and demands that it is the same again.
func openTwice(t testing.TB, mail []byte, o pgp.Opening) *pgp.Opened {
	t.Helper()
	got, err := pgp.Open(context.Background(), message.Bytes(mail), o)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	again, err := pgp.Open(context.Background(), message.Bytes(mail), o)
	if err != nil {
		t.Fatalf("Open again: %v", err)
	}
	if summary(got) != summary(again) || (got.Rendering == nil) != (again.Rendering == nil) {
		t.Fatalf("it is %s, and then %s", summary(got), summary(again))
	}
	if again.Rendering != nil {
		defer again.Rendering.Close()
		if !bytes.Equal(all(t, got.Rendering), all(t, again.Rendering)) {
			t.Fatal("it is shown otherwise the second time")
		}
	}
	return got
}

// endsAs tells whether body is the end of text, but for line ends and NUL.
func endsAs(text, body string) bool {
	plain := func(s string) string {
		return strings.NewReplacer("\r\n", "\n", "\x00", "\x80").Replace(s)
	}
	return strings.HasSuffix(plain(text), plain(body)) || strings.HasSuffix(text, body)
}

var fieldLine = regexp.MustCompile(`^([!-9;-~]+:|[ \t]+[^ \t])`)

// checkOneHeader demands that a header is one for every reader, and from Alice alone
// where it is called so.
func checkOneHeader(t testing.TB, head string, good bool) {
	t.Helper()
	var from []string
	field := ""
	for line := range strings.SplitSeq(head, "\r\n") {
		if !fieldLine.MatchString(line) {
			t.Fatalf("some see no field in %q of\n%s", line, head)
		}
		if line[0] != ' ' && line[0] != '\t' {
			name, value, _ := strings.Cut(line, ":")
			if field = strings.ToLower(name); field == "from" {
				from = append(from, value)
			}
		} else if field == "from" {
			from[len(from)-1] += line
		}
	}
	if !good {
		return
	}
	if len(from) != 1 {
		t.Fatalf("called valid, but of %d From fields\n%s", len(from), head)
	}
	list, err := netmail.ParseAddressList(from[0])
	if err == nil && (len(list) != 1 || !strings.EqualFold(list[0].Address, "alice@example.org")) {
		t.Fatalf("called valid, but from %v\n%s", list, head)
	}
}

// checkOpenLetter looks at a mail that is signed, not encrypted, and called so.
func checkOpenLetter(t testing.TB, mail, text string, how byte) {
	t.Helper()
	head := strings.ReplaceAll(string(message.ParseHeader([]byte(mail)).Raw), "\r\n", "\n")
	checkOneHeader(t, strings.ReplaceAll(strings.TrimRight(head, "\n"), "\n", "\r\n"), true)
	if how&howInline == 0 {
		checkSignedAlone(t, mail, halved(text, how))
	}
}

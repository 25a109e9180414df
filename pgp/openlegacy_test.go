package pgp_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"letterlock.org/letterlock/pgp"
)

// TestLegacyDisplay: what a text says again of its protected header is left out,
// and nothing else ever is.
func TestLegacyDisplay(t *testing.T) {
	t.Parallel()
	c := newCouple(t)
	const fields = "From: Alice <alice@example.org>\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nMessage-ID: <1@example.org>\r\nHP-Outer: Subject: [...]\r\n"
	const marked = "Content-Type: text/plain; charset=utf-8; hp=\"cipher\"; hp-legacy-display=\"1\"\r\n"
	tests := []struct{ name, typ, body, want string }{
		{"a repeated subject goes", marked, "Subject: Grüße\r\n\r\nHello\r\n", "Hello\r\n"},
		{"in quoted-printable too", marked + "Content-Transfer-Encoding: quoted-printable\r\n", "Subject: Gr=C3=BC=C3=9Fe\r\n\r\nHello\r\n", "Hello\r\n"},
		{"another subject stays", marked, "Subject: Pay now\r\n\r\nHello\r\n", "Subject: Pay now\r\n\r\nHello\r\n"},
		{"a line that is no field stays", marked, "Subject: Grüße\r\nDear Bob\r\n\r\nHello\r\n", "Subject: Grüße\r\nDear Bob\r\n\r\nHello\r\n"},
		{"without its end it stays", marked, "Subject: Grüße\r\n", "Subject: Grüße\r\n"},
		{"a field that isn't protected stays", marked, "Keywords: x\r\n\r\nHello\r\n", "Keywords: x\r\n\r\nHello\r\n"},
		{"unmarked text stays", "Content-Type: text/plain; charset=utf-8; hp=\"cipher\"\r\n", "Subject: Grüße\r\n\r\nHello\r\n", "Subject: Grüße\r\n\r\nHello\r\n"},
		{"of base64 nothing is cut", marked + "Content-Transfer-Encoding: base64\r\n", "U3ViamVjdDogR3LDvMOfZQ0KDQpI\r\n", "U3ViamVjdDogR3LDvMOfZQ0KDQpI\r\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := openBytes(t, []byte(mime(outside, written(t, fields+tt.typ+"\r\n"+tt.body, c.alice, nil, c.bob))), c.opening())
			head, body, _ := strings.Cut(string(all(t, o.Rendering)), "\r\n\r\n")
			if body != tt.want {
				t.Errorf("body %q, want %q", body, tt.want)
			}
			if cut := tt.body != tt.want; cut == strings.Contains(head, "hp-legacy-display=\"1\"") && strings.Contains(tt.typ, "legacy") {
				t.Errorf("cut %v, and the mark says the contrary:\n%s", cut, head)
			}
		})
	}
}

func TestLegacyDisplayInParts(t *testing.T) {
	t.Parallel()
	c := newCouple(t)
	const plain = "Content-Type: text/plain; hp-legacy-display=1\r\n\r\nSubject: Dinner\r\n\r\n"
	inner := "From: Alice <alice@example.org>\r\nSubject: Dinner\r\nHP-Outer: Subject: [...]\r\nContent-Type: multipart/mixed; hp=cipher; boundary=m\r\n\r\n" +
		"--m\r\nContent-Type: multipart/alternative; boundary=a\r\n\r\n--a\r\n" + plain + "Hello\r\n--a\r\nContent-Type: text/html\r\n\r\n<p>Hello\r\n--a--\r\n" +
		"--m\r\n" + plain + "An attached text\r\n--m--\r\n"
	o := openBytes(t, []byte(mime(outside, written(t, inner, c.alice, nil, c.bob))), c.opening())
	got := string(all(t, o.Rendering))
	unmarked := strings.Replace(plain, "display=1", "display=0", 1)
	if !strings.Contains(got, strings.TrimSuffix(unmarked, "Subject: Dinner\r\n\r\n")+"Hello\r\n") || !strings.Contains(got, plain+"An attached text\r\n") {
		t.Errorf("rendering:\n%s", got)
	}
}

func TestCorpusLegacyDisplay(t *testing.T) {
	t.Parallel()
	dir := corpus(t)
	raw, err := os.ReadFile(filepath.Join(dir, "chatmail/message/hp_legacy_display.eml"))
	must(t, err)
	o := openBytes(t, raw, readRing(t, dir, "chatmail").opening())
	if _, body, _ := strings.Cut(string(all(t, o.Rendering)), "\r\n\r\n"); strings.TrimSpace(body) != "Let's eat" {
		t.Errorf("body %q", body)
	}
}

// TestWrappedMessage: header protection as RFC 8551 has it is read where it is
// the same message, and a forwarded letter is never taken for it.
func TestWrappedMessage(t *testing.T) {
	t.Parallel()
	c := newCouple(t)
	inner := func(head string) string {
		return "Content-Type: message/rfc822\r\n\r\n" + head + "Subject: inside\r\nContent-Type: text/plain\r\n\r\nHello\r\n"
	}
	tests := []struct {
		name, payload string
		same          bool
	}{
		{"the same message", inner("From: alice@example.org\r\nMessage-ID: <1@example.org>\r\n"), true},
		{"another sender", inner("From: carol@example.org\r\nMessage-ID: <1@example.org>\r\n"), false},
		{"two senders", inner("From: alice@example.org\r\nFrom: carol@example.org\r\nMessage-ID: <1@example.org>\r\n"), false},
		{"another identifier", inner("From: alice@example.org\r\nMessage-ID: <2@example.org>\r\n"), false},
		{"no identifier", inner("From: alice@example.org\r\n"), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := openBytes(t, []byte(mime(outside, written(t, tt.payload, c.alice, nil, c.bob))), c.opening())
			root := parseMail(t, string(all(t, o.Rendering)))
			if got := root.Header.Get("Subject") == "inside" && root.Is("text/plain"); got != tt.same {
				t.Errorf("subject %q, type %s/%s", root.Header.Get("Subject"), root.Type, root.Subtype)
			}
			if o.Verdict.Signature != pgp.SignatureValid {
				t.Errorf("verdict %+v", o.Verdict)
			}
		})
	}
}

// TestLegacyDisplayIsReadOnce: a letter may have thousands of fields, and thousands of
// lines that repeat them.
func TestLegacyDisplayIsReadOnce(t *testing.T) {
	c := newCouple(t)
	const field = "a: x\r\n"
	inner := "Content-Type: multipart/alternative; boundary=q; hp=\"cipher\"\r\n" + strings.Repeat("a: =?utf-8?q?a?= b c d e f\r\n", 1900) + field + "\r\n"
	for _, lines := range []int{1300, 40} {
		inner += strings.Repeat("--q\r\nContent-Type: text/plain; hp-legacy-display=1\r\n\r\n"+strings.Repeat(field, lines)+"\r\nHello\r\n", 3)
	}
	mail := []byte(mime(outside, written(t, inner+"--q--\r\n", nil, nil, c.bob)))
	var got *pgp.Opened
	if n, most := allocated(func() { got = openBytes(t, mail, c.opening()) }), uint64(32<<20); n > most {
		t.Errorf("a mail of %d bytes took %d, more than %d", len(mail), n, most)
	}
	if text := string(all(t, got.Rendering)); strings.Count(text, "display=0\r\n\r\nHello") != 3 || strings.Count(text, "display=1\r\n\r\na: x") != 3 {
		t.Error("of elements with some fields and with too many, others were left out")
	}
}

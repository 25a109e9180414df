package pgp_test

import (
	"context"
	netmail "net/mail"
	"strings"
	"testing"

	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/pgp"
)

// FuzzAround puts anything around a good armor block: what is shown as decrypted is
// its text and nothing else, and Alice is named only where the mail is from her alone.
func FuzzAround(f *testing.F) {
	c := newCouple(f)
	armored := pgpMessage(written(f, payload, c.alice, nil, c.bob)) // every process has keys of its own
	const control = "--bb\r\nContent-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n\r\n--bb\r\nContent-Type: application/octet-stream\r\n\r\n"
	const boxed = "MIME-Version: 1.0\r\nContent-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\"; boundary=bb\r\n\r\n" + control
	f.Add(outside+boxed, "\r\n--bb--\r\n")
	f.Add(outside+boxed, "\r\n--bb--\r\nfooter\r\n")
	f.Add(outside+"\r\n", "")
	f.Add(outside+"Content-Type: text/plain\r\n\r\n \r\n", "\r\n\r\n")
	f.Add(outside+"Content-Type: multipart/mixed; boundary=cc\r\n\r\n--cc\r\n"+boxed, "\r\n--bb--\r\n--cc\r\n\r\nmore\r\n--cc--\r\n")
	f.Add("From: =?utf-8?q?alice=40example=2Eorg?= <mallory@example.net>\r\nFrom: x\r\n"+boxed, "\r\n--bb--\r\n")
	f.Add("Letterlock-Status : encrypted\r\nletterlock-x: y\r\n"+outside+boxed, "\r\n--bb--")
	o := c.opening()
	f.Fuzz(func(t *testing.T, before, after string) {
		got, err := pgp.Open(context.Background(), message.Bytes([]byte(before+armored+after)), o)
		if err != nil {
			t.Fatalf("Open: %v", err)
		}
		if got.Rendering == nil {
			return
		}
		defer got.Rendering.Close()
		text := string(all(t, got.Rendering))
		checkRendering(t, []byte(text))
		head, body, _ := strings.Cut(text, "\r\n\r\n")
		if body != "CANARY, the text\r\n" && !strings.HasSuffix(body, payload) { // inline, the header is text
			t.Fatalf("shown is %q", text)
		}
		if n := strings.Count("\n"+strings.ToLower(head), "\nletterlock-"); n != 1 {
			t.Fatalf("%d fields of ours in\n%s", n, head)
		}
		if got.Verdict.Signature.Good() {
			checkFrom(t, head)
		}
	})
}

// checkFrom demands that the standard library finds Alice, and nobody else, in From.
func checkFrom(t *testing.T, head string) {
	t.Helper()
	m, err := netmail.ReadMessage(strings.NewReader(head + "\r\n\r\n"))
	if err != nil {
		t.Fatalf("called valid, but: %v\n%s", err, head)
	}
	if n := len(m.Header["From"]); n != 1 {
		t.Fatalf("called valid, but of %d From fields\n%s", n, head)
	}
	list, err := m.Header.AddressList("From")
	if err != nil || len(list) != 1 || !strings.EqualFold(list[0].Address, "alice@example.org") {
		t.Fatalf("called valid, but from %v (%v)\n%s", list, err, head)
	}
}

// TestNothingShownHasNUL: a literal of IMAP cannot hold one (RFC 3501, Section 9).
func TestNothingShownHasNUL(t *testing.T) {
	t.Parallel()
	c := newCouple(t)
	long := strings.Repeat("a\x00b\r\n", 20_000)
	tests := []struct{ name, mail, want string }{
		{"inline", outside + "\r\n" + pgpMessage(written(t, "C\x00A\x00\n\x00", c.alice, nil, c.bob)), "C\x80A\x80\r\n\x80"},
		{"in a part", mime(outside, written(t, "Content-Type: text/plain; charset=utf-16\r\n\r\n"+long, c.alice, nil, c.bob)), strings.ReplaceAll(long, "\x00", "\x80")},
		{"but data stay as they are", mime(outside, written(t, "Content-Type: application/x\r\nContent-Transfer-Encoding: binary\r\n\r\na\x00\n", c.alice, nil, c.bob)), "a\x00\n"},
	}
	for _, tt := range tests {
		got := openBytes(t, []byte(tt.mail), c.opening())
		if summary(got) != "encrypted valid" {
			t.Fatalf("%s: got %q (%s)", tt.name, summary(got), got.Reason)
		}
		if _, body, _ := strings.Cut(string(all(t, got.Rendering)), "\r\n\r\n"); body != tt.want {
			t.Errorf("%s: got %.100q, want %.100q", tt.name, body, tt.want)
		}
	}
}

package pgp_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/pgp"
)

// TestSignedLetter: what is only signed stands in clear, is safe on its way, and
// the signature is over the part as it lies there.
func TestSignedLetter(t *testing.T) {
	t.Parallel()
	alice := makeKey(t, "alice@example.org")
	out := protect(t, crlf(letter), pgp.Protection{Signer: alice, Autocrypt: alice.Certificate()})
	root := parseMail(t, out)
	if !root.Is("multipart/signed") || len(root.Children) != 2 || root.Params["micalg"] != "pgp-sha256" ||
		root.Params["protocol"] != "application/pgp-signature" {
		t.Fatalf("root is %s/%s %v", root.Type, root.Subtype, root.Params)
	}
	part := root.Children[0]
	signed := out[part.Start:part.End]
	ring, err := openpgp.ReadKeyRing(bytes.NewReader(alice.Certificate().Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	sig := mustDearmor(t, out[root.Children[1].Body:root.Children[1].End])
	if _, _, err := openpgp.VerifyDetachedSignature(ring, strings.NewReader(signed), bytes.NewReader(sig), &packet.Config{}); err != nil {
		t.Errorf("signature: %v", err)
	}
	if root.Header.Get("Subject") != part.Header.Get("Subject") || root.Header.Get("Subject") == "[...]" {
		t.Errorf("subject is %q outside, %q inside", root.Header.Get("Subject"), part.Header.Get("Subject"))
	}
	if part.Params["hp"] != "clear" || part.Header.Has("HP-Outer") {
		t.Errorf("payload is marked %q, HP-Outer %v", part.Params["hp"], part.Header.Has("HP-Outer"))
	}
	for _, word := range []string{"bcc-canary", "mozilla-canary", "agent-canary", "forged-canary"} {
		if strings.Contains(out, word) {
			t.Errorf("%q is in it", word)
		}
	}
	for line := range strings.SplitSeq(signed, "\r\n") {
		if strings.HasSuffix(line, " ") || strings.HasPrefix(line, "From ") || len(line) > 998 ||
			strings.ContainsFunc(line, func(r rune) bool { return r > 126 || r == '\r' || r == '\n' || r == 0 }) {
			t.Errorf("line is not safe to sign: %q", line)
		}
	}
}

// failing writes n bytes and then fails.
type failing int

var errFull = errors.New("full")

func (f *failing) Write(p []byte) (int, error) {
	if *f -= failing(len(p)); *f < 0 {
		return 0, errFull
	}
	return len(p), nil
}

// TestWriterFails: an error of the writer comes back at every point, from every
// way of writing.
func TestWriterFails(t *testing.T) {
	t.Parallel()
	alice := makeKey(t, "alice@example.org")
	mail := message.Bytes(attachmentMail(200 << 10))
	for _, n := range []failing{0, 40 << 10, 100 << 10, 200 << 10, 250 << 10} {
		p := pgp.Protection{Signer: alice, Now: testNow, Spool: message.SpoolOptions{Dir: t.TempDir()}}
		w := n
		if err := pgp.Protect(context.Background(), &w, mail, p); n < 200<<10 && !errors.Is(err, errFull) {
			t.Errorf("signing to a writer of %d bytes: %v", n, err)
		}
		p.Recipients = []*pgp.Certificate{alice.Certificate()}
		w = n
		if err := pgp.Protect(context.Background(), &w, mail, p); !errors.Is(err, errFull) {
			t.Errorf("encrypting to a writer of %d bytes: %v", n, err)
		}
		w = n
		if err := pgp.Seal(context.Background(), &w, mail, pgp.Sealing{Signer: alice, Storage: alice.Certificate(), Now: testNow}); !errors.Is(err, errFull) {
			t.Errorf("sealing to a writer of %d bytes: %v", n, err)
		}
	}
	p := pgp.Protection{Signer: alice, Now: testNow, Spool: message.SpoolOptions{Limit: 1000}}
	if err := pgp.Protect(context.Background(), io.Discard, mail, p); !errors.Is(err, message.ErrTooLarge) {
		t.Errorf("signing with a small spool: %v", err)
	}
}

package pgp_test

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/pgp"
)

// attachmentMail is a message with a base64 part, of about size bytes.
func attachmentMail(size int) []byte {
	line := strings.Repeat("QUJDREVG", 9) + "QUJD\r\n"
	return []byte(crlf("From: Alice <alice@example.org>\nTo: Bob <bob@example.net>\nSubject: figures\n"+
		"Date: Mon, 01 Jun 2026 10:00:00 +0200\nMessage-ID: <one@example.org>\nMIME-Version: 1.0\n"+
		"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/plain; charset=us-ascii\n\nHello\n"+
		"--b\nContent-Type: application/pdf\nContent-Transfer-Encoding: base64\n\n") +
		strings.Repeat(line, size/len(line)) + "--b--\r\n")
}

func benchProtect(b *testing.B, size int) {
	alice, bob := makeKey(b, "alice@example.org"), makeKey(b, "bob@example.net")
	mail := attachmentMail(size)
	p := pgp.Protection{Signer: alice, Recipients: []*pgp.Certificate{bob.Certificate()},
		Autocrypt: alice.Certificate(), From: addr(b, "alice@example.org"), Now: testNow}
	b.SetBytes(int64(len(mail)))
	b.ReportAllocs()
	for b.Loop() {
		if err := pgp.Protect(context.Background(), io.Discard, message.Bytes(mail), p); err != nil {
			b.Fatal(err)
		}
	}
}

// benchEngine is the bare engine on the same bytes, armored by it.
func benchEngine(b *testing.B, size int) {
	alice, bob := makeKey(b, "alice@example.org"), makeKey(b, "bob@example.net")
	mail := attachmentMail(size)
	from, _ := openpgp.ReadKeyRing(bytes.NewReader(alice.Marshal()))
	to, _ := openpgp.ReadKeyRing(bytes.NewReader(bob.Certificate().Bytes()))
	b.SetBytes(int64(len(mail)))
	b.ReportAllocs()
	for b.Loop() {
		a, _ := armor.Encode(io.Discard, "PGP MESSAGE", nil)
		w, err := openpgp.EncryptWithParams(a, to, nil, &openpgp.EncryptParams{Signers: from,
			Config: &packet.Config{DefaultCipher: packet.CipherAES256}})
		if err != nil {
			b.Fatal(err)
		}
		_, _ = w.Write(mail)
		_ = w.Close()
		_ = a.Close()
	}
}

func BenchmarkProtect10K(b *testing.B)  { benchProtect(b, 10<<10) }
func BenchmarkEngine10K(b *testing.B)   { benchEngine(b, 10<<10) }
func BenchmarkProtect10MB(b *testing.B) { benchProtect(b, 10<<20) }
func BenchmarkEngine10MB(b *testing.B)  { benchEngine(b, 10<<20) }

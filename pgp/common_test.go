package pgp_test

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/pgp"
)

// testNow is the time of the tests' keys and messages; peers judge by the real
// clock, so that it lies a little before.
var testNow = time.Now().Add(-time.Hour).Truncate(time.Second)

func makeKey(t testing.TB, s string) *pgp.Key {
	t.Helper()
	k, err := pgp.GenerateKey(addr(t, s), pgp.DefaultProfile, testNow)
	if err != nil {
		t.Fatalf("GenerateKey: %v", err)
	}
	return k
}

// crlf makes a literal of the tests mail.
func crlf(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }

func protect(t testing.TB, mail string, p pgp.Protection) string {
	t.Helper()
	if p.Now.IsZero() {
		p.Now = testNow
	}
	var out bytes.Buffer
	if err := pgp.Protect(context.Background(), &out, message.Bytes([]byte(mail)), p); err != nil {
		t.Fatalf("Protect: %v", err)
	}
	return out.String()
}

// decrypted opens the armored message in mail with the engine itself, demands a
// valid signature by signer and gives the content and the signature.
func decrypted(t testing.TB, mail string, signer, reader *pgp.Key) (string, *packet.Signature) {
	t.Helper()
	i := strings.Index(mail, "-----BEGIN PGP MESSAGE-----")
	if i < 0 {
		t.Fatalf("no armor in:\n%s", mail)
	}
	block, err := armor.Decode(strings.NewReader(mail[i:]))
	if err != nil {
		t.Fatalf("armor: %v", err)
	}
	ring, err := openpgp.ReadKeyRing(bytes.NewReader(reader.Marshal()))
	if err != nil {
		t.Fatalf("ReadKeyRing: %v", err)
	}
	sender, err := openpgp.ReadKeyRing(bytes.NewReader(signer.Certificate().Bytes()))
	if err != nil {
		t.Fatalf("ReadKeyRing: %v", err)
	}
	config := &packet.Config{KnownNotations: map[string]bool{"sealed@letterlock.org": true}}
	md, err := openpgp.ReadMessage(block.Body, append(ring, sender...), nil, config)
	if err != nil {
		t.Fatalf("ReadMessage: %v", err)
	}
	content, err := io.ReadAll(md.UnverifiedBody)
	if err != nil {
		t.Fatalf("reading the message: %v", err)
	}
	if !md.IsEncrypted || !md.IsVerified || md.SignatureError != nil || md.Signature == nil {
		t.Fatalf("encrypted %v, verified %v, signature error %v", md.IsEncrypted, md.IsVerified, md.SignatureError)
	}
	return string(content), md.Signature
}

func parseMail(t testing.TB, mail string) *message.Part {
	t.Helper()
	root, err := message.Parse(message.Bytes([]byte(mail)), message.Limits{})
	if err != nil {
		t.Fatalf("message.Parse: %v", err)
	}
	return root
}

func mustDearmor(t testing.TB, s string) []byte {
	t.Helper()
	block, err := armor.Decode(strings.NewReader(s))
	if err != nil {
		t.Fatalf("armor: %v", err)
	}
	b, err := io.ReadAll(block.Body)
	if err != nil {
		t.Fatalf("armor: %v", err)
	}
	return b
}

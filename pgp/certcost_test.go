package pgp_test

import (
	"bytes"
	"crypto/rsa"
	"encoding/binary"
	"math/big"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"letterlock.org/letterlock/pgp"
)

// rsaKey is a public key of that many bits, to which nobody has the secret one.
func rsaKey(bits uint, e int) *packet.PublicKey {
	n := new(big.Int).Lsh(big.NewInt(1), bits)
	return packet.NewRSAPublicKey(testNow.Add(-time.Hour), &rsa.PublicKey{N: n.Sub(n, big.NewInt(12345)), E: e})
}

// signedBy is a certificate with n signatures that say they are its own. Of each
// two bytes stand where the signature should: the engine fills them up.
func signedBy(key *packet.PublicKey, n int) []byte {
	var b bytes.Buffer
	key.Serialize(&b)
	packet.NewUserId("", "", "alice@example.org").Serialize(&b)
	for i := range n {
		s := []byte{4, byte(packet.SigTypePositiveCert), byte(packet.PubKeyAlgoRSA), 8, 0, 6, 5, 2}
		s = binary.BigEndian.AppendUint32(s, uint32(testNow.Add(-time.Hour).Unix()))
		s = binary.BigEndian.AppendUint64(append(s, 0, 10, 9, 16), key.KeyId)
		s = append(s, 1, 2, 0, 16, 0x80|byte(i>>8), byte(i))
		(&packet.OpaquePacket{Tag: 2, Contents: s}).Serialize(&b)
	}
	return b.Bytes()
}

// A certificate of 6 kB cost eight seconds: sixty signatures of two bytes, by an RSA
// key of 32000 bits.
func TestLongRSAKeysAreBounded(t *testing.T) {
	for _, tt := range []struct {
		name   string
		key    *packet.PublicKey
		checks int
	}{
		{"2048 bits", rsaKey(2048, 65537), 500},
		{"4096 bits", rsaKey(4096, 65537), 500},
		{"a little more", rsaKey(4104, 65537), 125},
		{"a large exponent", rsaKey(4096, 0xffffff), 250},
		{"the longest", rsaKey(16384, 65537), 31},
		{"the longest, with a large exponent", rsaKey(16384, 0xffffff), 15},
	} {
		if got := pgp.Checks(tt.key); got != tt.checks {
			t.Errorf("%s: %d signatures are verified, want %d", tt.name, got, tt.checks)
		}
		if _, err := pgp.ParseCertificates(signedBy(tt.key, 1)); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	if _, err := pgp.ParseCertificates(signedBy(rsaKey(16392, 65537), 1)); err == nil {
		t.Error("a longer key is read")
	}
}

// BenchmarkSlowestCertificate is what a certificate may cost.
func BenchmarkSlowestCertificate(b *testing.B) {
	text := signedBy(rsaKey(16384, 0xffffff), 500)
	for b.Loop() {
		certs, err := pgp.ParseCertificates(text)
		if err != nil {
			b.Fatal(err)
		}
		if certs[0].CheckEncrypt(testNow) == nil {
			b.Fatal("forged signatures count")
		}
	}
}

package pgp_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/pgp"
)

// used tells how an armored message is encrypted, by its own packets.
func used(t testing.TB, mail string, reader *pgp.Key) (aes256, aead bool) {
	t.Helper()
	ring, err := openpgp.ReadKeyRing(bytes.NewReader(reader.Marshal()))
	if err != nil {
		t.Fatal(err)
	}
	for p := range packetsOf(t, mustDearmor(t, mail)) {
		switch {
		case p.Tag == 18 && p.Contents[0] == 2: // its second byte is the cipher
			return p.Contents[1] == 9, true
		case p.Tag == 1:
			var raw bytes.Buffer
			if err := p.Serialize(&raw); err != nil {
				t.Fatal(err)
			}
			one, err := packet.Read(&raw)
			if err != nil {
				t.Fatal(err)
			}
			e := one.(*packet.EncryptedKey)
			for _, k := range ring[0].Subkeys {
				if e.Version == 3 && e.KeyId == k.PublicKey.KeyId && e.Decrypt(k.PrivateKey, nil) == nil {
					aes256 = e.CipherFunc == packet.CipherAES256
				}
			}
		}
	}
	return aes256, false
}

// TestStrengthIsWhatProtectUses: for every two certificates, what is foretold of a
// message to both is what the message says of itself.
func TestStrengthIsWhatProtectUses(t *testing.T) {
	t.Parallel()
	alice := makeKey(t, "alice@example.org")
	of := func(v6 bool, cipher packet.CipherFunction, suites ...packet.AEADMode) *pgp.Key {
		c := &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA, DefaultCipher: cipher, Time: at(testNow).Time}
		if v6 {
			c.Algorithm, c.V6Keys = packet.PubKeyAlgoEd25519, true
		}
		for _, mode := range suites {
			c.AEADConfig = &packet.AEADConfig{DefaultMode: mode}
		}
		return keyOf(t, "bob@example.net", c)
	}
	rsa := func(bits int) *pgp.Key {
		return keyOf(t, "bob@example.net", &packet.Config{Algorithm: packet.PubKeyAlgoRSA, RSABits: bits, DefaultCipher: packet.CipherAES256, Time: at(testNow).Time})
	}
	keys := []struct {
		name string
		key  *pgp.Key
		want pgp.Strength
	}{
		{"our own profile", makeKey(t, "carol@example.net"), pgp.Strength{AES256: true}},
		{"AES-256 without AEAD", of(false, packet.CipherAES256), pgp.Strength{AES256: true}},
		{"AES-128 only", of(false, packet.CipherAES128), pgp.Strength{}},
		{"v6, AES-256 with OCB", of(true, packet.CipherAES256, packet.AEADModeOCB), pgp.Strength{AES256: true, AEAD: true}},
		{"v6, AES-256 with GCM", of(true, packet.CipherAES256, packet.AEADModeGCM), pgp.Strength{AES256: true, AEAD: true}},
		{"v6, AES-128 with EAX", of(true, packet.CipherAES128, packet.AEADModeEAX), pgp.Strength{AEAD: true}},
		{"v4 with SEIPDv2", of(false, packet.CipherAES256, packet.AEADModeGCM), pgp.Strength{AES256: true, AEAD: true}},
		{"RSA 2048", rsa(2048), pgp.Strength{Bits: 2048, AES256: true}},
		{"RSA 3072", rsa(3072), pgp.Strength{Bits: 3072, AES256: true}},
	}
	seen := map[string]bool{}
	for _, one := range keys {
		if got, err := pgp.StrengthOf(testNow, one.key.Certificate()); err != nil || got != one.want {
			t.Errorf("%s: %+v, %v, want %+v", one.name, got, err, one.want)
		}
		for _, two := range keys {
			both := []*pgp.Certificate{one.key.Certificate(), two.key.Certificate()}
			s, err := pgp.StrengthOf(testNow, both...)
			if err != nil {
				t.Fatal(err)
			}
			out := protect(t, crlf(letter), pgp.Protection{Signer: alice, Recipients: both})
			i := bytes.Index([]byte(out), []byte("-----BEGIN PGP MESSAGE-----"))
			aes, aead := used(t, out[i:], one.key)
			if aes != s.AES256 || aead != s.AEAD {
				t.Errorf("%s and %s: foretold %+v, and it is AES-256 %v, AEAD %v", one.name, two.name, s, aes, aead)
			}
			seen[fmt.Sprint(aes, aead)] = true
		}
	}
	if len(seen) != 4 {
		t.Errorf("the pairs show %v only", seen)
	}
}

// TestProtectHoldsToItsBound: a message that can't be as strong as was asked isn't
// made at all.
func TestProtectHoldsToItsBound(t *testing.T) {
	t.Parallel()
	alice, plain := makeKey(t, "alice@example.org"), makeKey(t, "carol@example.net")
	six := keyV6(t, "bob@example.net")
	for _, tt := range []struct {
		name  string
		to    []*pgp.Key
		least pgp.Strength
		goes  bool
	}{
		{"AES-256 for all", []*pgp.Key{plain, plain}, pgp.Strength{AES256: true}, true},
		{"AEAD for who has it", []*pgp.Key{six}, pgp.Strength{AEAD: true}, true},
		{"AEAD for one of two", []*pgp.Key{six, plain}, pgp.Strength{AEAD: true}, false},
		{"bits where there are none to count", []*pgp.Key{plain}, pgp.Strength{Bits: 4096}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var certs []*pgp.Certificate
			for _, k := range tt.to {
				certs = append(certs, k.Certificate())
			}
			var out bytes.Buffer
			err := pgp.Protect(context.Background(), &out, message.Bytes([]byte(crlf(letter))), pgp.Protection{Signer: alice, Recipients: certs, Least: tt.least, Now: testNow})
			if (err == nil) != tt.goes || err != nil && (out.Len() > 0 || !errors.Is(err, pgp.ErrWeak)) {
				t.Errorf("%v, %d bytes", err, out.Len())
			}
		})
	}
}

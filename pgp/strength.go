package pgp

import (
	"fmt"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// Strength is what protects a message for certificates: the weakest of them
// decides. As a bound, it is the least that is asked for; its zero value asks for
// nothing beyond what holds of every certificate that can be encrypted to.
type Strength struct {
	// Bits is the length of the shortest key that counts bits, RSA, DSA or
	// ElGamal, among the primary keys and those that are encrypted to; 0 where all
	// are curves. As a bound, what such keys must have.
	Bits int
	// AES256: the message is encrypted with AES-256, not with AES-128.
	AES256 bool
	// AEAD: it is one packet of authenticated encryption, SEIPDv2 (RFC 9580,
	// Section 5.13.2), and not SEIPDv1 with its hash.
	AEAD bool
}

// Reaches tells whether s is as strong as a bound. One bit less is as good: some
// programs make RSA keys whose first bit is 0.
func (s Strength) Reaches(least Strength) bool {
	return (s.Bits == 0 || s.Bits+1 >= least.Bits) && (s.AES256 || !least.AES256) && (s.AEAD || !least.AEAD)
}

// Both is what reaches either of two bounds.
func (s Strength) Both(o Strength) Strength {
	return Strength{max(s.Bits, o.Bits), s.AES256 || o.AES256, s.AEAD || o.AEAD}
}

// StrengthOf tells how a message to all of these certificates together would be
// protected: what Protect uses is what they have in common, and less than each may
// have alone. The errors are those of [Certificate.CheckEncrypt].
func StrengthOf(now time.Time, certs ...*Certificate) (s Strength, err error) {
	defer caught(&err)
	_, keys, err := encryption{recipients: certs, now: now}.keys()
	if err != nil {
		return s, err
	}
	// As the engine chooses: AEAD where all have it, then what all list; where they
	// list nothing in common, AES-128, which needs no listing (RFC 9580, Section 9.3).
	ciphers := []uint8{uint8(packet.CipherAES256)}
	suites := [][2]uint8{{9, 3}, {9, 1}, {9, 2}} // AES-256 (Section 9.3) with each mode (Section 9.6)
	s.AEAD = true
	for _, k := range keys {
		self, err := k.Entity.PrimarySelfSignature(now, strictConfig(now))
		if err != nil {
			return Strength{}, fmt.Errorf("reading preferences: %w", err)
		}
		s.AEAD = s.AEAD && self.SEIPDv2
		ciphers, suites = common(ciphers, self.PreferredSymmetric), common(suites, self.PreferredCipherSuites)
		for _, p := range []*packet.PublicKey{k.Entity.PrimaryKey, k.PublicKey} {
			if n := countedBits(p); n > 0 && (s.Bits == 0 || n < s.Bits) {
				s.Bits = n
			}
		}
	}
	if s.AES256 = len(ciphers) > 0; s.AEAD {
		s.AES256 = len(suites) > 0
	}
	return s, nil
}

func common[T comparable](a, b []T) (both []T) {
	for _, x := range a {
		for _, y := range b {
			if x == y {
				both = append(both, x)
				break
			}
		}
	}
	return both
}

// countedBits is the length of a key whose strength follows it; 0 of a curve.
func countedBits(k *packet.PublicKey) int {
	switch k.PubKeyAlgo {
	case packet.PubKeyAlgoRSA, packet.PubKeyAlgoRSASignOnly, packet.PubKeyAlgoRSAEncryptOnly, packet.PubKeyAlgoDSA, packet.PubKeyAlgoElGamal:
		n, err := k.BitLength()
		if err != nil || n == 0 {
			return 1 // of a length that nobody knows
		}
		return int(n)
	}
	return 0
}

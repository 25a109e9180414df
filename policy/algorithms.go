package policy

import (
	"cmp"
	"fmt"
	"slices"

	"letterlock.org/letterlock/pgp"
)

// Cipher is what a message is encrypted with.
type Cipher string

const (
	// AES128 is enough. AES-256 is used all the same wherever all who share a copy
	// can take it.
	AES128 Cipher = "aes128"
	AES256 Cipher = "aes256"
)

// AEAD is what becomes of authenticated encryption, SEIPDv2 (RFC 9580, Section
// 5.13.2), which few certificates offer yet.
type AEAD string

const (
	// AEADOffered uses it where all who share a copy offer it.
	AEADOffered AEAD = "offered"
	AEADRequire AEAD = "require"
)

var (
	byCipher = []Cipher{AES128, AES256}
	byAEAD   = []AEAD{AEADOffered, AEADRequire}
)

// minRSA are the bounds of Settings.MinRSA.
const (
	leastRSA = 2048 // of every certificate that can be encrypted to
	mostRSA  = 16384
)

// algorithms checks what is said of them.
func (k *checker) algorithms(prefix string, s Settings) {
	oneOf(k, prefix+"min_cipher", s.MinCipher, "", byCipher...)
	oneOf(k, prefix+"aead", s.AEAD, "", byAEAD...)
	if s.MinRSA != 0 && (s.MinRSA < leastRSA || s.MinRSA > mostRSA) {
		k.add(prefix+"min_rsa", "%d is no length of an RSA key that could be asked for; write for example 3072", s.MinRSA)
	}
}

// least is what the settings ask of algorithms, those of base where s is silent.
func least(s, base Settings) pgp.Strength {
	return pgp.Strength{
		Bits:   cmp.Or(s.MinRSA, base.MinRSA),
		AES256: cmp.Or(s.MinCipher, base.MinCipher) == AES256,
		AEAD:   cmp.Or(s.AEAD, base.AEAD) == AEADRequire,
	}
}

// strong are the certificates that reach what the rule asks of algorithms; without
// any, why says what the first of them lacks. One of which nobody has said how
// strong it is doesn't reach anything that is asked.
func (c *choice) strong(certs []*pgp.Certificate, strengths []pgp.Strength) (out []*pgp.Certificate, why string) {
	if c.least == (pgp.Strength{}) {
		return certs, ""
	}
	for i, cert := range certs {
		s := pgp.Strength{Bits: 1}
		if i < len(strengths) {
			s = strengths[i]
		}
		if s.Reaches(c.least) {
			out = append(out, cert)
		} else if why == "" {
			why = lacks(s, c.least)
		}
	}
	return slices.Clip(out), why
}

// lacks says what a certificate needs to reach a bound that it doesn't.
func lacks(s, least pgp.Strength) string {
	switch {
	case !s.Reaches(pgp.Strength{Bits: least.Bits}):
		return fmt.Sprintf("has a key of %d bits, and min_rsa asks for %d", s.Bits, least.Bits)
	case least.AES256 && !s.AES256:
		return `takes no AES-256, and min_cipher = "aes256" asks for it`
	}
	return `takes no authenticated encryption (AEAD), and aead = "require" asks for it`
}

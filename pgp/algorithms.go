package pgp

import (
	"crypto"
	"fmt"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// strictConfig is the configuration for anything that must be safe today. It is never
// nil: the engine dereferences a nil one (reference, trap 2).
func strictConfig(now time.Time) *packet.Config {
	return &packet.Config{
		Time:                        func() time.Time { return now },
		RejectHashAlgorithms:        weakHashes,
		RejectMessageHashAlgorithms: weakHashes,
	}
}

// weakHashes are those of weakHash, for the engine, which only reads them.
var weakHashes = map[crypto.Hash]bool{crypto.SHA1: true, crypto.MD5: true, crypto.RIPEMD160: true}

// lenientConfig is the configuration that rejects nothing for being weak: to
// decrypt with old keys, and to tell weak from wrong.
func lenientConfig(now time.Time) *packet.Config {
	return &packet.Config{
		Time:                                func() time.Time { return now },
		MinRSABits:                          512,
		RejectPublicKeyAlgorithms:           map[packet.PublicKeyAlgorithm]bool{},
		RejectHashAlgorithms:                map[crypto.Hash]bool{},
		RejectMessageHashAlgorithms:         map[crypto.Hash]bool{},
		RejectCurves:                        map[packet.Curve]bool{},
		InsecureAllowAllKeyFlagsWhenMissing: true,
	}
}

// AlgorithmNumber is that of the primary key (RFC 9580, Section 9.1), and its
// length in bits, 0 where it has none to tell.
func (c *Certificate) AlgorithmNumber() (algorithm, bits int) {
	if n, err := c.key.BitLength(); err == nil {
		bits = int(n)
	}
	return int(c.key.PubKeyAlgo), bits
}

// algorithmName gives a key's algorithm in words.
func algorithmName(k *packet.PublicKey) string {
	switch k.PubKeyAlgo {
	case packet.PubKeyAlgoRSA, packet.PubKeyAlgoRSASignOnly, packet.PubKeyAlgoRSAEncryptOnly:
		return "RSA " + bits(k)
	case packet.PubKeyAlgoDSA:
		return "DSA " + bits(k)
	case packet.PubKeyAlgoElGamal:
		return "ElGamal " + bits(k)
	case packet.PubKeyAlgoECDSA:
		return "ECDSA " + curve(k)
	case packet.PubKeyAlgoECDH:
		return "ECDH " + curve(k)
	case packet.PubKeyAlgoEdDSA:
		return "EdDSA " + curve(k)
	case packet.PubKeyAlgoEd25519:
		return "Ed25519"
	case packet.PubKeyAlgoEd448:
		return "Ed448"
	case packet.PubKeyAlgoX25519:
		return "X25519"
	case packet.PubKeyAlgoX448:
		return "X448"
	case packet.PubKeyAlgoMldsa65Ed25519:
		return "ML-DSA-65 Ed25519"
	case packet.PubKeyAlgoMldsa87Ed448:
		return "ML-DSA-87 Ed448"
	}
	return fmt.Sprintf("algorithm %d", k.PubKeyAlgo)
}

func bits(k *packet.PublicKey) string {
	n, err := k.BitLength()
	if err != nil {
		return "?"
	}
	return fmt.Sprint(n)
}

func curve(k *packet.PublicKey) string {
	c, err := k.Curve()
	if err != nil {
		return "?"
	}
	return string(c)
}

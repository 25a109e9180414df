package pgp

import (
	"bytes"
	"crypto"
	"fmt"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"letterlock.org/letterlock/internal/address"
)

// Profile names a set of algorithms for new keys.
type Profile string

// DefaultProfile is v4, EdDSA and Cv25519, as every peer reads it.
const DefaultProfile Profile = "default"

// Lifetime is for how long a new or extended key is valid: two years, 365 days
// each.
const Lifetime = 2 * 365 * 24 * time.Hour

// GenerateKey makes a key for one address, valid from now for Lifetime. Its
// only user ID is the bare address: a name in it would be published, and
// outlive its use.
func GenerateKey(a address.Address, p Profile, now time.Time) (k *Key, err error) {
	defer caught(&err)
	if p != DefaultProfile && p != "" {
		return nil, fmt.Errorf("no key profile %q; there is %q", p, DefaultProfile)
	}
	uid := a.String()
	if a.IsZero() || strings.ContainsAny(uid, "()<>\x00") {
		return nil, fmt.Errorf("a user ID cannot hold this address: %w", address.ErrInvalid)
	}
	// The engine's first argument is the name, which becomes the whole user ID.
	e, err := openpgp.NewEntity(uid, "", "", generationConfig(now))
	if err != nil {
		return nil, fmt.Errorf("generating a key: %w", err)
	}
	var secret bytes.Buffer
	if err := e.SerializePrivateWithoutSigning(&secret, nil); err != nil {
		return nil, fmt.Errorf("generating a key: %w", err)
	}
	return newKey(secret.Bytes())
}

// generationConfig is the default profile: EdDSALegacy (22) and ECDH Cv25519
// (18), AES-256 then AES-128, SHA-512 then SHA-256, no compression, and no
// AEAD, so that the Features bit of SEIPDv2 stays unset: it would make modern
// senders write what an older device with the same key can't read.
func generationConfig(now time.Time) *packet.Config {
	return &packet.Config{
		Algorithm:              packet.PubKeyAlgoEdDSA,
		Curve:                  packet.Curve25519,
		DefaultCipher:          packet.CipherAES256,
		DefaultHash:            crypto.SHA512,
		DefaultCompressionAlgo: packet.CompressionNone,
		KeyLifetimeSecs:        uint32(Lifetime / time.Second),
		Time:                   func() time.Time { return now },
	}
}

// Package pgp is OpenPGP and PGP/MIME for mail: Protect, Seal and Open.
package pgp

import (
	"context"
	"io"
	"time"

	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/message"
)

// Signer makes signatures with a secret key that stays behind it.
type Signer interface {
	Certificate() *Certificate
	// signingEntity gives the engine the key; only this package calls it.
	signingEntity() *openpgp.Entity
}

// Decrypter opens session keys with secret keys that stay behind it.
type Decrypter interface {
	Certificates() []*Certificate
	// decryptionKeys gives the engine the keys; only this package calls it.
	decryptionKeys() openpgp.EntityList
}

// Key is a certificate with its secrets, unlocked. It is a Signer and a Decrypter.
type Key struct{ todo int }

// Profile names a set of algorithms for new keys.
type Profile string

// DefaultProfile is v4, EdDSA and Cv25519, as every peer reads it.
const DefaultProfile Profile = "default"

// Protection says what Protect does to a message.
type Protection struct {
	// Signer signs; required.
	Signer Signer
	// Recipients are who can read it, all named in the packets. Empty means
	// sign only (multipart/signed).
	Recipients []*Certificate
	// Autocrypt is our own certificate and address for the Autocrypt header,
	// outside and inside; nil for none.
	Autocrypt *Certificate
	From      address.Address
	Now       time.Time
	Spool     message.SpoolOptions
}

// Protect writes src as one PGP/MIME message.
func Protect(ctx context.Context, w io.Writer, src message.Source, p Protection) error {
	panic("not built yet")
}

// Sealing says how Seal stores a message for its owner.
type Sealing struct {
	Signer  Signer
	Storage *Certificate // whom it is sealed to; the owner's own
	Now     time.Time
	Spool   message.SpoolOptions
}

// Seal writes src, whole, sealed for its owner; Open gives back its very bytes.
func Seal(ctx context.Context, w io.Writer, src message.Source, s Sealing) error {
	panic("not built yet")
}


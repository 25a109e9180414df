package pgp

import (
	"context"
	"io"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/message"
)

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

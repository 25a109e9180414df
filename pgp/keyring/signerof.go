package keyring

import (
	"context"
	"fmt"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/pgp"
)

// SignerOf is one of the keys of an address, whether it is the active one or not;
// ErrNoKey if it isn't here. It is for telling a directory that another key takes
// its place, and for nothing that people read.
func (r *Ring) SignerOf(ctx context.Context, a address.Address, f pgp.Fingerprint) (pgp.Signer, error) {
	if f == "" {
		return nil, fmt.Errorf("of %s: %w", a, ErrNoKey)
	}
	return r.one(ctx, a, f)
}

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
	keys, err := r.keys(ctx, a)
	if err != nil {
		return nil, err
	}
	for _, h := range keys {
		if h.key.Fingerprint() == f {
			return h.key, nil
		}
	}
	return nil, fmt.Errorf("%s of %s: %w", f, a, ErrNoKey)
}

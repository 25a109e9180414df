package main

import (
	"context"
	"errors"
	"fmt"

	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/pgp"
)

type keyRevoke struct {
	Address     addressArg     `arg:""`
	Fingerprint fingerprintArg `arg:"" optional:"" help:"Of the key; else the one that signs."`
	Reason      string         `required:"" enum:"compromised,superseded,retired" help:"compromised: somebody else may have it, and nothing that it signed is believed any more. superseded: another takes its place. retired: it isn't used any more."`
	Yes         bool           `help:"It can't be taken back. Do it."`
}

func (c *keyRevoke) runState(ctx context.Context, e *env, s *state) error {
	if !c.Yes {
		return errors.New("a revocation can't be taken back; add --yes to do it (the key goes on decrypting old mail)")
	}
	a := c.Address.Address
	cert, err := s.keys.Revoke(ctx, a, pgp.Fingerprint(c.Fingerprint), pgp.Reason(c.Reason))
	if err != nil {
		return noSuchKey(a, err)
	}
	e.printf("Revoked: %s\n", cert.Fingerprint())
	switch err := s.publishRevocation(ctx, cert); {
	case errors.Is(err, store.ErrNoRow):
		e.printf("Publish it where the certificate was published: letterlock key export %s %s\n", a, cert.Fingerprint())
	case err != nil:
		return fmt.Errorf("it is revoked here, but our own directory does not say so yet: %w", err)
	default:
		e.printf("Our own directory says so from now on.\n")
	}
	if active, err := s.keys.Certificate(ctx, a); err != nil || active.Revoked(e.now()) {
		e.printf("For mail to be signed again: letterlock key generate %s --replace\n", a)
	}
	return nil
}

// publishRevocation has our own directory tell, where it publishes or published
// that certificate; store.ErrNoRow where it never did.
func (s *state) publishRevocation(ctx context.Context, cert *pgp.Certificate) error {
	known, err := s.keydir.Revoke(ctx, cert)
	if err == nil && !known {
		return store.ErrNoRow
	}
	return err
}

package main

import (
	"context"
	"errors"
	"fmt"

	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/pgp"
)

// replace makes a key that takes another's place, and has our own directory say
// so where it publishes the old one.
func (c *keyGenerate) replace(ctx context.Context, e *env, s *state, old *pgp.Certificate) error {
	a := c.Address.Address
	cert, named, err := s.keys.Replace(ctx, a, c.Profile)
	if err != nil {
		return err
	}
	e.printf("New key for %s:\n", a)
	describeCertificate(cert, e.now()).print(e)
	if named == nil {
		e.printf("The old key says that this one takes its place; who has the old one follows by themselves: %s\n", old.Fingerprint())
	} else {
		e.printf("The old key can't say that this one takes its place (%v). Who has it must compare the new one.\n", named)
	}
	switch err := s.publishSuccessor(ctx, c.Address, old, cert); {
	case errors.Is(err, store.ErrNoRow):
		e.printf("Publish it where the old one was published: letterlock key publish %s\n", a)
	case err != nil:
		return fmt.Errorf("the key is made, but our own directory does not have it yet: %w", err)
	default:
		e.printf("Our own directory has it from now on.\n")
	}
	if old.Revoked(e.now()) {
		return nil
	}
	e.printf("When all devices have it: letterlock key revoke %s %s --reason superseded --yes\n", a, old.Fingerprint())
	return nil
}

// publishSuccessor puts a certificate in the place of the one that our own
// directory publishes; store.ErrNoRow where it doesn't.
func (s *state) publishSuccessor(ctx context.Context, a addressArg, old, next *pgp.Certificate) error {
	published, err := s.keydir.Certificate(ctx, a.Address)
	if err != nil {
		return err
	}
	if published.Fingerprint() != old.Fingerprint() {
		return store.ErrNoRow
	}
	return s.keydir.Add(ctx, a.Address, next)
}

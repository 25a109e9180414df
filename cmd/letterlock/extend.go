package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/pgp"
)

type keyExtend struct {
	Address addressArg `arg:""`
}

// runState extends the active key: one that was imported is never extended unasked.
func (c *keyExtend) runState(ctx context.Context, e *env, s *state) error {
	a := c.Address.Address
	cert, err := s.keys.Certificate(ctx, a)
	if err != nil {
		return noSuchKey(a, err)
	}
	if end := cert.Expires(); end.IsZero() || end.After(e.now().Add(pgp.Lifetime)) {
		e.printf("The key of %s is valid for longer than that already; it expires: %s.\n", a, day(end, "never"))
		return nil
	}
	if cert, err = s.keys.Extend(ctx, a); err != nil {
		return fmt.Errorf("%s: %w", a, err)
	}
	e.printf("The key of %s is valid until %s now.\n", a, day(cert.Expires(), "for ever"))
	if err := s.republish(ctx); err != nil {
		return fmt.Errorf("it is extended here, but our own directory does not have it yet: %w", err)
	}
	e.printf("Publish it where it was published by hand; where letterlock published it, serve does so again by itself.\n")
	return nil
}

// extend extends own keys before they end, now and about once a day until ctx
// ends. The days are uneven, so that several nodes don't do it at once.
func (s *state) extend(ctx context.Context) {
	for {
		s.extendDue(ctx)
		timer := time.NewTimer(18*time.Hour + rand.N(12*time.Hour))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

// extendDue extends the keys that are due, and brings what our own directory
// serves of them up to date. What fails is tried again the next day: there are
// eight months for it.
func (s *state) extendDue(ctx context.Context) {
	extended, err := s.keys.ExtendDue(ctx)
	for _, a := range extended {
		s.log.Info("key extended", "address", a.String())
	}
	if err = errors.Join(err, s.republish(ctx)); err != nil && ctx.Err() == nil {
		s.log.Warn("own keys could not all be extended or published again", "error", err)
	}
}

// republish publishes the active certificates again where our directory has an
// older state of them. It publishes nothing that nobody published before.
func (s *state) republish(ctx context.Context) error {
	all, err := s.keys.List(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range all {
		a, err := address.Parse(e.Address)
		if err != nil || !e.Active || !s.ownDomain(a) {
			continue
		}
		published, err := s.keydir.Certificate(ctx, a)
		switch {
		case errors.Is(err, store.ErrNoRow):
			continue
		case err != nil:
			errs = append(errs, err)
			continue
		case published.Fingerprint() != e.Certificate.Fingerprint() || !published.Expires().Before(e.Certificate.Expires()):
			continue
		}
		if err := s.keydir.Add(ctx, a, e.Certificate); err != nil {
			errs = append(errs, err)
			continue
		}
		s.log.Info("certificate published again", "address", a.String())
	}
	return errors.Join(errs...)
}

package sop

import (
	"context"
	"errors"

	"letterlock.org/letterlock/pgp"
)

func armor(_ context.Context, k *call) error {
	b := k.stdin()
	if k.err != nil {
		return k.err
	}
	text, err := pgp.ArmorData(b)
	if errors.Is(err, pgp.ErrMalformed) {
		return failure(badData, "%v", err)
	}
	if err != nil {
		return err
	}
	return k.out([]byte(text))
}

func dearmor(_ context.Context, k *call) error {
	b := k.stdin()
	if k.err != nil {
		return k.err
	}
	b, err := pgp.DearmorData(b)
	if err != nil {
		return err
	}
	return k.out(b)
}

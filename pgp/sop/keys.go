package sop

import (
	"context"

	"letterlock.org/letterlock/pgp"
)

func generateKey(_ context.Context, k *call) error {
	k.profile()
	password := k.newPassword("with-key-password")
	k.needs(len(k.operands) > 0, missingArg, "a user ID is missing: keys of version 4 have one here")
	if k.err != nil {
		return k.err
	}
	key, err := pgp.GenerateFor(k.operands, !k.has("signing-only"), k.Now())
	if err != nil {
		return err
	}
	return k.export([]*pgp.Key{key}, password)
}

// export writes keys, locked with a password; nil locks nothing.
func (k *call) export(keys []*pgp.Key, password []byte) error {
	var out []byte
	for _, key := range keys {
		b, err := key.Export(password)
		if err != nil {
			return err
		}
		out = append(out, b...)
	}
	return k.put(out)
}

func extractCert(_ context.Context, k *call) error {
	b := k.stdin()
	if k.err != nil {
		return k.err
	}
	certs, err := pgp.PublicOf(b)
	if err != nil {
		return failure(badData, "%v", err)
	}
	var out []byte
	for _, c := range certs {
		out = append(out, c.Bytes()...)
	}
	return k.put(out)
}

func changePassword(_ context.Context, k *call) error {
	b := k.stdin()
	old := k.passwords("old-key-password")
	password := k.newPassword("new-key-password")
	keys := k.unlock(b, old)
	if k.err != nil {
		return k.err
	}
	return k.export(keys, password)
}

func revokeKey(_ context.Context, k *call) error {
	b := k.stdin()
	keys := k.unlock(b, k.passwords("with-key-password"))
	if k.err != nil {
		return k.err
	}
	var out []byte
	for _, key := range keys {
		revoked, err := pgp.Revoke(key, pgp.Retired, k.Now())
		if err != nil {
			return err
		}
		out = append(out, revoked.Certificate().Bytes()...)
	}
	return k.put(out)
}

package sop

import (
	"context"

	"letterlock.org/letterlock/pgp"
)

func sign(_ context.Context, k *call) error {
	keys, data, text := k.signing()
	if k.err != nil {
		return k.err
	}
	sig, micalg, err := pgp.SignDetached(data, text, k.Now(), keys...)
	if err != nil {
		return err
	}
	if err := k.also("micalg-out", []byte(micalg)); err != nil {
		return err
	}
	return k.put(sig)
}

// signing reads what both ways of signing begin with.
func (k *call) signing() (keys []*pgp.Key, data []byte, text bool) {
	k.needs(len(k.operands) > 0, missingArg, "a secret key is missing")
	keys = k.secrets(k.operands)
	data = k.stdin()
	return keys, data, k.asText(data)
}

func inlineSign(_ context.Context, k *call) error {
	keys, data, text := k.signing()
	if k.err != nil {
		return k.err
	}
	if k.one("as", "") == "clearsigned" {
		if k.has("no-armor") {
			return failure(incompatibleOptions, "--as=clearsigned is text")
		}
		b, err := pgp.SignClear(data, k.Now(), keys...)
		if err != nil {
			return err
		}
		return k.out(b)
	}
	b, err := pgp.SignInline(data, text, k.Now(), keys...)
	if err != nil {
		return err
	}
	return k.put(b)
}

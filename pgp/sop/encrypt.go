package sop

import (
	"bytes"
	"context"

	"letterlock.org/letterlock/pgp"
)

func encrypt(ctx context.Context, k *call) error {
	k.profile()
	k.needs(len(k.operands) > 0, missingArg, "a certificate is missing")
	certs := k.certificates(k.operands)
	signers := k.secrets(k.options["sign-with"])
	k.needs(len(signers) < 2, unsupportedOption, "one key signs")
	data := k.stdin()
	k.asText(data)
	if k.err != nil {
		return k.err
	}
	e := pgp.Encryption{Recipients: certs, Now: k.Now()}
	if len(signers) == 1 {
		e.Signer = signers[0]
		if err := signers[0].CheckSign(k.Now()); err != nil {
			return failure(keyCannotSign, "%v", err)
		}
	}
	for _, c := range certs {
		if err := c.CheckEncrypt(k.Now()); err != nil {
			return failure(certCannotEncrypt, "%s: %v", c.Fingerprint(), err)
		}
	}
	var armored bytes.Buffer
	if err := e.Write(ctx, &armored, data); err != nil {
		return err
	}
	if !k.has("no-armor") {
		return k.out(armored.Bytes())
	}
	b, err := pgp.DearmorData(armored.Bytes())
	if err != nil {
		return err
	}
	return k.out(b)
}

func decrypt(ctx context.Context, k *call) error {
	out := k.one("verifications-out", k.one("verify-out", ""))
	k.needs((out == "") == !k.has("verify-with"), incompatibleOptions, "--verify-with and --verifications-out go together")
	k.needs(len(k.operands) > 0, missingArg, "a secret key is missing")
	certs := k.certificates(k.options["verify-with"])
	s := k.span("verify-not-before", "verify-not-after")
	keys := k.secrets(k.operands)
	b := k.stdin()
	if k.err != nil {
		return k.err
	}
	plain, good, err := pgp.Decrypt(ctx, b, pgp.Keys(keys...), certs, k.Now())
	if err != nil {
		return err
	}
	if out != "" {
		if err := output(out, s.within(good)); err != nil {
			return err
		}
	}
	return k.out(plain)
}

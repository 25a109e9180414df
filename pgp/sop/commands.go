package sop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"unicode/utf8"

	"letterlock.org/letterlock/pgp"
)

func version(_ context.Context, k *call) error {
	name := "letterlock " + k.Version
	switch {
	case k.has("sop-spec"):
		name = "~draft-dkg-openpgp-stateless-cli-15\n\nMessages for a password and session keys are not supported."
	case k.has("sopv"):
		name = "1.0"
	case k.has("backend"):
		name = "ProtonMail/go-crypto openpgp/v2"
	case k.has("extended"):
		name += "\nProtonMail/go-crypto openpgp/v2"
	}
	_, err := fmt.Fprintln(k.Stdout, name)
	return err
}

func listProfiles(_ context.Context, k *call) error {
	if len(k.operands) != 1 {
		return failure(missingArg, "list-profiles needs a subcommand")
	}
	if n := k.operands[0]; n != "generate-key" && n != "encrypt" {
		return failure(unsupportedProfile, "%s has no profiles", n)
	}
	_, err := fmt.Fprintln(k.Stdout, "default: what Letterlock writes (RFC 4880 keys on Curve25519; SEIPDv2 where every recipient has it)")
	return err
}

func (k *call) profile() error {
	if p := k.one("profile", "default"); p != "default" {
		return failure(unsupportedProfile, "no profile %s", p)
	}
	return nil
}

func generateKey(_ context.Context, k *call) error {
	if err := k.profile(); err != nil {
		return err
	}
	password, err := k.newPassword("with-key-password")
	if err != nil {
		return err
	}
	if len(k.operands) == 0 {
		return failure(missingArg, "a user ID is missing: keys of version 4 have one here")
	}
	key, err := pgp.GenerateFor(k.operands, !k.has("signing-only"), k.Now())
	if err != nil {
		return err
	}
	return k.export(key, password)
}

func (k *call) export(key *pgp.Key, password []byte) error {
	b, err := key.Export(password)
	if err != nil {
		return err
	}
	return k.put(b)
}

func extractCert(_ context.Context, k *call) error {
	b, err := k.stdin()
	if err != nil {
		return err
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
	b, err := k.stdin()
	if err != nil {
		return err
	}
	old, err := k.passwords("old-key-password")
	if err != nil {
		return err
	}
	password, err := k.newPassword("new-key-password")
	if err != nil {
		return err
	}
	keys, err := unlocked(b, old)
	if err != nil {
		return err
	}
	return k.exportAll(keys, password)
}

func (k *call) exportAll(keys []*pgp.Key, password []byte) error {
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

func revokeKey(_ context.Context, k *call) error {
	b, err := k.stdin()
	if err != nil {
		return err
	}
	passwords, err := k.passwords("with-key-password")
	if err != nil {
		return err
	}
	keys, err := unlocked(b, passwords)
	if err != nil {
		return err
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

// asText reads --as and checks that text is some.
func (k *call) asText(data []byte) (bool, error) {
	switch as := k.one("as", "binary"); as {
	case "binary":
		return false, nil
	case "text", "clearsigned":
		if !utf8.Valid(data) {
			return false, failure(expectedText, "the text is not UTF-8")
		}
		return true, nil
	default:
		return false, failure(unsupportedOption, "--as=%s", as)
	}
}

func sign(_ context.Context, k *call) error {
	keys, data, text, err := k.signing()
	if err != nil {
		return err
	}
	sig, micalg, err := pgp.SignDetached(data, text, k.Now(), keys...)
	if err != nil {
		return err
	}
	if k.has("micalg-out") {
		if err := k.output(k.one("micalg-out", ""), []byte(micalg)); err != nil {
			return err
		}
	}
	return k.put(sig)
}

// signing is what both ways of signing begin with.
func (k *call) signing() (keys []*pgp.Key, data []byte, text bool, err error) {
	if len(k.operands) == 0 {
		return nil, nil, false, failure(missingArg, "a secret key is missing")
	}
	if keys, err = k.secrets(k.operands); err != nil {
		return nil, nil, false, err
	}
	if data, err = k.stdin(); err != nil {
		return nil, nil, false, err
	}
	text, err = k.asText(data)
	return keys, data, text, err
}

func inlineSign(_ context.Context, k *call) error {
	keys, data, text, err := k.signing()
	if err != nil {
		return err
	}
	if k.one("as", "") == "clearsigned" {
		if k.has("no-armor") {
			return failure(incompatibleOptions, "--as=clearsigned is text")
		}
		out, err := pgp.SignClear(data, k.Now(), keys...)
		if err == nil {
			_, err = k.Stdout.Write(out)
		}
		return err
	}
	out, err := pgp.SignInline(data, text, k.Now(), keys...)
	if err != nil {
		return err
	}
	return k.put(out)
}

// good checks what was verified, and gives the lines that tell of it.
func (k *call) good(all []pgp.Verification, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	s, err := k.span("not-before", "not-after")
	if err != nil {
		return nil, err
	}
	lines := s.within(all)
	if len(lines) == 0 {
		return nil, failure(noSignature, "no signature is good")
	}
	return lines, nil
}

func verify(ctx context.Context, k *call) error {
	if len(k.operands) < 2 {
		return failure(missingArg, "a signature and a certificate are needed")
	}
	signatures, err := k.read(k.operands[0])
	if err != nil {
		return err
	}
	certs, err := k.certificates(k.operands[1:])
	if err != nil {
		return err
	}
	data, err := k.stdin()
	if err != nil {
		return err
	}
	lines, err := k.good(pgp.Verify(ctx, data, signatures, certs, k.Now()))
	if err == nil {
		_, err = k.Stdout.Write(lines)
	}
	return err
}

func inlineVerify(ctx context.Context, k *call) error {
	if len(k.operands) == 0 {
		return failure(missingArg, "a certificate is missing")
	}
	certs, err := k.certificates(k.operands)
	if err != nil {
		return err
	}
	b, err := k.stdin()
	if err != nil {
		return err
	}
	data, signatures, err := pgp.SplitSigned(b)
	if err != nil {
		return err
	}
	if len(signatures) == 0 {
		return failure(noSignature, "nothing is signed")
	}
	lines, err := k.good(pgp.Verify(ctx, data, signatures, certs, k.Now()))
	if err != nil {
		return err
	}
	if k.has("verifications-out") {
		if err := k.output(k.one("verifications-out", ""), lines); err != nil {
			return err
		}
	}
	_, err = k.Stdout.Write(native(b, data))
	return err
}

// native gives text that was signed in the clear the line ends of files: those
// that were hashed are CRLF.
func native(message, signed []byte) []byte {
	if bytes.HasPrefix(bytes.TrimLeft(message, " \t\r\n"), []byte("-----BEGIN PGP SIGNED MESSAGE-----")) {
		return bytes.ReplaceAll(signed, []byte("\r\n"), []byte("\n"))
	}
	return signed
}

func inlineDetach(_ context.Context, k *call) error {
	if !k.has("signatures-out") {
		return failure(missingArg, "--signatures-out is missing")
	}
	b, err := k.stdin()
	if err != nil {
		return err
	}
	data, signatures, err := pgp.SplitSigned(b)
	if err != nil {
		return err
	}
	if !k.has("no-armor") {
		text, err := pgp.ArmorData(signatures)
		if err != nil {
			return err
		}
		signatures = []byte(text)
	}
	if err := k.output(k.one("signatures-out", ""), signatures); err != nil {
		return err
	}
	_, err = k.Stdout.Write(native(b, data))
	return err
}

func encrypt(ctx context.Context, k *call) error {
	if err := k.profile(); err != nil {
		return err
	}
	if len(k.operands) == 0 {
		return failure(missingArg, "a certificate is missing")
	}
	certs, err := k.certificates(k.operands)
	if err != nil {
		return err
	}
	signers, err := k.secrets(k.options["sign-with"])
	if err != nil {
		return err
	}
	if len(signers) > 1 {
		return failure(unsupportedOption, "one key signs")
	}
	data, err := k.stdin()
	if err != nil {
		return err
	}
	if _, err := k.asText(data); err != nil {
		return err
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
	var out bytes.Buffer
	if err := e.Write(ctx, &out, data); err != nil {
		return err
	}
	if !k.has("no-armor") {
		_, err = k.Stdout.Write(out.Bytes())
		return err
	}
	b, err := pgp.DearmorData(out.Bytes())
	if err != nil {
		return err
	}
	return k.put(b)
}

func decrypt(ctx context.Context, k *call) error {
	out := k.one("verifications-out", k.one("verify-out", ""))
	if (out == "") != !k.has("verify-with") {
		return failure(incompatibleOptions, "--verify-with and --verifications-out go together")
	}
	if len(k.operands) == 0 {
		return failure(missingArg, "a secret key is missing")
	}
	certs, err := k.certificates(k.options["verify-with"])
	if err != nil {
		return err
	}
	s, err := k.span("verify-not-before", "verify-not-after")
	if err != nil {
		return err
	}
	keys, err := k.secrets(k.operands)
	if err != nil {
		return err
	}
	b, err := k.stdin()
	if err != nil {
		return err
	}
	plain, good, err := pgp.Decrypt(ctx, b, pgp.Keys(keys...), certs, k.Now())
	if err != nil {
		return err
	}
	if out != "" {
		if err := k.output(out, s.within(good)); err != nil {
			return err
		}
	}
	_, err = k.Stdout.Write(plain)
	return err
}

func armor(_ context.Context, k *call) error {
	b, err := k.stdin()
	if err != nil {
		return err
	}
	text, err := pgp.ArmorData(b)
	if errors.Is(err, pgp.ErrMalformed) {
		return failure(badData, "%v", err)
	}
	if err == nil {
		_, err = k.Stdout.Write([]byte(text))
	}
	return err
}

func dearmor(_ context.Context, k *call) error {
	b, err := k.stdin()
	if err != nil {
		return err
	}
	if b, err = pgp.DearmorData(b); err == nil {
		_, err = k.Stdout.Write(b)
	}
	return err
}

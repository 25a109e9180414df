package pgp

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"time"

	"letterlock.org/letterlock/internal/message"
)

// What follows is for protocols that carry OpenPGP data of their own, such as a
// Web Key Service; mail is for Protect and Open.

// EncryptData writes plain as one armored OpenPGP message that each of the
// recipients can read. It is not signed. What w has got is worth nothing if there
// is an error, that of Certificate.CheckEncrypt where a recipient is why.
func EncryptData(ctx context.Context, w io.Writer, plain []byte, now time.Time, recipients ...*Certificate) error {
	e := encryption{recipients: recipients, now: now, unsigned: true}
	return e.write(ctx, w, func(w io.Writer) error {
		_, err := w.Write(plain)
		return err
	})
}

// DecryptData reads one armored OpenPGP message, in a transfer encoding or "",
// of at most limit bytes inside. Signatures in it are not looked at. Nothing is
// returned unless all of it proved whole. ErrMalformed says that it is hostile,
// damaged or for other keys; any other error may pass.
func DecryptData(ctx context.Context, src message.Source, encoding string, keys Decrypter, limit int64) ([]byte, error) {
	p, err := decrypt(ctx, ciphertext{src, encoding}, keys, message.SpoolOptions{Memory: limit, Limit: limit})
	if r, ok := err.(refusal); ok {
		return nil, fmt.Errorf("%s: %w", r.reason, ErrMalformed)
	}
	if err == errNotArmor {
		return nil, fmt.Errorf("not one armored message: %w", ErrMalformed)
	}
	if err != nil {
		return nil, err
	}
	defer p.text.Close()
	return message.ReadAll(p.text, limit)
}

// SignData is an armored detached signature over data, and the name of its hash
// as multipart/signed tells it (RFC 3156, Section 5).
func SignData(ctx context.Context, s Signer, data []byte, now time.Time) (armored, micalg string, err error) {
	var b, out bytes.Buffer
	micalg, err = detach(ctx, &b, Protection{Signer: s, Now: now}, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
	if err != nil {
		return "", "", err
	}
	a := newArmor(&out, blockSignature)
	if _, err := a.Write(b.Bytes()); err != nil {
		return "", "", err
	}
	if err := a.Close(); err != nil {
		return "", "", err
	}
	return out.String(), micalg, nil
}

// VerifyData is nil if one of the armored signatures over data is by a key of c
// that may sign, and c isn't revoked; else ErrMalformed, ErrRevoked or ErrWeak.
func VerifyData(c *Certificate, data []byte, armored string, now time.Time) error {
	sigs, err := readSignatures(message.Bytes([]byte(armored)), "")
	if err != nil {
		return err
	}
	if c.Revoked(now) {
		return ErrRevoked
	}
	all, w := hashers(sigs)
	if _, err := w.Write(data); err != nil {
		return err
	}
	v := newVerifier(Opening{Now: now})
	worst := ErrMalformed
	for _, d := range all {
		if d.weak {
			worst = ErrWeak
		}
		if d.sig == nil || d.hash == nil {
			continue
		}
		id, ok := issuer(d.sig)
		if !ok {
			continue
		}
		switch j := v.try(c, id, d); {
		case j.state == SignatureValid && len(j.warn) == 0 && !j.sealed && !d.sig.CreationTime.After(now.Add(clockSkew)):
			return nil
		case j.state == SignatureWeak:
			worst = ErrWeak
		}
	}
	return fmt.Errorf("signature by %s: %w", c.Fingerprint(), worst)
}

package pgp

import (
	"bytes"
	"context"
	"crypto"
	"fmt"
	"io"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"letterlock.org/letterlock/internal/message"
)

// signed writes a multipart/signed (RFC 3156, Section 5). The payload is frozen
// in a spool, since the header before it names the signature's hash; the bytes
// that are signed are the very bytes that are sent.
func signed(ctx context.Context, w io.Writer, c *composed, p Protection) error {
	payload := message.NewSpool(p.Spool)
	defer payload.Close()
	var signature bytes.Buffer
	hash, err := detach(ctx, &signature, p, func(signing io.Writer) error {
		both := borrowWriter(io.MultiWriter(payload, signing))
		defer returnWriter(both)
		if err := c.write(both); err != nil {
			return err
		}
		return both.Flush()
	})
	if err != nil {
		return err
	}
	out := borrowWriter(w)
	defer returnWriter(out)
	boundary := newBoundary()
	out.Write(c.outer)
	fmt.Fprintf(out, "MIME-Version: 1.0\r\n"+
		"Content-Type: multipart/signed; micalg=\"%s\";\r\n"+
		" protocol=\"application/pgp-signature\"; boundary=\"%[2]s\"\r\n"+
		"\r\n"+
		"This is an OpenPGP/MIME signed message (RFC 3156).\r\n"+
		"--%[2]s\r\n", hash, boundary)
	if err := copyRange(ctx, out, payload, 0, payload.Size()); err != nil {
		return err
	}
	fmt.Fprintf(out, "\r\n--%s\r\n"+
		"Content-Type: application/pgp-signature; name=\"signature.asc\"\r\n"+
		"Content-Description: OpenPGP digital signature\r\n"+
		"Content-Disposition: attachment; filename=\"signature.asc\"\r\n"+
		"\r\n", boundary)
	a := newArmor(out, blockSignature)
	a.plain = p.Signer.Certificate().Version() >= 6
	if _, err := a.Write(signature.Bytes()); err != nil {
		return err
	}
	if err := a.Close(); err != nil {
		return err
	}
	fmt.Fprintf(out, "\r\n--%s--\r\n", boundary)
	return out.Flush()
}

// detach writes a detached signature and names its hash as micalg does.
func detach(ctx context.Context, signature *bytes.Buffer, p Protection, content func(io.Writer) error) (string, error) {
	if err := checkSigner(p.Signer, p.Now); err != nil {
		return "", err
	}
	config := engineConfig(p.Now)
	config.SignatureNotations = p.Gateway.notations()
	s, err := openpgp.DetachSignWriter(signature, []*openpgp.Entity{p.Signer.signingEntity()},
		&openpgp.SignParams{Config: config})
	if err != nil {
		return "", fmt.Errorf("signing: %w", err)
	}
	if err := content(ctxWriter{ctx, s}); err != nil {
		return "", err
	}
	if err := s.Close(); err != nil {
		return "", fmt.Errorf("signing: %w", err)
	}
	made, err := parsePacket(signature.Bytes())
	sig, ok := made.(*packet.Signature)
	if err != nil || !ok {
		return "", fmt.Errorf("signing: %w", ErrMalformed)
	}
	return micalg(sig.Hash)
}

// micalg is RFC 3156, Section 5; the names of RFC 9580, Section 9.5.
func micalg(h crypto.Hash) (string, error) {
	switch h {
	case crypto.SHA256:
		return "pgp-sha256", nil
	case crypto.SHA384:
		return "pgp-sha384", nil
	case crypto.SHA512:
		return "pgp-sha512", nil
	case crypto.SHA3_256:
		return "pgp-sha3-256", nil
	case crypto.SHA3_512:
		return "pgp-sha3-512", nil
	}
	return "", fmt.Errorf("signing with hash %d: %w", h, ErrWeak)
}

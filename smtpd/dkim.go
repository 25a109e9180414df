package smtpd

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"

	"github.com/emersion/go-msgauth/dkim"
	"letterlock.org/letterlock/internal/message"
)

// DKIM signs for a domain what a relay has changed (RFC 6376; RFC 8463 for
// Ed25519), after encryption: the bytes that it signs are those that are sent.
// Safe for concurrent use.
type DKIM struct {
	Domain   string
	Selector string
	key      crypto.Signer
}

// NewDKIM makes a signer of a private key in PEM: RSA of 1024 bits or more (RFC
// 8301, Section 3.2), or Ed25519.
func NewDKIM(domain, selector string, key []byte) (*DKIM, error) {
	block, _ := pem.Decode(key)
	if block == nil {
		return nil, errors.New("DKIM key: not PEM (openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 makes one)")
	}
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		if k, err = x509.ParsePKCS1PrivateKey(block.Bytes); err != nil {
			return nil, errors.New("DKIM key: neither PKCS #8 nor PKCS #1")
		}
	}
	switch k := k.(type) {
	case *rsa.PrivateKey:
		if k.N.BitLen() < 1024 {
			return nil, fmt.Errorf("DKIM key: %d bits are too few, take 2048", k.N.BitLen())
		}
		return &DKIM{domain, selector, k}, nil
	case ed25519.PrivateKey:
		return &DKIM{domain, selector, k}, nil
	}
	return nil, errors.New("DKIM key: neither RSA nor Ed25519")
}

// dkimFields are those that are signed where they occur, and once more, so that
// none can be added (RFC 6376, Section 8.15).
var dkimFields = []string{"From", "Sender", "Reply-To", "To", "Cc", "Subject", "Date", "Message-ID", "In-Reply-To", "References",
	"MIME-Version", "Content-Type", "Autocrypt"}

// sign makes the field that goes before a message.
func (d *DKIM) sign(ctx context.Context, src message.Source) ([]byte, error) {
	h, err := message.ReadHeader(src, 0)
	if err != nil {
		return nil, err
	}
	var keys []string
	for _, name := range dkimFields {
		for range len(h.All(name)) + 1 {
			keys = append(keys, name)
		}
	}
	s, err := dkim.NewSigner(&dkim.SignOptions{
		Domain: d.Domain, Selector: d.Selector, Signer: d.key, HeaderKeys: keys,
		HeaderCanonicalization: dkim.CanonicalizationRelaxed, BodyCanonicalization: dkim.CanonicalizationRelaxed,
	})
	if err != nil {
		return nil, err
	}
	pooled := buffers.Get().(*[]byte)
	defer buffers.Put(pooled)
	_, err = io.CopyBuffer(struct{ io.Writer }{s}, struct{ io.Reader }{message.Reader(src)}, *pooled)
	if cerr := s.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, err
	}
	return []byte(s.Signature()), nil
}

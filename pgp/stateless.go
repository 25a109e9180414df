package pgp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"letterlock.org/letterlock/internal/message"
)

// The files whose names begin with stateless are the engine without mail: for
// package sop, by which other people's tests drive it. Bytes in are binary or
// armored, bytes out binary.

// ErrNoKey means that none of the keys opens a message.
var ErrNoKey = errors.New("no key opens this message")

// maxStateless bounds what is held in memory, in bytes.
const maxStateless = 256 << 20

// Encryption is what [Encryption.Write] needs. It needs recipients.
type Encryption struct {
	Recipients []*Certificate
	Signer     Signer // nil for nobody
	Now        time.Time
}

// Write writes plain as one armored message.
func (e Encryption) Write(ctx context.Context, w io.Writer, plain []byte) error {
	inner := encryption{signer: e.Signer, recipients: e.Recipients, now: e.Now, unsigned: e.Signer == nil}
	return inner.write(ctx, w, func(w io.Writer) error {
		_, err := w.Write(plain)
		return err
	})
}

// Decrypt opens one message as mail is opened: nothing is returned unless all of
// it proved whole. ErrNoKey, or ErrMalformed with the reason.
func Decrypt(ctx context.Context, data []byte, keys Decrypter, certs []*Certificate, now time.Time) (plain []byte, good []Verification, err error) {
	if !isArmored(data) {
		data = []byte(encodeArmor(blockMessage, data, false))
	}
	p, err := decrypt(ctx, ciphertext{src: message.Bytes(data)}, keys, message.SpoolOptions{Memory: maxStateless, Limit: maxStateless})
	var r refusal
	switch {
	case errors.As(err, &r) && (r.reason == reasonNoKey || r.reason == reasonPassword):
		return nil, nil, fmt.Errorf("%s: %w", r.reason, ErrNoKey)
	case errors.As(err, &r), err == errNotArmor:
		return nil, nil, fmt.Errorf("%w: %w", err, ErrMalformed)
	case err != nil:
		return nil, nil, err
	}
	defer p.text.Close()
	if plain, err = message.ReadAll(p.text, maxStateless); err != nil {
		return nil, nil, err
	}
	good, err = verifications(ctx, p.signatures, certs, now)
	return plain, good, err
}

package pgp

import (
	"context"
	"errors"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/message"
)

// CertificateStore is the stored certificates. It never touches the network.
type CertificateStore interface {
	// Issuer returns the stored certificates with a (sub)key of that ID to sign with.
	Issuer(ctx context.Context, keyID uint64) ([]*Certificate, error)
	// Identity says how the certificate is bound to the address.
	Identity(ctx context.Context, a address.Address, f Fingerprint) (Identity, error)
}

// Opening is what Open works with.
type Opening struct {
	Keys         Decrypter
	Certificates CertificateStore
	// Own are the account's addresses.
	Own []address.Address
	// Replayed records that the encrypted packet was opened in a message with
	// this From and Message-ID (those outside), and tells whether it was before
	// under others. packet is the SHA-256 of the encrypted data packet's content
	// alone, so that neither other session key packets nor another framing make
	// it a new one. Nil asks nobody.
	Replayed func(ctx context.Context, packet [32]byte, from, messageID string) (bool, error)
	// Frozen is the verdict of the first opening, if there was one. It decides
	// on the rendering: its status field, and whose From is shown.
	Frozen *Verdict
	// Now is when the message is judged; zero means now. It decides only on
	// signatures that expire by themselves or come from the future.
	Now   time.Time
	Spool message.SpoolOptions
}

// Opened is what came of opening a message.
type Opened struct {
	Class Class
	// Verdict is the fresh one, also where a frozen one is shown.
	Verdict Verdict
	// Rendering is the message as a client sees it; nil unless Class is
	// Encrypted. The caller closes it.
	Rendering *message.Spool
	// Reason says why a message stays Opaque, in words for a person.
	Reason string
	// MessageID, From of the rendering, for the reply rule and the index.
	MessageID string
	From      address.Address
	// Autocrypt are the values of the Autocrypt fields that may be believed
	// (as candidates), Date the message's own.
	Autocrypt []string
	// Gossip are the values of the Autocrypt-Gossip fields inside what was
	// encrypted; outside they count for nothing.
	Gossip []string
	Date   time.Time
}

// Open decrypts and verifies src: one pure function of src, keys, stored
// certificates and frozen verdict. It decrypts only what is the whole message
// (RFC 9787, Section 4.5: errant layers count for nothing), one layer of it, and
// gives out nothing before its integrity and signatures are settled. The error
// is only for what may pass (spool full, store failing, src failing, ctx);
// hostile mail gives Opaque or Plain.
func Open(ctx context.Context, src message.Source, o Opening) (opened *Opened, err error) {
	root, err := message.Parse(src, message.Limits{})
	if errors.Is(err, message.ErrLimit) {
		return overLimit(src)
	}
	if err != nil {
		return nil, err
	}
	shape, err := shapeOf(src, root)
	if err != nil {
		return nil, err
	}
	j := &job{src: src, root: root, o: o, v: newVerifier(o)}
	defer func() {
		if r := recover(); r != nil {
			opened, err = j.opaque(reasonDamaged), nil
		}
	}()
	switch Classify(shape) {
	case Encrypted:
		opened, err = j.encrypted(ctx)
	case Signed:
		opened, err = j.signed(ctx)
	default:
		opened = j.as(Plain)
	}
	var r refusal
	switch {
	case errors.As(err, &r):
		return j.opaque(r.reason), nil
	case errors.Is(err, message.ErrTooLarge):
		return j.opaque(reasonTooLarge), nil
	case err != nil:
		return nil, err
	}
	return opened, nil
}

// overLimit is a message of more structure than is read. Where its header says that
// it is encrypted, its reader is told that it stays closed.
func overLimit(src message.Source) (*Opened, error) {
	opened := &Opened{Class: Plain, Verdict: Verdict{Signature: SignatureNone}}
	h, err := message.ReadHeader(src, 0)
	if errors.Is(err, message.ErrLimit) {
		return opened, nil
	}
	if err != nil {
		return nil, err
	}
	if word, _ := message.ParseParams(h.Get("Content-Type")); word == "multipart/encrypted" {
		opened.Class, opened.Reason = Opaque, reasonParts
	}
	return opened, nil
}

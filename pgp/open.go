package pgp

import (
	"context"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/message"
)

// Class is what kind of message a UID is, as far as we are concerned.
type Class string

const (
	Unclassified Class = ""
	Plain        Class = "plain"
	Encrypted    Class = "encrypted" // opened, shown as its rendering
	Signed       Class = "signed"    // multipart/signed or clear-signed: shown as it is, with keywords
	Opaque       Class = "opaque"    // encrypted, but shown as it arrived
)

// CertificateStore is the stored certificates. It never touches the network.
type CertificateStore interface {
	// Issuer returns every stored certificate with a (sub)key of that ID.
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
	// this From and Message-ID, and tells whether it was before under others.
	Replayed func(ctx context.Context, packet [32]byte, from, messageID string) (bool, error)
	// Frozen is the verdict of the first opening, if there was one.
	Frozen *Verdict
	Spool  message.SpoolOptions
}

// Opened is what came of opening a message.
type Opened struct {
	Class   Class
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
	Date      time.Time
}

// Open decrypts and verifies src: one pure function of src, keys, stored
// certificates and frozen verdict. The error is only for what may pass (keys
// locked, spool full, store failing, ctx); hostile mail gives Opaque or Plain.
func Open(ctx context.Context, src message.Source, o Opening) (*Opened, error) {
	panic("not built yet")
}

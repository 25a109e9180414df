// Package pgp is OpenPGP and PGP/MIME for mail: Protect, Seal and Open.
package pgp

import (
	"context"
	"errors"
	"io"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/message"
)

// Errors that callers decide on.
var (
	ErrExpired   = errors.New("certificate expired")
	ErrRevoked   = errors.New("certificate revoked")
	ErrWeak      = errors.New("certificate uses an algorithm that is no longer safe")
	ErrUnusable  = errors.New("certificate has no usable encryption key")
	ErrSecretKey = errors.New("secret key where a certificate belongs")
	ErrMalformed = errors.New("malformed OpenPGP data")
	ErrLocked    = errors.New("secret key is locked")
)

// Fingerprint identifies a primary key or subkey: upper-case hex, 40 digits for
// version 4, 64 for version 6.
type Fingerprint string

// Identity is how sure we are that a certificate belongs to an address.
type Identity string

const (
	Unknown      Identity = ""             // not bound to the address at all
	FirstSeen    Identity = "first-seen"   // Autocrypt, attached, first contact
	Directory    Identity = "directory"    // the domain's own directory says so
	Organisation Identity = "organisation" // certified by the organisation's CA
	Confirmed    Identity = "confirmed"    // the person compared it
	Conflict     Identity = "conflict"     // sources contradict each other
)

// AtLeast tells whether i is as sure as min. Conflict and Unknown are below all.
func (i Identity) AtLeast(min Identity) bool { panic("not built yet") }

// Certificate is somebody's public key, immutable, safe for concurrent use. It
// keeps its original bytes.
type Certificate struct{ todo int }

// ParseCertificates reads binary or armored certificates, one or several. A
// certificate that is malformed is left out of the answer and told in err
// beside the ones that are well; secret key material is ErrSecretKey.
func ParseCertificates(b []byte) ([]*Certificate, error) { panic("not built yet") }

func (c *Certificate) Fingerprint() Fingerprint { panic("not built yet") }
func (c *Certificate) Version() int             { panic("not built yet") }

// KeyIDs are those of the primary key and every subkey.
func (c *Certificate) KeyIDs() []uint64 { panic("not built yet") }

// Bytes are the original packets, binary. The caller must not change them.
func (c *Certificate) Bytes() []byte      { panic("not built yet") }
func (c *Certificate) Armored() string    { panic("not built yet") }
func (c *Certificate) Created() time.Time { panic("not built yet") }

// Expires is when the primary key expires; zero means never.
func (c *Certificate) Expires() time.Time { panic("not built yet") }
func (c *Certificate) Algorithm() string  { panic("not built yet") }

// UserIDs are those with a valid self-signature (not SHA-1 of after 2019… see
// the implementation), made safe to show.
func (c *Certificate) UserIDs() []string { panic("not built yet") }

// Has tells whether a valid user ID names exactly this address.
func (c *Certificate) Has(a address.Address) bool { panic("not built yet") }

// CheckEncrypt is nil if the certificate can be encrypted to at that time; else
// ErrExpired, ErrRevoked, ErrWeak or ErrUnusable.
func (c *Certificate) CheckEncrypt(now time.Time) error { panic("not built yet") }

// Revoked tells whether the primary key is revoked.
func (c *Certificate) Revoked(now time.Time) bool { panic("not built yet") }

// Minimal is the certificate with only the user ID of that address, live
// subkeys and newest self-signatures (RFC 9580 packets kept byte for byte).
func (c *Certificate) Minimal(a address.Address, now time.Time) (*Certificate, error) {
	panic("not built yet")
}

// Merge is the union of two states of one certificate (same primary key).
func Merge(a, b *Certificate) (*Certificate, error) { panic("not built yet") }

// Signer makes signatures with a secret key that stays behind it.
type Signer interface {
	Certificate() *Certificate
}

// Decrypter opens session keys with secret keys that stay behind it.
type Decrypter interface {
	Certificates() []*Certificate
}

// Key is a certificate with its secrets, unlocked. It is a Signer and a Decrypter.
type Key struct{ todo int }

// Profile names a set of algorithms for new keys.
type Profile string

// DefaultProfile is v4, EdDSA and Cv25519, as every peer reads it.
const DefaultProfile Profile = "default"

// Protection says what Protect does to a message.
type Protection struct {
	// Signer signs; required.
	Signer Signer
	// Recipients are who can read it, all named in the packets. Empty means
	// sign only (multipart/signed).
	Recipients []*Certificate
	// Autocrypt is our own certificate and address for the Autocrypt header,
	// outside and inside; nil for none.
	Autocrypt *Certificate
	From      address.Address
	Now       time.Time
	Spool     message.SpoolOptions
}

// Protect writes src as one PGP/MIME message.
func Protect(ctx context.Context, w io.Writer, src message.Source, p Protection) error {
	panic("not built yet")
}

// Sealing says how Seal stores a message for its owner.
type Sealing struct {
	Signer  Signer
	Storage *Certificate // whom it is sealed to; the owner's own
	Now     time.Time
	Spool   message.SpoolOptions
}

// Seal writes src, whole, sealed for its owner; Open gives back its very bytes.
func Seal(ctx context.Context, w io.Writer, src message.Source, s Sealing) error {
	panic("not built yet")
}

// Class is what kind of message a UID is, as far as we are concerned.
type Class string

const (
	Unclassified Class = ""
	Plain        Class = "plain"
	Encrypted    Class = "encrypted" // opened, shown as its rendering
	Signed       Class = "signed"    // multipart/signed or clear-signed: shown as it is, with keywords
	Opaque       Class = "opaque"    // encrypted, but shown as it arrived
)

// SignatureState is the verdict on a signature.
type SignatureState string

const (
	SignatureNone     SignatureState = "none"
	SignatureValid    SignatureState = "valid"
	SignatureUnknown  SignatureState = "unknown"  // no certificate of the issuer
	SignatureMismatch SignatureState = "mismatch" // good, but not by a key of the From address
	SignatureWeak     SignatureState = "weak"
	SignatureExpired  SignatureState = "expired"
	SignatureBad      SignatureState = "bad"
)

// Verdict is what we say of a message's security; frozen at its first opening.
type Verdict struct {
	Encrypted bool
	Sealed    bool // stored by ourselves
	Signature SignatureState
	Identity  Identity
	Signer    Fingerprint // primary key; "" without a certificate
	Warnings  []string    // words such as "replayed", "from-mismatch", "not-for-us", "date"
}

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

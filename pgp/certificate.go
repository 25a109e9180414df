package pgp

import (
	"time"

	"letterlock.org/letterlock/internal/address"
)

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


package pgp

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"letterlock.org/letterlock/internal/address"
)

// Certificate is somebody's public key, immutable, safe for concurrent use. It
// keeps its original bytes: what we can't read (user attributes, foreign
// signatures, newer packets) has no effect, and is not lost.
type Certificate struct {
	bytes  []byte
	parts  []component // the primary key first
	key    *packet.PublicKey
	finger Fingerprint // of key
	body   []byte      // of the primary key's packet
	checks sync.Once   // guards checked
	facts  *checked
	// autocrypt is what autocryptField has made last.
	autocrypt atomic.Pointer[autocryptMemo]
}

// ParseCertificates reads binary or armored certificates, one or several. A
// certificate that is malformed is left out of the answer and told in err
// beside the ones that are well; secret key material is ErrSecretKey, and then
// nothing of the input is returned. A certificate without user ID, as
// directories give it (keys.openpgp.org), is well but of use only to Merge.
func ParseCertificates(b []byte) ([]*Certificate, error) {
	if len(b) > maxCertificatesInput {
		return nil, fmt.Errorf("%d bytes of certificates are too many: %w", len(b), ErrMalformed)
	}
	if len(bytes.TrimSpace(b)) == 0 {
		return nil, fmt.Errorf("no certificate: %w", ErrMalformed)
	}
	if b[0]&0x80 != 0 {
		return parseBinary(b)
	}
	var all []*Certificate
	var errs []error
	blocks := 0
	for {
		block, rest, ok := nextArmor(b)
		if !ok {
			break
		}
		b = rest
		blocks++
		if block.kind == blockSecret {
			return nil, ErrSecretKey
		}
		if block.kind != blockPublic {
			errs = append(errs, fmt.Errorf("armor of another kind than a public key: %w", ErrMalformed))
			continue
		}
		data, err := block.decode()
		if err != nil {
			errs = append(errs, err)
			continue
		}
		some, err := parseBinary(data)
		if errors.Is(err, ErrSecretKey) {
			return nil, err
		}
		all, errs = append(all, some...), append(errs, err)
	}
	if blocks == 0 {
		return nil, fmt.Errorf("neither packets nor an armored public key: %w", ErrMalformed)
	}
	return all, errors.Join(errs...)
}

// parseBinary cuts b where primary keys begin.
func parseBinary(b []byte) ([]*Certificate, error) {
	packets, cutErr := cutPackets(bytes.Clone(b))
	var all []*Certificate
	var errs []error
	start := -1
	flush := func(end int) {
		if start < 0 {
			return
		}
		c, err := newCertificate(packets[start:end])
		if err != nil {
			errs = append(errs, err)
			return
		}
		all = append(all, c)
	}
	for i, p := range packets {
		switch p.tag {
		case tagSecretKey, tagSecretSubkey:
			return nil, ErrSecretKey
		case tagPublicKey:
			flush(i)
			start = i
		}
	}
	if cutErr != nil { // whatever the fault cut off belongs to the last one
		start = -1
		errs = append(errs, cutErr)
	}
	flush(len(packets))
	if len(all) == 0 && len(errs) == 0 {
		errs = append(errs, fmt.Errorf("no public key among the packets: %w", ErrMalformed))
	}
	return all, errors.Join(errs...)
}

// newCertificate makes one of packets that begin with its primary key.
func newCertificate(packets []rawPacket) (*Certificate, error) {
	size := 0
	for _, p := range packets {
		size += len(p.raw)
	}
	if size > maxCertificateSize || len(packets) > maxCertificatePackets {
		return nil, fmt.Errorf("certificate of %d bytes and %d packets is too large: %w", size, len(packets), ErrMalformed)
	}
	p, err := parsePacket(packets[0].raw)
	if err != nil {
		return nil, fmt.Errorf("primary key: %v: %w", err, ErrMalformed)
	}
	key, ok := p.(*packet.PublicKey)
	if !ok || key.IsSubkey || key.Version != 4 && key.Version != 6 || !key.PubKeyAlgo.CanSign() {
		return nil, fmt.Errorf("primary key is of a version or algorithm that we don't know: %w", ErrMalformed)
	}
	if tooLarge(key, packets[0].body) {
		return nil, fmt.Errorf("primary key of %d bytes is too large: %w", len(packets[0].body), ErrMalformed)
	}
	c := &Certificate{key: key, finger: fingerprintOf(key.Fingerprint), body: bytes.Clone(packets[0].body), parts: group(packets)}
	c.bytes = make([]byte, 0, size)
	for _, p := range packets {
		c.bytes = append(c.bytes, p.raw...)
	}
	return c, nil
}

// Fingerprint is that of the primary key.
func (c *Certificate) Fingerprint() Fingerprint { return c.finger }

func fingerprintOf(b []byte) Fingerprint {
	return Fingerprint(strings.ToUpper(hex.EncodeToString(b)))
}

// PrimaryKey is the body of the primary key's packet (RFC 9580, Section 5.5.2),
// for those who must not rely on a SHA-1 fingerprint. The caller must not change it.
func (c *Certificate) PrimaryKey() []byte { return c.body }

// Version is that of the primary key, 4 or 6.
func (c *Certificate) Version() int { return c.key.Version }

// KeyIDs are those of the primary key and every subkey, bound or not.
func (c *Certificate) KeyIDs() []uint64 {
	ids := []uint64{c.key.KeyId}
	for _, s := range c.checked().subkeys {
		ids = append(ids, s.key.KeyId)
	}
	return ids
}

// SignerIDs are those of the keys that signatures may be of: the primary key's, and
// the subkeys' that were bound to sign, which such a subkey must have agreed to
// (RFC 9580, Section 5.2.1.8). Anybody can have anybody's key as a subkey that
// isn't.
func (c *Certificate) SignerIDs() []uint64 {
	ids := []uint64{c.key.KeyId}
	for _, s := range c.checked().subkeys {
		if slices.ContainsFunc(s.bindings, func(b signature) bool { return b.parsed.FlagSign }) {
			ids = append(ids, s.key.KeyId)
		}
	}
	return ids
}

// hasKey tells whether the primary key or a subkey has that fingerprint.
func (c *Certificate) hasKey(f Fingerprint) bool {
	if c.Fingerprint() == f {
		return true
	}
	for _, s := range c.checked().subkeys {
		if fingerprintOf(s.key.Fingerprint) == f {
			return true
		}
	}
	return false
}

// Bytes are the original packets, binary. The caller must not change them.
func (c *Certificate) Bytes() []byte { return c.bytes }

// Armored is Bytes as an armor block.
func (c *Certificate) Armored() string {
	return encodeArmor(blockPublic, c.bytes, c.key.Version < 6)
}

// Created is when the primary key was made, in UTC.
func (c *Certificate) Created() time.Time { return c.key.CreationTime.UTC() }

// Expires is when the primary key expires, as its newest self-signatures say;
// zero means never, or that no self-signature is valid.
func (c *Certificate) Expires() time.Time {
	var end time.Time
	for _, sig := range c.checked().primarySignatures(time.Time{}, strict) {
		if sig.KeyLifetimeSecs == nil || *sig.KeyLifetimeSecs == 0 {
			continue
		}
		at := c.Created().Add(time.Duration(*sig.KeyLifetimeSecs) * time.Second)
		if end.IsZero() || at.Before(end) {
			end = at
		}
	}
	return end
}

// Algorithm is the primary key's, in words, such as "EdDSA Curve25519" or
// "RSA 3072".
func (c *Certificate) Algorithm() string { return algorithmName(c.key) }

// UserIDs are those with a valid self-signature by SHA-2 or better and not
// revoked, whether expired or not, in their order, made safe to show. User IDs
// with control characters don't count.
func (c *Certificate) UserIDs() []string {
	var ids []string
	for _, u := range c.checked().users {
		if u.plain() && u.newest(time.Time{}, strict) != nil && !u.revoked(time.Time{}) {
			ids = append(ids, showable(u.text))
		}
	}
	return ids
}

// Has tells whether a valid user ID names exactly this address.
func (c *Certificate) Has(a address.Address) bool {
	for _, u := range c.checked().users {
		if u.names(a) && u.newest(time.Time{}, strict) != nil && !u.revoked(time.Time{}) {
			return true
		}
	}
	return false
}

// Revoked tells whether the primary key is revoked: at any time if the reason
// is unknown, none or compromise; from the revocation on if it was retired.
func (c *Certificate) Revoked(now time.Time) bool { return c.checked().revoked(now) }

// CheckEncrypt is nil if the certificate can be encrypted to at that time; else
// ErrExpired, ErrRevoked, ErrWeak or ErrUnusable. One that was made up to ten
// minutes later is as good: clocks differ.
func (c *Certificate) CheckEncrypt(now time.Time) (err error) {
	_, err = c.encryptionKey(now)
	return err
}

// encryptionKey is what to encrypt to, or the error of CheckEncrypt.
func (c *Certificate) encryptionKey(now time.Time) (key openpgp.Key, err error) {
	defer caught(&err)
	if c.Revoked(now) {
		return key, ErrRevoked
	}
	if key, err = c.entity(strict).EncryptionKeyWithError(now, strictConfig(now)); err == nil {
		return key, nil
	}
	if later := now.Add(clockSkew); !c.Revoked(later) {
		if _, err := c.entity(strict).EncryptionKeyWithError(later, strictConfig(later)); err == nil {
			return clamped(c.entity(strict), now).EncryptionKeyWithError(now, strictConfig(now))
		}
	}
	if _, err := c.entity(lenient).EncryptionKeyWithError(now, lenientConfig(now)); err == nil {
		return openpgp.Key{}, ErrWeak
	}
	return openpgp.Key{}, c.checked().whyNot(now)
}

// storageKey is encryptionKey, and one that has expired is as good.
func (c *Certificate) storageKey(now time.Time) (key openpgp.Key, err error) {
	defer caught(&err)
	if key, err = c.encryptionKey(now); !errors.Is(err, ErrExpired) {
		return key, err
	}
	return timeless(c.entity(strict), now).EncryptionKeyWithError(now, strictConfig(now))
}

// entity is the engine's view of c: what verified, without foreign signatures.
// It may be shared, and must not be changed; see marked for why the engine
// doesn't.
func (c *Certificate) entity(s strictness) *openpgp.Entity { return c.checked().entity(s) }

func (c *Certificate) checked() *checked {
	c.checks.Do(func() { c.facts = check(c.key, c.parts) })
	return c.facts
}

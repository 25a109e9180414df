package pgp

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// ErrNoSecret means that a file has no secret key where one belongs: it is a
// certificate, or only stubs of a key that lies elsewhere (a smart card, an
// offline primary key).
var ErrNoSecret = errors.New("no secret key")

// ErrCannotSign means that a key is here, but none of it may sign now.
var ErrCannotSign = errors.New("key cannot sign")

// Signer makes signatures with a secret key that stays behind it. It may be
// used concurrently.
type Signer interface {
	Certificate() *Certificate
	// signingEntity gives the engine the key; only this package calls it.
	signingEntity() *openpgp.Entity
}

// Decrypter opens session keys with secret keys that stay behind it. It may be
// used concurrently.
type Decrypter interface {
	Certificates() []*Certificate
	// decryptionKeys gives the engine the keys; only this package calls it.
	decryptionKeys() openpgp.EntityList
}

// Key is a certificate with its secrets, unlocked. It is a Signer and a
// Decrypter, immutable and safe for concurrent use.
type Key struct {
	// secret is the transferable secret key (RFC 9580, Section 10.2), without
	// passphrase, in the order in which the packets came. Everything else is
	// derived from it: the engine keeps user IDs in a map and would put them in
	// another order each time.
	secret []byte
	cert   *Certificate
	// secrets are the unlocked keys by fingerprint, stubs left out.
	secrets map[string]*packet.PrivateKey
	// offline is set where the primary secret is only a stub.
	offline bool
	// strict is the strict entity, nil before the first call for it.
	strict atomic.Pointer[openpgp.Entity]
}

var (
	_ Signer    = (*Key)(nil)
	_ Decrypter = (*Key)(nil)
)

// newKey makes a Key of an unlocked transferable secret key. It keeps secret.
func newKey(secret []byte) (k *Key, err error) {
	defer caught(&err)
	groups, err := keyGroups(secret)
	if err != nil {
		return nil, err
	}
	if len(groups) != 1 {
		return nil, fmt.Errorf("%d keys where one belongs: %w", len(groups), ErrMalformed)
	}
	parsed, err := secretPackets(groups[0])
	if err != nil {
		return nil, err
	}
	return assemble(secret, groups[0], parsed)
}

// assemble is newKey where the packets were read already: parsing an RSA or
// ElGamal secret proves its numbers, which takes seconds for the largest.
func assemble(secret []byte, group []*packet.OpaquePacket, parsed []*packet.PrivateKey) (*Key, error) {
	public, offline, err := publicGroup(group)
	if err != nil {
		return nil, err
	}
	certs, err := ParseCertificates(public)
	if len(certs) != 1 {
		return nil, fmt.Errorf("reading a secret key's certificate: %w", errors.Join(ErrMalformed, err))
	}
	k := &Key{secret: secret, cert: certs[0], secrets: map[string]*packet.PrivateKey{}, offline: offline}
	for _, p := range parsed {
		if p != nil && !p.Dummy() && !p.Encrypted {
			k.secrets[string(p.Fingerprint)] = p
		}
	}
	return k, nil
}

// entity is the engine's view of the key: that of [Certificate.entity], with the
// secrets that are here. It may be shared, and must not be changed.
func (k *Key) entity(s strictness) *openpgp.Entity {
	if e := k.strict.Load(); e != nil && s == strict {
		return e
	}
	e := *k.cert.entity(s)
	e.PrivateKey = k.secrets[string(e.PrimaryKey.Fingerprint)]
	e.Subkeys = slices.Clone(e.Subkeys)
	for i := range e.Subkeys {
		e.Subkeys[i].Primary, e.Subkeys[i].PrivateKey = &e, k.secrets[string(e.Subkeys[i].PublicKey.Fingerprint)]
	}
	if s == strict {
		k.strict.Store(&e)
	}
	return &e
}

// Certificate is the public part. It implements Signer.
func (k *Key) Certificate() *Certificate { return k.cert }

// Certificates implements Decrypter.
func (k *Key) Certificates() []*Certificate { return []*Certificate{k.cert} }

func (k *Key) signingEntity() *openpgp.Entity { return k.entity(strict) }

// decryptionKeys are lenient, so that old mail to a key with a self-signature of
// its time stays readable.
func (k *Key) decryptionKeys() openpgp.EntityList {
	return openpgp.EntityList{k.entity(lenient)}
}

// Fingerprint is that of the primary key.
func (k *Key) Fingerprint() Fingerprint { return k.cert.Fingerprint() }

// Offline tells whether the secret of the primary key lies elsewhere, so that
// the key can sign and decrypt with subkeys, but can't be extended here.
func (k *Key) Offline() bool { return k.offline }

// CheckSign is nil if the key can sign at that time; else ErrExpired,
// ErrRevoked, ErrWeak, ErrNoSecret where the signing key is a stub, or
// ErrCannotSign.
func (k *Key) CheckSign(now time.Time) (err error) {
	defer caught(&err)
	if k.cert.Revoked(now) {
		return ErrRevoked
	}
	if e := k.cert.Expires(); !e.IsZero() && !now.Before(e) {
		return ErrExpired
	}
	s, ok := k.entity(strict).SigningKeyById(now, 0, engineConfig(now))
	switch {
	case !ok:
		if _, weak := k.entity(lenient).SigningKeyById(now, 0, lenientConfig(now)); weak {
			return ErrWeak
		}
		return ErrCannotSign
	case s.PrivateKey == nil:
		return fmt.Errorf("the signing key is only a stub here: %w", ErrNoSecret)
	}
	return nil
}

// Wipe overwrites what it can reach of the secret. The key is of no use
// afterwards, and must not be in use. The engine and the garbage collector may have made copies.
func (k *Key) Wipe() {
	clear(k.secret)
	k.secret = nil
	clear(k.secrets)
	k.strict.Store(nil)
}

// Keys makes one Decrypter of several keys, tried in that order.
func Keys(keys ...*Key) Decrypter { return keyList(keys) }

type keyList []*Key

func (l keyList) Certificates() []*Certificate {
	certs := make([]*Certificate, len(l))
	for i, k := range l {
		certs[i] = k.cert
	}
	return certs
}

func (l keyList) decryptionKeys() openpgp.EntityList {
	entities := make(openpgp.EntityList, len(l))
	for i, k := range l {
		entities[i] = k.entity(lenient)
	}
	return entities
}

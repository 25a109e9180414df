package pgp

import (
	"bytes"
	"crypto"
	"fmt"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// Extend is the key valid from now for another Lifetime, by new self-signatures
// beside the old ones; every other packet stays as it is and where it is. With
// the primary key go its user IDs, unless revoked, and those subkeys that
// would have outlived it or are still valid: one retired earlier stays retired.
// The primary secret must be here (ErrNoSecret), and the key not revoked.
func Extend(k *Key, now time.Time) (extended *Key, err error) {
	defer caught(&err)
	x := extension{key: k, facts: k.cert.checked(), now: now.Truncate(time.Second)}
	if x.primary = k.secrets[string(k.cert.key.Fingerprint)]; x.primary == nil {
		return nil, fmt.Errorf("extending a key: the primary secret is not here: %w", ErrNoSecret)
	}
	if k.cert.Revoked(now) {
		return nil, fmt.Errorf("extending a key: %w", ErrRevoked)
	}
	groups, err := keyGroups(k.secret)
	if err != nil {
		return nil, err
	}
	var out, pending bytes.Buffer
	for _, p := range groups[0] {
		if p.Tag != tagSignature && p.Tag != tagTrust { // a component ends before p
			_, _ = pending.WriteTo(&out)
			if err := x.resign(&pending, p); err != nil {
				return nil, fmt.Errorf("extending a key: %w", err)
			}
		}
		if err := p.Serialize(&out); err != nil {
			return nil, fmt.Errorf("extending a key: %w", err)
		}
	}
	_, _ = pending.WriteTo(&out)
	return newKey(out.Bytes())
}

type extension struct {
	key     *Key
	facts   *checked
	primary *packet.PrivateKey
	now     time.Time
}

// resign writes the new self-signature for the component that p begins, if it
// gets one.
func (x extension) resign(w *bytes.Buffer, p *packet.OpaquePacket) error {
	switch p.Tag {
	case tagSecretKey:
		if old := newestOf(x.facts.direct, time.Time{}, strict); old != nil {
			sig := x.renewed(old.parsed, x.primary)
			return x.finish(w, sig, sig.SignDirectKeyBinding(&x.primary.PublicKey, x.primary, x.config()))
		}
	case tagUserID:
		for _, u := range x.facts.users {
			old := u.newest(time.Time{}, strict)
			if !bytes.Equal(u.raw.body, p.Contents) || old == nil || u.revoked(x.now) {
				continue
			}
			sig := x.renewed(old.parsed, x.primary)
			return x.finish(w, sig, sig.SignUserId(u.text, &x.primary.PublicKey, x.primary, x.config()))
		}
	case tagSecretSubkey, tagPublicSubkey:
		for _, s := range x.facts.subkeys {
			n := len(s.raw.body)
			if n > len(p.Contents) || !bytes.Equal(s.raw.body, p.Contents[:n]) {
				continue
			}
			return x.resignSubkey(w, s)
		}
	}
	return nil
}

func (x extension) resignSubkey(w *bytes.Buffer, s *subkey) error {
	old := s.newest(time.Time{}, strict)
	if old == nil || s.revoked(x.now) {
		return nil
	}
	end, ends := expiry(s.key, old.parsed)
	if !ends {
		return nil // as long as the primary key
	}
	if whole := x.key.cert.Expires(); end.Before(x.now) && (whole.IsZero() || end.Before(whole)) {
		return nil // retired
	}
	sig := x.renewed(old.parsed, x.primary)
	life := uint32(x.now.Add(Lifetime).Sub(s.key.CreationTime) / time.Second)
	sig.KeyLifetimeSecs = &life
	return x.finish(w, sig, sig.SignKey(s.key, x.primary, x.config()))
}

// expiry is when a binding says that a key ends; false for never.
func expiry(key *packet.PublicKey, sig *packet.Signature) (time.Time, bool) {
	if sig.KeyLifetimeSecs == nil || *sig.KeyLifetimeSecs == 0 {
		return time.Time{}, false
	}
	return key.CreationTime.Add(time.Duration(*sig.KeyLifetimeSecs) * time.Second), true
}

// renewed is a signature that says what old says, made now and by that key, with
// the new end of the primary key where old told one or could.
func (x extension) renewed(old *packet.Signature, by *packet.PrivateKey) *packet.Signature {
	life := uint32(x.now.Add(Lifetime).Sub(by.CreationTime) / time.Second)
	hash := old.Hash
	if weakHash(hash) {
		hash = crypto.SHA512
	}
	return &packet.Signature{
		Version: by.Version, SigType: old.SigType, PubKeyAlgo: by.PubKeyAlgo, Hash: hash,
		CreationTime: x.now, IssuerKeyId: &by.KeyId,
		KeyLifetimeSecs:       &life,
		PreferredSymmetric:    old.PreferredSymmetric,
		PreferredHash:         old.PreferredHash,
		PreferredCompression:  old.PreferredCompression,
		PreferredCipherSuites: old.PreferredCipherSuites,
		IsPrimaryId:           old.IsPrimaryId,
		Notations:             old.Notations,
		KeyserverPrefsValid:   old.KeyserverPrefsValid,
		KeyserverPrefNoModify: old.KeyserverPrefNoModify,
		PreferredKeyserver:    old.PreferredKeyserver,
		PolicyURI:             old.PolicyURI,
		FlagsValid:            old.FlagsValid, FlagCertify: old.FlagCertify, FlagSign: old.FlagSign,
		FlagEncryptCommunications: old.FlagEncryptCommunications, FlagEncryptStorage: old.FlagEncryptStorage,
		FlagSplitKey: old.FlagSplitKey, FlagAuthenticate: old.FlagAuthenticate, FlagGroupKey: old.FlagGroupKey,
		SEIPDv1: old.SEIPDv1, SEIPDv2: old.SEIPDv2,
		EmbeddedSignature: old.EmbeddedSignature,
	}
}

func (x extension) finish(w *bytes.Buffer, sig *packet.Signature, err error) error {
	if err != nil {
		return err
	}
	return sig.Serialize(w)
}

func (x extension) config() *packet.Config { return engineConfig(x.now) }

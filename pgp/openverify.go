package pgp

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"slices"
	"time"

	pgperrors "github.com/ProtonMail/go-crypto/openpgp/errors"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"letterlock.org/letterlock/internal/address"
)

// verifier judges signatures for one message.
type verifier struct {
	stored CertificateStore
	ours   []*Certificate // of the account's own keys
	own    []address.Address
	now    time.Time
}

func newVerifier(o Opening) *verifier {
	v := &verifier{stored: o.Certificates, own: o.Own, now: o.Now}
	if o.Keys != nil {
		v.ours = o.Keys.Certificates()
	}
	if v.now.IsZero() {
		v.now = time.Now()
	}
	return v
}

// judged is what one signature is worth, by itself.
type judged struct {
	state  SignatureState // without regard to who claims to have written
	by     *Certificate   // whose key made it; nil unless the signature fits
	made   time.Time
	sig    *packet.Signature // where by is set
	sealed bool              // by our own key, with the notation of Seal
	warn   []string
}

// judge finds the certificate that made a signature and says what it is worth.
// Several stored certificates may share a key ID; the one whose fingerprint the
// signature names is tried first, then each of the others.
func (v *verifier) judge(ctx context.Context, d digest) (judged, error) {
	switch {
	case d.weak:
		return judged{state: SignatureWeak}, nil
	case d.sig == nil:
		return judged{state: SignatureUnknown}, nil
	}
	id, ok := issuer(d.sig)
	if !ok || d.hash == nil {
		return judged{state: SignatureBad}, nil
	}
	candidates, err := v.candidates(ctx, id, d.sig)
	if err != nil {
		return judged{}, err
	}
	best := judged{state: SignatureUnknown}
	for _, c := range candidates {
		j := v.try(c, id, d)
		if j.state.rank() > best.state.rank() {
			best = j
		}
	}
	if hasNotation(d.sig, sealedNotation) && best.state == SignatureUnknown {
		best = judged{state: SignatureBad, warn: []string{WarnSealForged}} // only we may say that
	}
	return best, nil
}

// issuer is the key ID that a signature names.
func issuer(sig *packet.Signature) (uint64, bool) {
	switch f := sig.IssuerFingerprint; {
	case sig.IssuerKeyId != nil:
		return *sig.IssuerKeyId, true
	case len(f) == 32:
		return bigEndian(f[:8]), true
	case len(f) == 20:
		return bigEndian(f[12:]), true
	}
	return 0, false
}

func bigEndian(b []byte) (n uint64) {
	for _, c := range b {
		n = n<<8 | uint64(c)
	}
	return n
}

// candidates lists our own and the stored certificates with that key ID, in an
// order that does not depend on the store's.
func (v *verifier) candidates(ctx context.Context, id uint64, sig *packet.Signature) ([]*Certificate, error) {
	var all []*Certificate
	for _, c := range v.ours {
		if slices.Contains(c.KeyIDs(), id) {
			all = append(all, c)
		}
	}
	if v.stored != nil {
		stored, err := v.stored.Issuer(ctx, id)
		if err != nil {
			return nil, fmt.Errorf("looking up the certificate of a signature: %w", err)
		}
		for _, c := range stored {
			if c != nil && !slices.ContainsFunc(all, func(o *Certificate) bool { return o.Fingerprint() == c.Fingerprint() }) {
				all = append(all, c)
			}
		}
	}
	names := func(c *Certificate) int {
		if len(sig.IssuerFingerprint) > 0 && c.hasKey(fingerprintOf(sig.IssuerFingerprint)) {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(all, func(a, b *Certificate) int {
		if d := names(a) - names(b); d != 0 {
			return d
		}
		return compare(a.Fingerprint(), b.Fingerprint())
	})
	return all[:min(len(all), 8)], nil
}

func compare(a, b Fingerprint) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// try checks a signature against one certificate: first by what is safe today,
// then, to say why not, by anything that could have made it.
func (v *verifier) try(c *Certificate, id uint64, d digest) (j judged) {
	j = judged{state: SignatureBad, made: d.sig.CreationTime}
	named := len(d.sig.IssuerFingerprint) == 0 || c.hasKey(fingerprintOf(d.sig.IssuerFingerprint))
	if !named {
		return judged{state: SignatureUnknown} // only the key ID is the same
	}
	err := recoverCall(func() error {
		if key, ok := c.entity(strict).SigningKeyById(j.made, id, strictConfig(j.made)); ok {
			if verifies(key.PublicKey, d) {
				j.by, j.sig = c, d.sig
				j.state = v.details(c, key, d.sig)
			}
			return nil
		}
		lax := c.entity(lenient)
		pub := findKey(lax, id)
		if pub == nil || c.Version() < 6 && len(lax.Identities) == 0 {
			j.state = SignatureUnknown // not this certificate's key, or not yet anybody's
			return nil
		}
		if !verifies(pub, d) {
			return nil
		}
		j.by = c
		j.state, j.warn = whyInvalid(c, lax, id, j.made)
		return nil
	})
	if err != nil {
		return judged{state: SignatureBad}
	}
	j.sealed = j.by != nil && j.state.rank() > SignatureBad.rank() && v.isOurs(c) && hasNotation(d.sig, sealedNotation) && !c.Revoked(j.made) && len(j.warn) == 0
	if !j.sealed && hasNotation(d.sig, sealedNotation) {
		j.state = SignatureBad
		j.warn = append(j.warn, WarnSealForged)
	}
	if len(d.sig.IntendedRecipients) > 0 && j.state.rank() > SignatureBad.rank() && !v.intended(d.sig) {
		j.warn = append(j.warn, WarnNotForUs)
	}
	return j
}

// verifies checks the mathematics, on a copy of the hash.
func verifies(pub *packet.PublicKey, d digest) bool {
	clone, ok := d.hash.(hash.Cloner)
	if !ok {
		return false
	}
	h, err := clone.Clone()
	return err == nil && pub.VerifySignature(h, d.sig) == nil
}

// details checks what surrounds a signature that fits (RFC 9580, Section 5.2.5).
func (v *verifier) details(c *Certificate, key openpgp.Key, sig *packet.Signature) SignatureState {
	switch {
	case weakHash(sig.Hash):
		return SignatureWeak
	case sig.CreationTime.Before(key.PublicKey.CreationTime.Truncate(time.Second)):
		return SignatureBad
	case criticalUnknown(sig):
		return SignatureBad
	case sig.SigExpired(v.now) && sig.SigLifetimeSecs != nil && *sig.SigLifetimeSecs != 0 && v.now.After(sig.CreationTime):
		return SignatureExpired
	}
	if byGateway(sig) {
		return SignatureGateway
	}
	return SignatureValid
}

// criticalUnknown tells of a critical notation that we don't know.
func criticalUnknown(sig *packet.Signature) bool {
	return slices.ContainsFunc(sig.Notations, func(n *packet.Notation) bool {
		return n.IsCritical && n.Name != sealedNotation
	})
}

func hasNotation(sig *packet.Signature, name string) bool {
	return slices.ContainsFunc(sig.Notations, func(n *packet.Notation) bool { return n.Name == name })
}

// findKey is the primary key or a bound subkey of that ID.
func findKey(e *openpgp.Entity, id uint64) *packet.PublicKey {
	if e.PrimaryKey.KeyId == id {
		return e.PrimaryKey
	}
	for _, s := range e.Subkeys {
		if s.PublicKey.KeyId == id {
			return s.PublicKey
		}
	}
	return nil
}

// whyInvalid says why a key that made a signature could not at that time.
func whyInvalid(c *Certificate, lax *openpgp.Entity, id uint64, made time.Time) (SignatureState, []string) {
	if _, ok := lax.SigningKeyById(made, id, lenientConfig(made)); ok {
		return SignatureWeak, nil
	}
	for _, s := range c.checked().subkeys {
		if s.key.KeyId == id && s.revoked(made) {
			return SignatureBad, []string{WarnRevoked}
		}
	}
	if c.Revoked(made) {
		return SignatureBad, []string{WarnRevoked}
	}
	_, err := lax.VerifyPrimaryKey(made, lenientConfig(made))
	if errors.Is(err, pgperrors.ErrKeyExpired) && !made.Before(lax.PrimaryKey.CreationTime) || wasExpired(lax, id, made) {
		return SignatureExpired, nil
	}
	return SignatureBad, nil
}

// wasExpired tells whether a subkey that may sign had expired.
func wasExpired(e *openpgp.Entity, id uint64, made time.Time) bool {
	for _, s := range e.Subkeys {
		if s.PublicKey.KeyId != id {
			continue
		}
		sig, err := s.LatestValidBindingSignature(time.Time{}, lenientConfig(made))
		return err == nil && sig.FlagSign && !made.Before(s.PublicKey.CreationTime) && s.Expired(sig, made)
	}
	return false
}

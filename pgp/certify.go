package pgp

import (
	"bytes"
	"crypto"
	"fmt"
	"slices"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"letterlock.org/letterlock/internal/address"
)

// Certification is what one key says of a user ID of another's certificate.
type Certification struct {
	Made    time.Time
	Expires time.Time // zero: never
	// Depth is that of a trust signature (RFC 9580, Section 5.2.3.21): 0 says only
	// whose key it is, 1 also that it may say so of others.
	Depth int
	// Scope is the domain within which that holds; "" is everywhere.
	Scope string
}

// successorNotation is on the certification by which an owner's old key says
// that the new one takes its place. It is not critical: others may do without.
const successorNotation = "successor@letterlock.org"

// maxForeignChecks bounds the signatures of one issuer over one user ID that are
// verified. Whoever appends more can only hide one, never make one.
const maxForeignChecks = 64

// Certify is c with a certification (0x13) by the primary key of by over each
// valid user ID of c that names a; every packet of c stays as it is and where it
// is. Made and Now are the same: s.Made is not read. The secret must be here
// (ErrNoSecret), by in order at that time, and c name a (ErrUnusable).
func Certify(by *Key, c *Certificate, a address.Address, s Certification, now time.Time) (*Certificate, error) {
	return certify(by, c, a, s, nil, now)
}

func certify(by *Key, c *Certificate, a address.Address, s Certification, notes []*packet.Notation, now time.Time) (out *Certificate, err error) {
	defer caught(&err)
	return attest(by, c, a, now, func(primary *packet.PrivateKey, id string) (rawPacket, error) {
		return statement(primary, c.key, id, s, notes, now)
	})
}

// attest is c with a signature by the primary key of by under each valid user ID
// of c that names a.
func attest(by *Key, c *Certificate, a address.Address, now time.Time, sign func(primary *packet.PrivateKey, id string) (rawPacket, error)) (*Certificate, error) {
	primary := by.secrets[string(by.cert.key.Fingerprint)]
	switch {
	case primary == nil:
		return nil, fmt.Errorf("certifying: the primary secret is not here: %w", ErrNoSecret)
	case by.Fingerprint() == c.Fingerprint():
		return nil, fmt.Errorf("certifying: a key doesn't certify itself: %w", ErrUnusable)
	}
	if err := by.cert.CheckCertify(now); err != nil {
		return nil, fmt.Errorf("certifying: %w", err)
	}
	parts := slices.Clone(c.parts)
	some := false
	for i, p := range parts {
		u := c.user(p, a)
		if u == nil {
			continue
		}
		raw, err := sign(primary, u.text)
		if err != nil {
			return nil, fmt.Errorf("certifying: %w", err)
		}
		parts[i].signatures = append(slices.Clone(p.signatures), raw)
		some = true
	}
	if !some {
		return nil, fmt.Errorf("certificate %s has no user ID of %s: %w", c.Fingerprint(), a, ErrUnusable)
	}
	return newCertificate(packets(parts))
}

// statement is the signature packet.
func statement(by *packet.PrivateKey, key *packet.PublicKey, id string, s Certification, notes []*packet.Notation, now time.Time) (rawPacket, error) {
	sig := &packet.Signature{
		Version: by.Version, SigType: packet.SigTypePositiveCert, PubKeyAlgo: by.PubKeyAlgo, Hash: crypto.SHA512,
		CreationTime: now.Truncate(time.Second), IssuerKeyId: &by.KeyId, IssuerFingerprint: by.Fingerprint, Notations: notes,
	}
	if !s.Expires.IsZero() {
		life := uint32(max(1, s.Expires.Sub(sig.CreationTime)/time.Second))
		sig.SigLifetimeSecs = &life
	}
	if s.Depth > 0 {
		sig.TrustLevel, sig.TrustAmount = packet.TrustLevel(s.Depth), 120 // complete trust
		if s.Scope != "" {
			// The form that GnuPG and Sequoia write and read.
			scope := `<[^>]+[@.]` + quoteRegexp(s.Scope) + `>$`
			sig.TrustRegularExpression = &scope
		}
	}
	return signedID(sig, by, key, id, now)
}

// quoteRegexp is a domain for the regular expressions of RFC 9580, Section 8.
func quoteRegexp(domain string) string {
	var b []byte
	for _, c := range []byte(domain) {
		if c == '.' || c == '-' || c == '\\' {
			b = append(b, '\\')
		}
		b = append(b, c)
	}
	return string(b)
}

// CheckCertify is nil if what the primary key certifies at that time counts:
// else ErrRevoked, ErrExpired, or ErrWeak for an algorithm that is not safe.
func (c *Certificate) CheckCertify(now time.Time) error {
	e := c.Expires()
	switch {
	case c.Revoked(now):
		return ErrRevoked
	case !e.IsZero() && !now.Before(e):
		return ErrExpired
	case !strongCertifier(c.key):
		return ErrWeak
	}
	return nil
}

// strongCertifier tells whether signatures of a key can't be forged today.
func strongCertifier(key *packet.PublicKey) bool {
	rules := strictConfig(time.Time{})
	if rules.RejectPublicKeyAlgorithm(key.PubKeyAlgo) {
		return false
	}
	switch key.PubKeyAlgo {
	case packet.PubKeyAlgoRSA, packet.PubKeyAlgoRSASignOnly:
		bits, err := key.BitLength()
		return err == nil && bits >= rules.MinimumRSABits()
	case packet.PubKeyAlgoEdDSA, packet.PubKeyAlgoECDSA:
		curve, err := key.Curve()
		return err == nil && !rules.RejectCurve(curve)
	case packet.PubKeyAlgoDSA:
		return false
	}
	return true
}

// CertifiedBy is the newest certification that the primary key of by made of a
// valid user ID of c that names a, in force at that time. It was made by SHA-2
// or better, while by was neither expired nor retired; of a key that may be in
// other hands (revoked as compromised, or without reason) none counts. Whether
// by itself may still be relied on now is for [Certificate.CheckCertify].
func (c *Certificate) CertifiedBy(by *Certificate, a address.Address, now time.Time) (best Certification, ok bool) {
	if by.Fingerprint() == c.Fingerprint() || !strongCertifier(by.key) || by.compromised() {
		return best, false
	}
	for _, p := range union(c.parts, nil) {
		u := c.user(p, a)
		if u == nil {
			continue
		}
		if s := by.says(c, p, u, now); s != nil && (!ok || s.parsed.CreationTime.After(best.Made)) {
			best, ok = certificationOf(s.parsed), true
		}
	}
	return best, ok
}

// says is the newest certification by the primary key of by over a user ID of c,
// unless it was withdrawn; nil if there is none.
func (by *Certificate) says(c *Certificate, p component, u *userID, now time.Time) *signature {
	best, _ := by.word(c, p, u, now)
	return best
}

// word is what says is, and the newest signature by which something was withdrawn.
func (by *Certificate) word(c *Certificate, p component, u *userID, now time.Time) (best, withdrawal *signature) {
	// Each kind has a budget of its own, so that no number of the one hides the
	// other; and where not all that may withdraw could be looked at, it is withdrawn.
	budget, budgetRevoking, unseen := maxForeignChecks, maxForeignChecks, false
	for _, raw := range p.signatures {
		if raw.tag != tagSignature || len(raw.body) < 2 {
			continue
		}
		t := packet.SignatureType(raw.body[1])
		revokes := t == packet.SigTypeCertificationRevocation
		if !revokes && (t < packet.SigTypeGenericCert || t > packet.SigTypePositiveCert || budget == 0) {
			continue
		}
		parsed, err := parsePacket(raw.raw)
		sig, ok := parsed.(*packet.Signature)
		if err != nil || !ok || !sig.CheckKeyIdOrFingerprint(by.key) || hasCritical(sig) {
			continue
		}
		switch {
		case !revokes:
			budget--
		case budgetRevoking == 0:
			unseen = true
			continue
		default:
			budgetRevoking--
		}
		if recoverCall(func() error { return by.key.VerifyUserIdSignature(u.text, c.key, sig) }) != nil {
			continue
		}
		made, at := sig.CreationTime, now
		if made.After(now) && !made.After(now.Add(clockSkew)) {
			at = made // clocks differ
		}
		switch {
		case revokes:
			if withdrawal == nil || made.After(withdrawal.parsed.CreationTime) {
				withdrawal = &signature{raw: raw, parsed: sig}
			}
		case weakHash(sig.Hash), sig.SigExpired(at), !by.reliable(made):
		case best == nil || made.After(best.parsed.CreationTime):
			best = &signature{raw: raw, parsed: sig}
		}
	}
	if unseen || best != nil && withdrawal != nil && !best.parsed.CreationTime.After(withdrawal.parsed.CreationTime) {
		best = nil
	}
	return best, withdrawal
}

// user is the valid user ID of a component, if it names a.
func (c *Certificate) user(p component, a address.Address) *userID {
	if p.head.tag != tagUserID {
		return nil
	}
	for _, u := range c.checked().users {
		if bytes.Equal(u.raw.body, p.head.body) && u.names(a) && u.newest(time.Time{}, strict) != nil && !u.revoked(time.Time{}) {
			return u
		}
	}
	return nil
}

// reliable tells whether the key was in use at that time.
func (c *Certificate) reliable(at time.Time) bool {
	if e := c.Expires(); at.Before(c.Created()) || !e.IsZero() && !at.Before(e) {
		return false
	}
	return !slices.ContainsFunc(c.checked().revocations, func(r signature) bool { return at.After(r.parsed.CreationTime) })
}

// compromised tells of a revocation after which nothing that the key ever signed
// is believed.
func (c *Certificate) compromised() bool {
	return slices.ContainsFunc(c.checked().revocations, func(r signature) bool { return hardReason(r.parsed) })
}

func certificationOf(sig *packet.Signature) Certification {
	s := Certification{Made: sig.CreationTime.UTC(), Depth: int(sig.TrustLevel)}
	if sig.SigLifetimeSecs != nil && *sig.SigLifetimeSecs != 0 {
		s.Expires = s.Made.Add(time.Duration(*sig.SigLifetimeSecs) * time.Second)
	}
	if sig.TrustRegularExpression != nil {
		s.Scope = *sig.TrustRegularExpression
	}
	return s
}

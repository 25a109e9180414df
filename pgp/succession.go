package pgp

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"letterlock.org/letterlock/internal/address"
)

// successionGrace is for how long after its end an old key's word about its
// successor is still taken: who lets a key run out renews it late. Later, whoever
// comes by the old secret could put a key of their own in its place.
const successionGrace = 30 * 24 * time.Hour

// Succeeds tells whether c may take the place of old for an address, by the word
// of old itself: both name the address, c can be encrypted to, and old, by an
// algorithm that is safe today, certified that user ID of c while old was in
// use. An old key that is revoked as superseded or retired keeps its word from
// before; one that is revoked as compromised, or for no reason, has none, and
// neither has one that expired more than 30 days ago.
//
// It can't tell the owner of old from a thief: who has the old secret, and whose
// loss is not yet told, can name a successor. Callers make such a change known.
func (c *Certificate) Succeeds(old *Certificate, a address.Address, now time.Time) bool {
	if e := old.Expires(); !e.IsZero() && now.After(e.Add(successionGrace)) {
		return false
	}
	if !old.hadUser(a) || c.CheckEncrypt(now) != nil {
		return false
	}
	_, ok := c.CertifiedBy(old, a, now)
	return ok
}

// hadUser is Has, and a user ID that was revoked counts too: people revoke what
// they leave.
func (c *Certificate) hadUser(a address.Address) bool {
	return slices.ContainsFunc(c.checked().users, func(u *userID) bool {
		return u.names(a) && u.newest(time.Time{}, strict) != nil
	})
}

// Compromised tells whether the primary key is revoked so that nothing it ever
// signed is believed: as compromised, or without a reason.
func (c *Certificate) Compromised() bool { return c.compromised() }

// Replace is the new key with the old one's certification of its user IDs of an
// address, by which the programs of correspondents follow ([Certificate.Succeeds]).
// The old primary secret must be here (ErrNoSecret), and not be revoked or have
// expired.
func Replace(k, old *Key, a address.Address, now time.Time) (*Key, error) {
	note := []*packet.Notation{{Name: successorNotation, Value: []byte("1"), IsHumanReadable: true}}
	c, err := certify(old, k.cert, a, Certification{}, note, now)
	if err != nil {
		return nil, fmt.Errorf("replacing a key: %w", err)
	}
	return k.withSignatures(c)
}

// withSignatures is the key with those signatures over user IDs that c has and
// the key's own certificate hasn't.
func (k *Key) withSignatures(c *Certificate) (_ *Key, err error) {
	defer caught(&err)
	groups, err := keyGroups(k.secret)
	if err != nil {
		return nil, err
	}
	var out, pending bytes.Buffer
	for _, p := range groups[0] {
		if p.Tag != tagSignature && p.Tag != tagTrust {
			_, _ = pending.WriteTo(&out)
			if p.Tag == tagUserID {
				for _, s := range k.missing(c, p.Contents) {
					pending.Write(s.raw)
				}
			}
		}
		if err := p.Serialize(&out); err != nil {
			return nil, fmt.Errorf("adding signatures to a key: %w", err)
		}
	}
	_, _ = pending.WriteTo(&out)
	return newKey(out.Bytes())
}

// missing are the signatures over a user ID that only c has.
func (k *Key) missing(c *Certificate, id []byte) (out []rawPacket) {
	under := func(c *Certificate) (all []rawPacket) {
		for _, p := range c.parts {
			if p.head.tag == tagUserID && bytes.Equal(p.head.body, id) {
				all = append(all, p.signatures...)
			}
		}
		return all
	}
	have := under(k.cert)
	for _, s := range under(c) {
		if s.tag == tagSignature && !slices.ContainsFunc(have, func(h rawPacket) bool { return bytes.Equal(h.body, s.body) }) {
			out = append(out, s)
		}
	}
	return out
}

// successorMark is the newest certification of a user ID that says that it is a
// successor's, for an own certificate: it is not verified. It is told for a year.
func successorMark(p component, own *packet.PublicKey, now time.Time) (newest *signature) {
	for _, raw := range p.signatures {
		if raw.tag != tagSignature || len(raw.body) < 2 || raw.body[1] != byte(packet.SigTypePositiveCert) {
			continue
		}
		parsed, err := parsePacket(raw.raw)
		sig, ok := parsed.(*packet.Signature)
		if err != nil || !ok || sig.CheckKeyIdOrFingerprint(own) || now.Sub(sig.CreationTime) > 365*24*time.Hour {
			continue
		}
		says := slices.ContainsFunc(sig.Notations, func(n *packet.Notation) bool { return n.Name == successorNotation })
		if says && (newest == nil || sig.CreationTime.After(newest.parsed.CreationTime)) {
			newest = &signature{raw: raw, parsed: sig}
		}
	}
	return newest
}

// Certified is the key with what the approved certificates certified of it in
// another copy of its certificate, for a user ID of that address.
func Certified(k *Key, c *Certificate, a address.Address, now time.Time, approved ...*Certificate) (*Key, error) {
	if c.Fingerprint() != k.Fingerprint() {
		return nil, fmt.Errorf("taking over certifications of another key: %w", ErrMalformed)
	}
	kept, err := c.Minimal(a, now, approved...)
	if err != nil {
		return nil, err
	}
	return k.withSignatures(kept)
}

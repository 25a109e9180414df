package pgp

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"letterlock.org/letterlock/internal/address"
)

// Merge is the union of two states of one certificate (same primary key): the
// packets of a in their order, then what only b has, each signature under the
// packet that it is about. An update without user ID thus refreshes a stored
// certificate. Nothing that counts is forgotten; what a union means (a revocation,
// a newer self-signature) is decided where it is asked.
//
// Signatures that say they are the certificate's own and are not stay out of it,
// or whoever appends enough of them to copies would use up what may be verified.
// Where a union is too large for a certificate it has only what its own key signed
// (at last without subkeys, and of a revoked one the revocation alone): what
// others appended keeps no revocation out.
func Merge(a, b *Certificate) (c *Certificate, err error) {
	if a.Fingerprint() != b.Fingerprint() {
		return nil, fmt.Errorf("merging certificates of two primary keys: %w", ErrMalformed)
	}
	for _, of := range []func(*Certificate) []component{(*Certificate).unforged, (*Certificate).signed, (*Certificate).named} {
		if c, err = newCertificate(packets(union(of(a), of(b)))); err == nil {
			return c, nil
		}
	}
	if bare := union(a.bare(), b.bare()); len(bare[0].signatures) > 0 {
		return newCertificate(packets(bare))
	}
	return nil, err
}

// unforged is the certificate without signatures that are not its own, though they
// say so.
func (c *Certificate) unforged() []component {
	refused := c.checked().refused
	if len(refused) == 0 {
		return c.parts
	}
	parts := slices.Clone(c.parts)
	for i, p := range parts {
		parts[i].signatures = slices.DeleteFunc(slices.Clone(p.signatures), func(s rawPacket) bool { return refused[disowned{p.key(), s.key()}] })
	}
	return parts
}

// signed is what its own key signed, and nothing else.
func (c *Certificate) signed() []component {
	parts := c.named()
	for _, s := range c.checked().subkeys {
		if len(s.bindings)+len(s.revocations) > 0 {
			parts = append(parts, component{head: s.raw, signatures: raws(s.revocations, s.bindings)})
		}
	}
	return parts
}

// named is the primary key and the user IDs of signed.
func (c *Certificate) named() []component {
	ch := c.checked()
	parts := c.bare()
	parts[0].signatures = append(parts[0].signatures, raws(ch.direct)...)
	for _, u := range ch.users {
		if len(u.selfs)+len(u.revocations) > 0 {
			parts = append(parts, component{head: u.raw, signatures: raws(u.revocations, u.selfs)})
		}
	}
	return parts
}

// WithoutSubkeys is the certificate with only its primary key and user IDs, and
// what its own key signed of them.
func (c *Certificate) WithoutSubkeys() (*Certificate, error) {
	return newCertificate(packets(c.named()))
}

// bare is the primary key with its revocations.
func (c *Certificate) bare() []component {
	return []component{{head: c.parts[0].head, signatures: raws(c.checked().revocations)}}
}

func raws(all ...[]signature) (out []rawPacket) {
	for _, s := range slices.Concat(all...) {
		out = append(out, s.raw)
	}
	return out
}

// Minimal is the certificate with only the user ID of that address, live
// subkeys and newest self-signatures (packets kept byte for byte), and
// revocations of the primary key; and with the newest certification of that user
// ID by each approved certificate, where it is one that counts
// ([Certificate.CertifiedBy]). A subkey that was revoked, or whose life was cut
// short, is kept as what it is now: whoever has an older copy would go on using
// it. Without such a user ID it is ErrUnusable.
func (c *Certificate) Minimal(a address.Address, now time.Time, approved ...*Certificate) (*Certificate, error) {
	return c.minimal(a, now, func(p component, u *userID) (out []rawPacket) {
		for _, by := range approved {
			if by.Fingerprint() == c.Fingerprint() || !strongCertifier(by.key) || by.compromised() {
				continue
			}
			switch s, w := by.word(c, p, u, now); {
			case s != nil:
				out = append(out, s.raw)
			case w != nil: // others may have what it takes back
				out = append(out, w.raw)
			}
		}
		return out
	})
}

// minimal is Minimal with those foreign signatures under the user ID that
// approved gives.
func (c *Certificate) minimal(a address.Address, now time.Time, approved func(component, *userID) []rawPacket) (*Certificate, error) {
	ch := c.checked()
	out := []rawPacket{c.parts[0].head}
	for _, r := range ch.revocations {
		out = append(out, r.raw)
	}
	if d := newestOf(ch.direct, now, strict); d != nil {
		out = append(out, d.raw)
	}
	var chosen *userID
	for _, u := range ch.users {
		if !u.names(a) || u.newest(now, strict) == nil || u.revoked(now) {
			continue
		}
		if chosen == nil || u.newest(now, strict).parsed.CreationTime.After(chosen.newest(now, strict).parsed.CreationTime) {
			chosen = u
		}
	}
	if chosen == nil {
		return nil, fmt.Errorf("certificate %s has no user ID of %s: %w", c.Fingerprint(), a, ErrUnusable)
	}
	out = append(out, chosen.raw, chosen.newest(now, strict).raw)
	for _, p := range union(c.parts, nil) {
		if p.head.tag == tagUserID && bytes.Equal(p.head.body, chosen.raw.body) {
			out = append(out, approved(p, chosen)...)
		}
	}
	for _, s := range ch.subkeys {
		out = append(out, s.minimal(now)...)
	}
	return newCertificate(out)
}

// minimal is what [Certificate.Minimal] has of a subkey.
func (s *subkey) minimal(now time.Time) []rawPacket {
	b := s.newest(now, strict)
	switch {
	case b == nil:
		return nil
	case s.revoked(now):
		out := []rawPacket{s.raw, b.raw}
		for _, r := range s.revocations {
			out = append(out, r.raw)
		}
		return out
	case s.key.KeyExpired(b.parsed, now) && !s.cutShort(now):
		return nil
	}
	return []rawPacket{s.raw, b.raw}
}

// cutShort tells whether an older binding would have the subkey live on.
func (s *subkey) cutShort(now time.Time) bool {
	return slices.ContainsFunc(s.bindings, func(b signature) bool {
		return strict.allowed(b.parsed) && !b.parsed.CreationTime.After(now) && !b.parsed.SigExpired(now) && !s.key.KeyExpired(b.parsed, now)
	})
}

// RevocationOnly is the primary key with its revocations and nothing else: what
// may be told of a certificate for ever, since it names nobody. ok is false where
// the primary key is not revoked. Who has the certificate merges it.
func (c *Certificate) RevocationOnly() (revoked *Certificate, ok bool) {
	out := []rawPacket{c.parts[0].head}
	for _, r := range c.checked().revocations {
		out = append(out, r.raw)
	}
	if len(out) == 1 {
		return nil, false
	}
	revoked, err := newCertificate(out)
	return revoked, err == nil
}

// Fingerprints are those of the primary key and every subkey that a valid
// signature binds, whether expired or revoked.
func (c *Certificate) Fingerprints() []Fingerprint {
	all := []Fingerprint{c.Fingerprint()}
	for _, s := range c.checked().subkeys {
		if s.newest(time.Time{}, strict) != nil {
			all = append(all, fingerprintOf(s.key.Fingerprint))
		}
	}
	return all
}

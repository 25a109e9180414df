package keydir

import (
	"fmt"
	"slices"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/pgp"
)

// A new primary key that the pinned one certified takes its place without a
// person, wherever it comes from. Who does not stand by that can be a thief of
// the old key: so the change is recorded and told, the successor is at most as
// sure as a directory's word (nobody compared it), what the old one was settled
// by still holds against third keys, and the successor falls with the old key
// where that turns out to be compromised. A predecessor never comes back, though
// its successor certified it in turn or a directory has not heard of the change;
// a directory that goes on serving only the predecessor is as one that no longer
// has what is pinned, and holds after a month.

const sourceSuccession = "succession"

// heir is what remains in a Binding of the one whose place it took.
type heir struct {
	// After is the certificate that named this one its successor.
	After pgp.Fingerprint `json:"after,omitempty"`
	// Inherited is its source; Settled that contradicting it needed a person.
	Inherited string `json:"inherited,omitempty"`
	Settled   bool   `json:"settled,omitempty"`
}

// succeed lets certificates that fit for use take the places of pins that named
// them. One pin with two of them has none. by is what gave them.
func (p *peer) succeed(certs []*pgp.Certificate, a address.Address, by string, now time.Time) (changed bool) {
	for i := range p.Pins {
		old := p.Pins[i]
		var next []*pgp.Certificate
		for _, c := range certs {
			c = p.newest(c)
			candidate := find(p.Candidates, c.Fingerprint())
			if p.pin(c.Fingerprint()) != nil || find(p.Former, c.Fingerprint()) != nil || candidate != nil && candidate.Declined {
				continue
			}
			if c.Succeeds(p.certs[old.Fingerprint], a, now) {
				next = append(next, c)
			}
		}
		if len(next) == 1 {
			p.inherit(i, next[0], by, now)
			changed = true
		}
	}
	return changed
}

// newest is a certificate merged with what is stored of it.
func (p *peer) newest(c *pgp.Certificate) *pgp.Certificate {
	if old := p.certs[c.Fingerprint()]; old != nil {
		if merged, err := pgp.Merge(old, c); err == nil {
			return merged
		}
	}
	return c
}

// inherit puts c in the place of one pin.
func (p *peer) inherit(i int, c *pgp.Certificate, by string, now time.Time) {
	old := p.Pins[i]
	b := Binding{
		Fingerprint: c.Fingerprint(), Identity: old.Identity, Source: sourceSuccession, First: now, Confirmed: now,
		heir: heir{After: old.Fingerprint, Inherited: old.root(), Settled: old.history()},
	}
	if b.Identity.AtLeast(pgp.Directory) {
		b.Identity = pgp.Directory
	}
	if seen := find(p.Candidates, b.Fingerprint); seen != nil {
		b.First, b.SignedFrom, b.Signed = seen.First, seen.SignedFrom, seen.Signed
	}
	p.take(c)
	p.Pins[i] = b
	p.drop([]*pgp.Certificate{c})
	p.Former = append(p.Former, old)
	p.Former = p.Former[max(0, len(p.Former)-maxBindings):]
	p.changed(Change{At: now, From: []pgp.Fingerprint{old.Fingerprint}, To: []pgp.Fingerprint{b.Fingerprint},
		Why: fmt.Sprintf("the old key said that the new one takes its place (seen by %s)", by)})
}

// root is where the first of a line of successors is from.
func (b Binding) root() string {
	if b.Source == sourceSuccession {
		return b.Inherited
	}
	return b.Source
}

// present are the certificates of an answer without predecessors of what is
// pinned: a directory may serve both for a while, or not know yet.
func (p *peer) present(certs []*pgp.Certificate) []*pgp.Certificate {
	return slices.DeleteFunc(slices.Clone(certs), func(c *pgp.Certificate) bool { return find(p.Former, c.Fingerprint()) != nil })
}

// doubt makes the address a conflict where a pin stands by the word of a key that
// turned out to be in other hands, and by nothing else.
func (p *peer) doubt() {
	for _, b := range p.Pins {
		old := p.certs[b.After]
		if b.Source != sourceSuccession || old == nil || !old.Compromised() || p.Problem != "" {
			continue
		}
		p.Problem = ProblemConflict
		p.Detail = "the key that named the present one its successor is revoked as compromised, and nothing else confirms it"
	}
}

// succession applies the successors among all answers, and leaves predecessors
// out of them. While a conflict waits for a person only the domain's own word
// that it means the successor alone ends it.
func (p *peer) succession(c *combined, now time.Time) {
	fit := func(certs []*pgp.Certificate) []*pgp.Certificate {
		out, _ := usable(p.merged(certs), now)
		return out
	}
	if served := fit(c.domain.certs); c.domain.outcome == Found && p.succeed(served, p.Address, c.domain.source, now) {
		left := fit(p.present(c.domain.certs))
		if len(left) > 0 && !slices.ContainsFunc(left, func(l *pgp.Certificate) bool { return p.pin(l.Fingerprint()) == nil }) {
			p.Problem = ""
		}
	}
	if p.Problem == "" {
		p.succeed(fit(c.third.certs), p.Address, c.third.source, now)
	}
	c.domain.certs, c.third.certs = p.present(c.domain.certs), p.present(c.third.certs)
}

package keydir

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/pgp"
)

// Errors of what a person asks for.
var (
	// ErrUnknown: nothing is stored of the address.
	ErrUnknown = errors.New("no certificate is stored for this address")
	// ErrNothing: there is nothing to accept.
	ErrNothing = errors.New("nothing waits to be accepted for this address")
	// ErrSeveral: say which one.
	ErrSeveral = errors.New("several certificates wait to be accepted; give the fingerprint of one")
	// ErrFingerprint: no certificate of the address has that fingerprint.
	ErrFingerprint = errors.New("no certificate of this address has that fingerprint")
	// ErrContradicts: another certificate is pinned; the new one became a candidate.
	ErrContradicts = errors.New("another certificate is in use for this address; `letterlock cert accept` takes the new one")
	// ErrAddress: the certificate has no user ID of the address.
	ErrAddress = errors.New("the certificate does not name this address")
)

// Accept takes what waits for an address into use, by the word of a person who
// did not compare it: the candidate with that fingerprint, or the only one where
// f is "". It takes the place of what was pinned; its identity stays what its
// source makes it. With the fingerprint of what is pinned, or without
// candidates, that is kept in use though its directory no longer has it or
// contradicted it. While a directory no longer has what is pinned, a candidate
// must be named: keeping is as likely to be meant.
func (r *Resolver) Accept(ctx context.Context, a address.Address, f pgp.Fingerprint) error {
	f = normal(f)
	return r.change(ctx, a, func(_ store.Tx, p *peer) (bool, error) {
		if !p.stored() {
			return false, ErrUnknown
		}
		open := !p.Gone.IsZero() || p.Problem != "" || !r.asked().speaksFor(a) && p.fromDirectory()
		switch {
		case f == "" && !p.Gone.IsZero() && p.Problem == "" && len(p.Candidates) > 0:
			return false, ErrSeveral
		case f != "" && p.pin(f) != nil, len(p.Candidates) == 0 && open:
			for i := range p.Pins {
				if !p.Pins[i].byPerson() {
					p.Pins[i].Source = sourceAccepted
				}
			}
			p.settle()
			return true, nil
		}
		c, err := p.waiting(f)
		if err != nil {
			return false, err
		}
		p.adopt(*c, "accepted", r)
		return true, nil
	})
}

// waiting is the candidate that is meant.
func (p *peer) waiting(f pgp.Fingerprint) (*Binding, error) {
	switch {
	case f != "":
		if b := find(p.Candidates, f); b != nil {
			return b, nil
		}
		if b := find(p.Former, f); b != nil {
			return b, nil // back to what another succeeded
		}
		return nil, ErrFingerprint
	case len(p.Candidates) == 0:
		return nil, ErrNothing
	case len(p.Candidates) > 1:
		return nil, ErrSeveral
	}
	return &p.Candidates[0], nil
}

// adopt makes b the only pin.
func (p *peer) adopt(b Binding, why string, r *Resolver) {
	change := Change{At: r.now(), To: []pgp.Fingerprint{b.Fingerprint}, Why: why}
	for _, old := range p.Pins {
		change.From = append(change.From, old.Fingerprint)
	}
	b.Declined = false
	if b.Source == sourceGossip { // a person has it in use now
		b.Source = sourceAccepted
		if !b.Identity.AtLeast(pgp.FirstSeen) {
			b.Identity = pgp.FirstSeen
		}
	}
	for _, pin := range p.Pins {
		if pin.After == b.Fingerprint { // or it would succeed again
			pin.Declined = true
			p.Candidates = append(p.Candidates, pin)
		}
	}
	p.crowded()
	p.Pins = []Binding{b}
	p.Former = slices.DeleteFunc(p.Former, func(c Binding) bool { return c.Fingerprint == b.Fingerprint })
	p.Candidates = slices.DeleteFunc(p.Candidates, func(c Binding) bool { return c.Fingerprint == b.Fingerprint })
	p.settle()
	if len(change.From) > 0 {
		p.changed(change)
	}
}

// settle ends what waited for a person. Candidates stay, without effect; those
// of a conflict are declined by it.
func (p *peer) settle() {
	for i := range p.Candidates {
		c := &p.Candidates[i]
		c.Declined = c.Declined || p.Problem != "" && !c.byPerson() && c.Source != sourceAutocrypt && c.Source != sourceGossip
	}
	p.Problem, p.Detail = "", ""
	p.Gone = time.Time{}
	if until := p.Checked.Add(p.hold()); p.Until.Before(until) {
		p.Until = until
	}
}

// Verify makes the certificate with that fingerprint Confirmed for an address: a
// person compared it over another channel. It is the only pin then.
func (r *Resolver) Verify(ctx context.Context, a address.Address, f pgp.Fingerprint) error {
	f = normal(f)
	return r.change(ctx, a, func(_ store.Tx, p *peer) (bool, error) {
		if !p.stored() {
			return false, ErrUnknown
		}
		b := p.pin(f)
		if b == nil {
			b = find(p.Candidates, f)
		}
		if f == "" || b == nil {
			return false, ErrFingerprint
		}
		v := *b
		v.Identity, v.Confirmed = pgp.Confirmed, r.now()
		p.adopt(v, "compared by a person", r)
		return true, nil
	})
}

// normal is a fingerprint as a person may type it: spaces, colons, lower case, 0x.
func normal(f pgp.Fingerprint) pgp.Fingerprint {
	s := strings.ToUpper(strings.NewReplacer(" ", "", ":", "", "\u00a0", "").Replace(string(f)))
	return pgp.Fingerprint(strings.TrimPrefix(s, "0X"))
}

// Forget drops what is pinned and remembered of an address, so that the next
// mail to it is as to a stranger. Certificates stay, to verify old mail.
func (r *Resolver) Forget(ctx context.Context, a address.Address) error {
	defer r.cache.forget(a.Key())
	return r.store.Update(ctx, func(tx store.Tx) error {
		n, err := tx.Exec(`DELETE FROM keydir_peer WHERE addr = ?`, a.Key())
		if err == nil && n == 0 {
			return ErrUnknown
		}
		return err
	})
}

// Import stores certificates for an address, as sure as identity says: FirstSeen
// for a file of unknown origin, Confirmed where its fingerprint was compared.
// The zero address stores them to verify signatures only. A certificate that
// contradicts what is pinned becomes a candidate, and the error is
// ErrContradicts, unless identity is Confirmed.
func (r *Resolver) Import(ctx context.Context, certs []*pgp.Certificate, a address.Address, identity pgp.Identity) error {
	if a.IsZero() {
		return r.store.Update(ctx, func(tx store.Tx) error {
			for _, c := range certs {
				if err := r.writeCertificate(tx, c); err != nil {
					return err
				}
			}
			return nil
		})
	}
	now := r.now()
	var contradicts error
	err := r.change(ctx, a, func(_ store.Tx, p *peer) (bool, error) {
		contradicts = nil
		if p.Address.IsZero() {
			p.Address = a
		}
		for _, c := range certs {
			pin := p.pin(c.Fingerprint())
			if pin == nil && !c.Has(a) {
				return false, fmt.Errorf("%s: %w", c.Fingerprint(), ErrAddress)
			}
			b := Binding{Fingerprint: c.Fingerprint(), Identity: identity, Source: sourceImport, First: now, Confirmed: now}
			switch {
			case pin == nil && p.besideImported(c, certs) && identity.AtLeast(p.weakest()):
				p.bind(c, b, now)
				p.drop([]*pgp.Certificate{c})
			case pin != nil:
				p.take(c)
				if identity.AtLeast(pin.Identity) {
					pin.Identity, pin.Source, pin.Confirmed = identity, sourceImport, now
					p.settle()
				}
			case p.Problem == "" && identity != pgp.Confirmed && p.succeed([]*pgp.Certificate{c}, a, "an import", now):
			case len(p.Pins) == 0 && p.Problem == "" || identity == pgp.Confirmed:
				p.take(c)
				p.adopt(b, "imported", r)
			default:
				p.candidate(c, b, now)
				contradicts = ErrContradicts
			}
		}
		return true, nil
	})
	return errors.Join(err, contradicts)
}

// besideImported tells whether c is of another version than all that is pinned,
// and what is pinned was imported along with it.
func (p *peer) besideImported(c *pgp.Certificate, together []*pgp.Certificate) bool {
	for _, b := range p.Pins {
		same := func(t *pgp.Certificate) bool { return t.Fingerprint() == b.Fingerprint && t.Version() != c.Version() }
		if !slices.ContainsFunc(together, same) {
			return false
		}
	}
	return len(p.Pins) > 0
}

// Show is everything stored of an address, and the certificates that it names.
func (r *Resolver) Show(ctx context.Context, a address.Address) (Peer, []*pgp.Certificate, error) {
	p, _, err := r.load(ctx, a)
	if err != nil {
		return Peer{}, nil, err
	}
	if !p.stored() {
		return Peer{}, nil, ErrUnknown
	}
	var certs []*pgp.Certificate
	for _, b := range slices.Concat(p.Pins, p.Candidates) {
		certs = append(certs, p.certs[b.Fingerprint])
	}
	return p.copy(), certs, nil
}

// List is every address with a certificate, in the order of address.Key. Rows
// that were tampered with are in err, beside the others.
func (r *Resolver) List(ctx context.Context) (out []Peer, err error) {
	var faults []error
	err = r.store.View(ctx, func(tx store.Tx) error {
		out, faults = nil, nil
		type row struct {
			key        string
			state, mac []byte
		}
		var rows []row
		err := tx.Rows(`SELECT addr, state, mac FROM keydir_peer ORDER BY addr`, nil, func(scan func(...any) error) error {
			var w row
			if err := scan(&w.key, &w.state, &w.mac); err != nil {
				return err
			}
			rows = append(rows, w)
			return nil
		})
		if err != nil {
			return err
		}
		for _, w := range rows {
			p, err := r.decodePeer(tx, w.key, w.state, w.mac)
			if err != nil {
				faults = append(faults, fmt.Errorf("%s: %w", w.key, err))
				continue
			}
			if p.stored() {
				out = append(out, p.Peer)
			}
		}
		return nil
	})
	return out, errors.Join(append(faults, err)...)
}

package keydir

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"sync"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/pgp"
)

// parsed keeps certificates that were parsed, by their bytes: one verifies its
// own signatures once, and remembers. When it is full it starts anew.
type parsed struct {
	mu  sync.Mutex // guards all
	all map[[32]byte]*pgp.Certificate
}

const parsedEntries = 2048

// get is the certificate of these very bytes. Two callers may parse at a time;
// one of the two is kept.
func (p *parsed) get(b []byte, parse func() (*pgp.Certificate, error)) (*pgp.Certificate, error) {
	sum := sha256.Sum256(b)
	p.mu.Lock()
	c := p.all[sum]
	p.mu.Unlock()
	if c != nil {
		return c, nil
	}
	c, err := parse()
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.all == nil || len(p.all) >= parsedEntries {
		p.all = make(map[[32]byte]*pgp.Certificate)
	}
	p.all[sum] = c
	return c, nil
}

var _ pgp.CertificateStore = (*Resolver)(nil)

// Bounds of the stored certificates with one key ID: read, and given.
const (
	maxReadIssuers = 256
	maxIssuers     = 16
)

// Issuer returns the certificates, stored or our own, that have a key of that ID
// to sign with: candidates and certificates of contacts that were forgotten too,
// so that old mail can be verified. What they prove of an address is for Identity.
func (r *Resolver) Issuer(ctx context.Context, keyID uint64) ([]*pgp.Certificate, error) {
	var out []*pgp.Certificate
	for _, c := range r.own() {
		if slices.Contains(c.KeyIDs(), keyID) {
			out = append(out, c)
		}
	}
	err := r.store.View(ctx, func(tx store.Tx) error {
		var fprs []string
		err := tx.Rows(`SELECT fpr FROM keydir_keyid WHERE keyid = ? ORDER BY fpr LIMIT ?`, []any{int64(keyID), maxReadIssuers}, func(scan func(...any) error) error {
			var f string
			if err := scan(&f); err != nil {
				return err
			}
			fprs = append(fprs, f)
			return nil
		})
		if err != nil {
			return err
		}
		for _, f := range fprs {
			if slices.ContainsFunc(out, func(c *pgp.Certificate) bool { return string(c.Fingerprint()) == f }) {
				continue
			}
			c, err := r.readCertificate(tx, pgp.Fingerprint(f))
			if err != nil {
				return err
			}
			if slices.Contains(c.SignerIDs(), keyID) && len(out) < maxIssuers {
				out = append(out, c)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("looking for certificates by key ID: %w", err)
	}
	return out, nil
}

// Identity says how a certificate is bound to an address: as it is pinned;
// Conflict while sources contradict each other about the address; Unknown for a
// candidate beside a pin, and for everything else; a key that named its successor
// is still bound as it was. Our own certificates are
// Confirmed for the addresses that they name.
func (r *Resolver) Identity(ctx context.Context, a address.Address, f pgp.Fingerprint) (pgp.Identity, error) {
	for _, c := range r.own() {
		if c.Fingerprint() == f && c.Has(a) {
			return pgp.Confirmed, nil
		}
	}
	p, state, err := r.load(ctx, a)
	if err != nil {
		return pgp.Unknown, err
	}
	r.cache.keep(&cached{key: a.Key(), peer: p}, state)
	pin := p.pin(f)
	switch {
	case p.Problem != "" && (pin != nil || find(p.Candidates, f) != nil):
		return pgp.Conflict, nil
	case pin != nil:
		return pin.Identity, nil
	}
	if b := find(p.Former, f); b != nil && !p.certs[f].Compromised() {
		return b.Identity, nil // its owner's other devices may not have heard
	}
	return pgp.Unknown, nil
}

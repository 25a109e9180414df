package server

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

// Errors of a submission, for the one who submits. They wrap what pgp says,
// where it says something, and tell nothing of what is published.
var (
	// ErrForeign means that a certificate names no address of the domains.
	ErrForeign = errors.New("the certificate names no address of a domain of this directory")
	// ErrLimited means that enough was asked for an address, or in all, for now.
	ErrLimited = errors.New("too many requests; try again tomorrow")
	// ErrToken means that a token was never given out, or is used or too old.
	ErrToken = errors.New("this confirmation was used already, or is too old, or never was one")
)

// Offer is a certificate that somebody submits, as far as it may be published.
type Offer struct {
	// Certificate is minimal: primary key, the user IDs of Addresses, live
	// subkeys, newest self-signatures.
	Certificate *pgp.Certificate
	// Addresses are those of the domains that it names; empty if it is revoked.
	Addresses []address.Address
	// Revoked is the revocation, if it is revoked.
	Revoked *pgp.Certificate
	// Given is the certificate as it was submitted.
	Given *pgp.Certificate
}

// Offers reads what somebody submits, binary or armored: one or several
// certificates that people could be encrypted to, or revoked ones. Secret keys
// are pgp.ErrSecretKey and nothing of them is kept; what nobody should use is
// refused with its reason: pgp.ErrExpired, ErrRevoked (of all that could be
// encrypted to), ErrWeak, ErrUnusable, ErrMalformed, [ErrTooLarge], [ErrForeign].
// But of a certificate that is answered its owner's word that nobody shall use it
// any more is an offer for the addresses of that.
func (d *Directory) Offers(b []byte, domains func(string) bool) ([]Offer, error) {
	certs, err := pgp.ParseCertificates(b)
	if err != nil {
		return nil, fmt.Errorf("reading the certificate: %w", err)
	}
	if len(certs) > maxOffers {
		return nil, fmt.Errorf("%w: %d certificates, at most %d at once", ErrTooLarge, len(certs), maxOffers)
	}
	var all []Offer
	for _, c := range certs {
		o, err := d.offer(c, domains)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.Fingerprint(), err)
		}
		all = append(all, o)
	}
	return all, nil
}

// Bounds of one submission.
const (
	maxOffers         = 4
	maxOfferAddresses = 10
)

func (d *Directory) offer(c *pgp.Certificate, domains func(string) bool) (Offer, error) {
	now := d.now()
	if r, ok := c.RevocationOnly(); ok {
		return Offer{Certificate: r, Revoked: r, Given: c}, nil
	}
	unfit := c.CheckEncrypt(now)
	o := Offer{Given: c}
	for _, a := range addressesOf(c) {
		if !domains(a.Domain) || len(o.Addresses) == maxOfferAddresses || unfit != nil && !d.answers(a, c.Fingerprint()) {
			continue
		}
		m, err := d.minimal(c, a)
		if err != nil {
			continue // the user ID is revoked
		}
		if o.Certificate != nil {
			if m, err = pgp.Merge(o.Certificate, m); err != nil {
				return Offer{}, fmt.Errorf("%w: %w", ErrTooLarge, err)
			}
		}
		o.Certificate, o.Addresses = m, append(o.Addresses, a)
	}
	switch {
	case len(o.Addresses) == 0 && unfit != nil:
		return Offer{}, unfit
	case len(o.Addresses) == 0:
		return Offer{}, ErrForeign
	case len(o.Certificate.Bytes()) > MaxCertificate:
		return Offer{}, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, len(o.Certificate.Bytes()), MaxCertificate)
	}
	return o, nil
}

// answers tells whether that certificate is what is answered for a.
func (d *Directory) answers(a address.Address, f pgp.Fingerprint) bool {
	k, ok := d.key(a.Domain, hashOfAddress(a))
	if !ok {
		return false
	}
	body, _, _ := d.table.get(k, nil)
	certs, _ := pgp.ParseCertificates(body) // what can't be read is not that one
	return len(certs) > 0 && certs[0].Fingerprint() == f
}

// Take does at once what needs no confirmation, since the key's own signature
// proves it: a revocation of what is or was published, and a newer state of a
// certificate that is published under that address already. It returns the
// addresses of the offer that are served now as it says.
func (d *Directory) Take(ctx context.Context, o Offer) (done []address.Address, err error) {
	if o.Revoked != nil {
		_, err := d.Revoke(ctx, o.Given)
		return nil, err
	}
	for _, a := range o.Addresses {
		e, err := d.Certificate(ctx, a)
		if errors.Is(err, store.ErrNoRow) || errors.Is(err, store.ErrTampered) || err == nil && e.Fingerprint() != o.Certificate.Fingerprint() {
			continue
		}
		if err != nil {
			return nil, err
		}
		switch err := d.renew(ctx, a, e, o.Certificate); {
		case errors.Is(err, errReplaced):
			continue
		case err != nil:
			return nil, err
		}
		done = append(done, a)
	}
	return done, nil
}

// errReplaced means that another certificate, or none, was published meanwhile.
var errReplaced = errors.New("something else is published now")

// renew publishes what an offer has that is new, unless something else took its
// place meanwhile: what is not confirmed replaces nothing and brings nothing back.
func (d *Directory) renew(ctx context.Context, a address.Address, published, offered *pgp.Certificate) error {
	approved := d.approvedFor(a)
	m, err := d.renewed(a, published, offered, approved)
	if err != nil || slices.Equal(m.Bytes(), published.Bytes()) {
		return err
	}
	err = d.update(ctx, func(tx store.Tx, version int64) error {
		now := row{}
		if err := tx.Row(selectRows+" WHERE address = ? AND gone = 0", []any{a.Key()}, now.dest()...); errors.Is(err, store.ErrNoRow) {
			return errReplaced
		} else if err != nil {
			return err
		}
		e, err := now.entry(d.store)
		if errors.Is(err, store.ErrTampered) || err == nil && e.Certificate.Fingerprint() != offered.Fingerprint() {
			return errReplaced
		}
		if err == nil { // it may have more by now than when it was looked at
			m, err = d.renewed(a, e.Certificate, offered, approved)
		}
		if err != nil {
			return err
		}
		r, err := d.rowBy(a, m, approved)
		if err != nil {
			return err
		}
		return d.put(tx, r, version)
	})
	if err != nil {
		return fmt.Errorf("publishing the certificate of %s: %w", a, err)
	}
	return nil
}

// renewed is what is published with what an offer has that is new.
func (d *Directory) renewed(a address.Address, published, offered *pgp.Certificate, approved []*pgp.Certificate) (*pgp.Certificate, error) {
	m, err := pgp.Merge(published, offered)
	if err != nil {
		return nil, err
	}
	return d.minimalBy(m, a, approved)
}

// Way is how a submission proves that it comes from the address. A token is good
// for its own way only.
type Way string

const (
	ByUpload Way = "upload" // not yet asked for: what was uploaded, for any of its addresses
	ByLink   Way = "link"   // a link in a mail
	ByWKS    Way = "wks"    // a Web Key Service's mail
	ByInvite Way = "invite" // a word that the operator gave
	byNonce  Way = "nonce"  // of an authenticated request, so that it counts once
	byTold   Way = "told"   // nothing: counts mails which say that all is done already
)

// lasts is how long a token is good. Three days are the Web Key Service's own.
func (w Way) lasts() time.Duration {
	switch w {
	case ByUpload:
		return time.Hour
	case byNonce:
		return 2 * putWindow
	case ByInvite:
		return 7 * 24 * time.Hour
	case byTold:
		return limitSpan
	}
	return 3 * 24 * time.Hour
}

// limitSpan is the day of the limits.
const limitSpan = 24 * time.Hour

// Pending is what waits for its confirmation.
type Pending struct {
	Way         Way
	Address     address.Address  // zero ByUpload
	Certificate *pgp.Certificate // nil ByInvite
	Made, Ends  time.Time
}

// Begin keeps a request until it is confirmed with the token, which is returned
// once and stored as a keyed hash: 160 random bits, bound to the way, the address
// and the certificate. [ErrLimited] says that enough was asked.
func (d *Directory) Begin(ctx context.Context, way Way, a address.Address, c *pgp.Certificate) (token string, err error) {
	return d.beginFor(ctx, way, a, c, "")
}

func (d *Directory) beginFor(ctx context.Context, way Way, a address.Address, c *pgp.Certificate, by asker) (token string, err error) {
	token = newToken()
	p := d.newPending(token, way, a, c)
	p.client = by
	if err := d.begin(ctx, p); err != nil {
		return "", err
	}
	return token, nil
}

func (d *Directory) begin(ctx context.Context, p pending) error {
	err := d.store.Update(ctx, func(tx store.Tx) error {
		if _, err := tx.Exec("DELETE FROM keydirserver_pending WHERE ends <= ?", d.now().UnixMicro()); err != nil {
			return err
		}
		if err := d.limit(tx, p); err != nil {
			return err
		}
		return p.insert(tx, d.store)
	})
	if err != nil {
		return fmt.Errorf("beginning a submission: %w", err)
	}
	return nil
}

// Pending is what a token stands for, without using it.
func (d *Directory) Pending(ctx context.Context, token string, way Way) (Pending, error) {
	var p Pending
	err := d.store.View(ctx, func(tx store.Tx) (err error) {
		p, _, err = d.open(tx, token, way, "")
		return err
	})
	return p, err
}

// Confirm publishes what a token stands for, once: of several at the same time
// one succeeds, and the others are [ErrToken]. check, if not nil, may refuse
// before the token is used; it may run more than once.
func (d *Directory) Confirm(ctx context.Context, token string, way Way, check func(Pending) error) (Pending, error) {
	p, err := d.Pending(ctx, token, way)
	if err != nil {
		return Pending{}, err // without a transaction that others would wait for
	}
	approved := d.approvedFor(p.Address)
	err = d.update(ctx, func(tx store.Tx, version int64) error {
		var w pending
		var err error
		if p, w, err = d.open(tx, token, way, " FOR UPDATE"); err != nil {
			return err
		}
		if check != nil {
			if err := check(p); err != nil {
				return err
			}
		}
		if err := w.use(tx, d.store); err != nil {
			return err
		}
		r, err := d.rowBy(p.Address, p.Certificate, approved)
		if err != nil {
			return err
		}
		return d.put(tx, r, version)
	})
	if err != nil {
		return Pending{}, fmt.Errorf("confirming a submission: %w", err)
	}
	return p, nil
}

// Abandon forgets a request that nobody was asked about.
func (d *Directory) Abandon(ctx context.Context, token string, way Way) error {
	err := d.store.Update(ctx, func(tx store.Tx) error {
		_, err := tx.Exec("DELETE FROM keydirserver_pending WHERE token = ? AND way = ? AND used = 0", d.tokenHash(token), string(way))
		return err
	})
	if err != nil {
		return fmt.Errorf("abandoning a submission: %w", err)
	}
	return nil
}

// Tidy forgets what was not confirmed in time, and ends the year of
// predecessors. It is for now and then.
func (d *Directory) Tidy(ctx context.Context) error {
	now := d.now().UnixMicro()
	var due int
	err := d.store.View(ctx, func(tx store.Tx) error {
		err := tx.Row("SELECT COUNT(*) FROM keydirserver_pending WHERE ends <= ?", []any{now}, &due)
		if err != nil || due > 0 {
			return err
		}
		return tx.Row("SELECT COUNT(*) FROM keydirserver_cert WHERE until > 0 AND until <= ? AND gone = 0", []any{now}, &due)
	})
	if err != nil || due == 0 {
		return err
	}
	by, err := d.approvals(ctx, outdated, now)
	if err != nil {
		return err
	}
	return d.update(ctx, func(tx store.Tx, version int64) error {
		if _, err := tx.Exec("DELETE FROM keydirserver_pending WHERE ends <= ?", now); err != nil {
			return err
		}
		return d.dropPredecessors(tx, version, by)
	})
}

// putWindow is how far the date of an authenticated request may be off.
const putWindow = 5 * time.Minute

// isToken tells whether s could be one, before anything is asked.
func isToken(s string) bool {
	return len(s) == 32 && strings.Trim(s, zBase32) == ""
}

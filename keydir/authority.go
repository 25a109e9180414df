package keydir

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/pgp"
)

// An organisation may certify the keys of its people with one of its own, its
// authority, whose secret is not where its directory is: then whoever takes the
// directory over can't pass a key of theirs off as certified. What it certified
// is [pgp.Organisation], for addresses of its own domain and no other, depth one:
// an authority makes no authorities. It is one only by a person's word: the
// fingerprint in Discovery.Authorities, or else a certificate of
// [AuthorityAddress] that was accepted or compared (Resolver.Accept, Verify).
// Its word raises a pin; it neither replaces one nor ends a conflict.

// authorityLocal is what OpenPGP CA calls the address, by convention.
const authorityLocal = "openpgp-ca"

// AuthorityAddress is the address of a domain's authority, under which its
// certificate is found.
func AuthorityAddress(domain string) address.Address {
	return address.Address{Local: authorityLocal, Domain: domain}
}

// isAuthority tells of such an address, however it is spelled.
func isAuthority(a address.Address) bool { return a.Equal(AuthorityAddress(a.Domain)) }

// voucher is what an authority's word makes of a Binding.
type voucher struct {
	// CA is the authority that certified the certificate, "" for none; Below the
	// identity without it.
	CA    pgp.Fingerprint `json:"ca,omitempty"`
	Below pgp.Identity    `json:"below,omitempty"`
}

// parseAuthorities reads Discovery.Authorities.
func parseAuthorities(m map[string]pgp.Fingerprint) (map[string]pgp.Fingerprint, error) {
	out := make(map[string]pgp.Fingerprint, len(m))
	var problems []error
	for _, domain := range slices.Sorted(maps.Keys(m)) {
		a, err := address.Parse("x@" + domain)
		f := normal(m[domain])
		switch {
		case err != nil:
			err = fmt.Errorf("discovery.authorities: %q is no domain; write example.org", domain)
		case !isFingerprint(f):
			err = fmt.Errorf("discovery.authorities: what stands for %s is no fingerprint; it has 40 or 64 hex digits", domain)
		default:
			out[a.Domain] = f
		}
		problems = append(problems, err)
	}
	return out, errors.Join(problems...)
}

func isFingerprint(f pgp.Fingerprint) bool {
	for _, c := range f {
		if (c < '0' || c > '9') && (c < 'A' || c > 'F') {
			return false
		}
	}
	return len(f) == 40 || len(f) == 64
}

// Authorities are the certificates whose word about addresses of a domain is the
// organisation's, fit for use now.
func (r *Resolver) Authorities(ctx context.Context, domain string) (out []*pgp.Certificate, err error) {
	err = r.store.View(ctx, func(tx store.Tx) (err error) {
		out, err = r.authorities(tx, domain, r.now())
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("looking for the authority of a domain: %w", err)
	}
	return out, nil
}

func (r *Resolver) authorities(tx store.Tx, domain string, now time.Time) (out []*pgp.Certificate, err error) {
	a := AuthorityAddress(domain)
	var all []*pgp.Certificate
	if want := r.asked().authorities[domain]; want != "" {
		c, err := r.stranger(tx, want)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	} else {
		p, err := r.readPeer(tx, a)
		if err != nil {
			return nil, err
		}
		for _, b := range p.Pins {
			if p.Problem == "" && (b.Identity.AtLeast(pgp.Confirmed) || b.Source == sourceAccepted) {
				all = append(all, p.certs[b.Fingerprint])
			}
		}
	}
	for _, c := range all {
		if c != nil && c.Has(a) && c.CheckCertify(now) == nil {
			out = append(out, c)
		}
	}
	return out, nil
}

// stranger is a stored certificate that no row needs to name; nil if there is none.
func (r *Resolver) stranger(tx store.Tx, f pgp.Fingerprint) (*pgp.Certificate, error) {
	var there int
	err := tx.Row(`SELECT 1 FROM keydir_cert WHERE fpr = ?`, []any{string(f)}, &there)
	if errors.Is(err, store.ErrNoRow) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return r.readCertificate(tx, f)
}

// vouch brings the pins of an address up to date with what its domain's authority
// certified.
func (r *Resolver) vouch(tx store.Tx, a address.Address, p *peer) error {
	if len(p.Pins) == 0 || isAuthority(a) {
		return nil
	}
	now := r.now()
	all, err := r.authorities(tx, a.Domain, now)
	if err != nil {
		return err
	}
	for i := range p.Pins {
		b := &p.Pins[i]
		var by pgp.Fingerprint
		for _, ca := range all {
			if _, ok := p.certs[b.Fingerprint].CertifiedBy(ca, a, now); ok {
				by = ca.Fingerprint()
			}
		}
		switch {
		case by != "" && b.CA == "" && !b.Identity.AtLeast(pgp.Organisation):
			b.voucher, b.Identity = voucher{CA: by, Below: b.Identity}, pgp.Organisation
		case by != "" && b.CA != "":
			b.CA = by
		case by == "" && b.CA != "":
			if b.Identity == pgp.Organisation {
				b.Identity = b.Below
			}
			b.voucher = voucher{}
		}
	}
	return nil
}

// freshenAuthority has the certificate of a domain's authority looked for, at
// most once a day, if there is one; wait waits for it where nothing is known.
func (r *Resolver) freshenAuthority(ctx context.Context, a address.Address) (wait func()) {
	wait = func() {}
	ca := AuthorityAddress(a.Domain)
	if isAuthority(a) {
		return wait
	}
	p, _, err := r.load(ctx, ca)
	want := r.asked().authorities[a.Domain]
	if err != nil || want == "" && len(p.Pins) == 0 || r.now().Sub(p.Checked).Abs() < freshFor {
		return wait
	}
	done := make(chan struct{})
	r.wait.Go(func() {
		defer close(done)
		r.ask(r.base, ca, r.timeout, false)
	})
	if p.stored() {
		return wait
	}
	return func() {
		select {
		case <-done:
		case <-ctx.Done():
		}
	}
}

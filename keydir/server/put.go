package server

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/pgp"
)

// predecessorFor is how long a revoked certificate is answered beside the one
// that took its place, for those who only ask now and then.
const predecessorFor = 365 * 24 * time.Hour

// put writes a row in place of what was published for its address. What is known
// of revocations goes into it: an older state takes nothing back. Where it has
// another primary key, the old one's revoked certificate stays beside it.
func (d *Directory) put(tx store.Tx, r row, version int64) error {
	if r.cert == nil {
		return r.write(tx, d.store, version)
	}
	f := r.cert.Fingerprint()
	switch known, err := revocation(tx, d.store, f); {
	case err == nil:
		if r, err = d.revokedRow(r, known); err != nil {
			return err
		}
	case !errors.Is(err, store.ErrNoRow) && !errors.Is(err, store.ErrTampered):
		return err
	}
	old := row{}
	err := tx.Row(selectRows+" WHERE address = ? AND gone = 0", []any{r.address}, old.dest()...)
	switch {
	case errors.Is(err, store.ErrNoRow):
	case err != nil:
		return err
	default:
		if err := d.follow(tx, &r, old); err != nil {
			return err
		}
	}
	return r.write(tx, d.store, version)
}

// follow keeps of an old row what is to be answered beside the new one.
func (d *Directory) follow(tx store.Tx, r *row, old row) error {
	if _, err := old.check(d.store); err != nil {
		return nil // it isn't answered either
	}
	certs, err := pgp.ParseCertificates(old.body)
	if err != nil || len(certs) == 0 {
		return nil
	}
	now, f := d.now(), r.cert.Fingerprint()
	replaced := certs[0].Fingerprint() != f
	if replaced {
		_, err := tx.Exec("INSERT INTO keydirserver_former (fingerprint, address) VALUES (?, ?) ON CONFLICT DO NOTHING",
			string(certs[0].Fingerprint()), r.address)
		if err != nil {
			return err
		}
	}
	if !replaced {
		if err := d.together(r, certs[0]); err != nil {
			return err
		}
	}
	for i, c := range certs {
		until := old.until
		if i == 0 && replaced {
			until = now.Add(predecessorFor).UnixMicro()
		}
		if c.Fingerprint() != f && c.Revoked(now) && until > now.UnixMicro() {
			r.beside(c, until)
		}
	}
	return nil
}

// together makes of a row the union with what was answered of the same
// certificate: what its owner or an authority took back isn't brought again by an
// older copy.
func (d *Directory) together(r *row, answered *pgp.Certificate) error {
	if bytes.Equal(answered.Bytes(), r.body) {
		return nil
	}
	c, err := pgp.Merge(r.cert, answered)
	if err != nil || len(c.Bytes()) > MaxCertificate { // without what it brought that isn't answered
		if c, err = d.minimalBy(r.cert, r.names, r.approved); err == nil {
			c, err = pgp.Merge(c, answered)
		}
	}
	if err == nil {
		c, err = fitting(c)
	}
	if err != nil { // it must not make room for itself by leaving that out
		return fmt.Errorf("%w: with what was taken back of it: %w", ErrTooLarge, err)
	}
	if bytes.Equal(c.Bytes(), r.cert.Bytes()) {
		return nil
	}
	next, err := d.rowBy(r.names, c, r.approved)
	if err != nil {
		return err
	}
	*r = next
	return nil
}

// beside adds a revoked certificate to the answer, if it has room: two of them
// for one address, and the whole not longer than one certificate may be.
func (r *row) beside(c *pgp.Certificate, until int64) {
	if len(r.certificate) == 0 {
		r.certificate = r.body
	}
	if r.predecessors < 2 && len(r.body)+len(c.Bytes()) <= MaxCertificate {
		r.body = append(bytes.Clone(r.body), c.Bytes()...)
		r.predecessors++
		r.until = max(r.until, until)
	}
}

// revokedRow is a row with a revocation.
func (d *Directory) revokedRow(r row, revoked *pgp.Certificate) (row, error) {
	c, err := pgp.Merge(r.cert, revoked)
	if err == nil {
		c, err = fitting(c)
	}
	if err != nil {
		return row{}, err
	}
	return d.rowBy(r.names, c, r.approved)
}

// fitting makes room for a revocation, whatever who has a stolen key added to what
// is published: nobody needs a revoked one's subkeys.
func fitting(c *pgp.Certificate) (*pgp.Certificate, error) {
	if _, revoked := c.RevocationOnly(); !revoked || len(c.Bytes()) <= MaxCertificate {
		return c, nil
	}
	return c.WithoutSubkeys()
}

// outdated chooses rows whose predecessors' year is over; at most a hundred at a
// time.
const outdated = "until > 0 AND until <= ? LIMIT 100"

// dropPredecessors ends the year of those that were replaced.
func (d *Directory) dropPredecessors(tx store.Tx, version int64, by approvals) error {
	rows, err := addressRows(tx, outdated, d.now().UnixMicro())
	for _, old := range rows {
		if err != nil {
			return err
		}
		e, bad := old.entry(d.store)
		approved, asked := by.of(e.Address)
		if bad != nil || !asked { // the next time
			continue
		}
		r, bad := d.rowBy(e.Address, e.Certificate, approved)
		if bad != nil {
			continue
		}
		r.added = old.added
		err = r.write(tx, d.store, version)
	}
	return err
}

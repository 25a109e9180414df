package server

import (
	"context"
	"crypto/hmac"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/pgp"
)

// noCertificate stands for the fingerprint of a row that can't be read.
const noCertificate = "-"

// fingerprint is the primary key's, of a row that is there.
func (r *row) fingerprint() string {
	if r.gone || len(r.keys) == 0 {
		return noCertificate
	}
	return string(r.keys[0])
}

// enter writes by which keys a row is found, and its revocation.
func (r *row) enter(tx store.Tx, st store.Store) error {
	if _, err := tx.Exec("DELETE FROM keydirserver_key WHERE address = ?", r.address); err != nil {
		return err
	}
	for _, f := range r.keys {
		if r.gone || f == noCertificate {
			break
		}
		_, err := tx.Exec("INSERT INTO keydirserver_key (fingerprint, keyid, address) VALUES (?, ?, ?)", string(f), int64(keyID(f)), r.address)
		if err != nil {
			return err
		}
	}
	if r.revoked == nil {
		return nil
	}
	return remember(tx, st, r.revoked)
}

// remember keeps a revocation, beside those that are known of the key.
func remember(tx store.Tx, st store.Store, c *pgp.Certificate) error {
	if old, err := revocation(tx, st, c.Fingerprint()); err == nil {
		if c, err = pgp.Merge(old, c); err != nil {
			return nil // too large a union: what is there says that it is revoked
		}
	} else if !errors.Is(err, store.ErrNoRow) && !errors.Is(err, store.ErrTampered) {
		return err
	}
	_, err := tx.Exec(`INSERT INTO keydirserver_revoked (fingerprint, certificate, mac) VALUES (?, ?, ?)
		ON CONFLICT (fingerprint) DO UPDATE SET certificate = excluded.certificate, mac = excluded.mac`,
		string(c.Fingerprint()), c.Bytes(), st.MAC(macRevoked, []byte(c.Fingerprint()), c.Bytes()))
	return err
}

// revocation is what is kept of a revoked key.
func revocation(tx store.Tx, st store.Store, f pgp.Fingerprint) (*pgp.Certificate, error) {
	var b, mac []byte
	if err := tx.Row("SELECT certificate, mac FROM keydirserver_revoked WHERE fingerprint = ?", []any{string(f)}, &b, &mac); err != nil {
		return nil, err
	}
	if !hmac.Equal(mac, st.MAC(macRevoked, []byte(f), b)) {
		return nil, fmt.Errorf("revocation of %s: %w", f, store.ErrTampered)
	}
	return parseOne(b)
}

func parseOne(b []byte) (*pgp.Certificate, error) {
	certs, err := pgp.ParseCertificates(b)
	if err == nil && len(certs) != 1 {
		err = pgp.ErrMalformed
	}
	if err != nil {
		return nil, err
	}
	return certs[0], nil
}

// keyID is that of a fingerprint (RFC 9580, Section 5.5.4): the low bits of
// version 4, the high ones of version 6.
func keyID(f pgp.Fingerprint) (id uint64) {
	b, err := hex.DecodeString(string(f))
	if err != nil || len(b) < 8 {
		return 0
	}
	b = b[:8:8]
	if full, _ := hex.DecodeString(string(f)); len(full) == 20 {
		b = full[12:]
	}
	for _, c := range b {
		id = id<<8 | uint64(c)
	}
	return id
}

// ByFingerprint is what is published of the key, primary or subkey, with that
// fingerprint: each certificate with every user ID that is published, or of one
// that was withdrawn its revocation. Empty if there is nothing. A certificate that
// only has somebody's primary key among its subkeys, which anybody can make, is not
// given beside that one's own.
func (d *Directory) ByFingerprint(ctx context.Context, f pgp.Fingerprint) ([]*pgp.Certificate, error) {
	return d.byFingerprint(ctx, f, anyDomain)
}

func anyDomain(string) bool { return true }

// byFingerprint is ByFingerprint of what is published for addresses of certain
// domains.
func (d *Directory) byFingerprint(ctx context.Context, f pgp.Fingerprint, ours func(domain string) bool) ([]*pgp.Certificate, error) {
	certs, err := d.byKey(ctx, ours, func(k pgp.Fingerprint) bool { return k == f }, "fingerprint", string(f))
	if err != nil || len(certs) > 0 {
		return certs, err
	}
	var c *pgp.Certificate
	err = d.store.View(ctx, func(tx store.Tx) (err error) {
		c, err = revocation(tx, d.store, f)
		return err
	})
	switch {
	case errors.Is(err, store.ErrNoRow):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("reading a revocation: %w", err)
	}
	return []*pgp.Certificate{c}, nil
}

// Revoke takes a revocation of a key that is or was published, from whoever has
// it: its signature is the proof. It is answered under every address at once, and
// by fingerprint for ever. known is false where nothing of that key was published.
func (d *Directory) Revoke(ctx context.Context, c *pgp.Certificate) (known bool, err error) {
	revoked, ok := c.RevocationOnly()
	if !ok {
		return false, fmt.Errorf("%s is not revoked: %w", c.Fingerprint(), pgp.ErrUnusable)
	}
	for range maxAsking {
		var by approvals
		by, err = d.approvals(ctx, "(fingerprint = ? OR "+wasOf+")", string(c.Fingerprint()), string(c.Fingerprint()))
		if err != nil {
			break
		}
		err = d.update(ctx, func(tx store.Tx, version int64) error {
			known, err = d.revoke(tx, c, revoked, version, by)
			return err
		})
		if !errors.Is(err, errNotAsked) {
			break
		}
	}
	if err != nil {
		return false, fmt.Errorf("revoking %s: %w", c.Fingerprint(), err)
	}
	return known, nil
}

// wasOf chooses the addresses for which a key was published.
const wasOf = "address IN (SELECT address FROM keydirserver_former WHERE fingerprint = ?)"

// revoke is Revoke in a transaction.
func (d *Directory) revoke(tx store.Tx, c, revoked *pgp.Certificate, version int64, by approvals) (known bool, err error) {
	rows, err := addressRows(tx, "fingerprint = ?", string(c.Fingerprint()))
	for _, r := range rows {
		known = true
		if err == nil {
			err = d.revokeRow(tx, r, revoked, version, by)
		}
	}
	if err != nil {
		return false, err
	}
	former, err := addressRows(tx, wasOf, string(c.Fingerprint()))
	if err == nil && !known {
		var n int
		err = tx.Row("SELECT COUNT(*) FROM keydirserver_former WHERE fingerprint = ?", []any{string(c.Fingerprint())}, &n)
		known = n > 0
	}
	for _, r := range former {
		if err == nil {
			err = d.revokeFormer(tx, r, c, version, by)
		}
	}
	if err != nil || !known {
		return false, err
	}
	return true, remember(tx, d.store, revoked)
}

// addressRows reads the published rows that a condition chooses.
func addressRows(tx store.Tx, where string, args ...any) (rows []row, err error) {
	err = tx.Rows(selectRows+" WHERE gone = 0 AND "+where, args, func(scan func(...any) error) error {
		r := row{}
		err := scan(r.dest()...)
		rows = append(rows, r)
		return err
	})
	return rows, err
}

func (d *Directory) revokeRow(tx store.Tx, r row, revoked *pgp.Certificate, version int64, by approvals) error {
	e, err := r.entry(d.store)
	if errors.Is(err, store.ErrTampered) {
		return nil // it isn't served either; the revocation is kept by fingerprint
	}
	if err != nil {
		return err
	}
	approved, asked := by.of(e.Address)
	if !asked {
		return errNotAsked
	}
	next, err := d.revokedRow(row{names: e.Address, cert: e.Certificate, approved: approved}, revoked)
	if err != nil {
		return err
	}
	return d.put(tx, next, version)
}

// revokeFormer has a certificate that was replaced answered beside its successor,
// now that it is revoked.
func (d *Directory) revokeFormer(tx store.Tx, r row, c *pgp.Certificate, version int64, by approvals) error {
	e, err := r.entry(d.store)
	if errors.Is(err, store.ErrTampered) {
		return nil
	}
	if err != nil || e.Certificate.Fingerprint() == c.Fingerprint() {
		return err
	}
	all, err := pgp.ParseCertificates(r.body)
	if err != nil || slices.ContainsFunc(all, func(o *pgp.Certificate) bool { return o.Fingerprint() == c.Fingerprint() }) {
		return err
	}
	approved, asked := by.of(e.Address)
	if !asked {
		return errNotAsked
	}
	m, err := d.minimalBy(c, e.Address, approved)
	if err != nil {
		return nil // it doesn't name the address: by fingerprint it is told
	}
	r.names, r.cert, r.keys, r.predecessors = e.Address, e.Certificate, e.Certificate.Fingerprints(), len(all)-1
	r.beside(m, d.now().Add(predecessorFor).UnixMicro())
	return r.write(tx, d.store, version)
}

// ByKeyID is ByFingerprint for whoever knows only a key ID, which strangers may
// share; revocations of what was withdrawn aren't found by it.
func (d *Directory) ByKeyID(ctx context.Context, id uint64) ([]*pgp.Certificate, error) {
	return d.byKeyID(ctx, id, anyDomain)
}

func (d *Directory) byKeyID(ctx context.Context, id uint64, ours func(domain string) bool) ([]*pgp.Certificate, error) {
	return d.byKey(ctx, ours, func(f pgp.Fingerprint) bool { return keyID(f) == id }, "keyid", int64(id))
}

// byKey reads rows by a column of the index, those whose primary key it is first,
// and joins those of one certificate. The index carries no MAC; fits tells whether
// it was right.
func (d *Directory) byKey(ctx context.Context, ours func(domain string) bool, fits func(pgp.Fingerprint) bool, column string, arg any) (all []*pgp.Certificate, err error) {
	query := "SELECT k.address FROM keydirserver_key k JOIN keydirserver_cert c ON c.address = k.address WHERE k." + column + ` = ?
		ORDER BY CASE WHEN c.fingerprint = k.fingerprint THEN 0 ELSE 1 END, k.address LIMIT 20`
	var rows []row
	err = d.store.View(ctx, func(tx store.Tx) error {
		rows = nil
		var addresses []string
		err := tx.Rows(query, []any{arg}, func(scan func(...any) error) error {
			var a string
			err := scan(&a)
			addresses = append(addresses, a)
			return err
		})
		for _, a := range addresses {
			r := row{}
			if err == nil {
				err = tx.Row(selectRows+" WHERE address = ? AND gone = 0", []any{a}, r.dest()...)
				rows = append(rows, r)
			}
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading the published certificates: %w", err)
	}
	for _, r := range rows {
		if a, err := r.check(d.store); err != nil || !ours(a.Domain) {
			continue // it isn't answered by its address either
		}
		// The first is what is published; a predecessor is told as what is revoked.
		certs, err := pgp.ParseCertificates(r.body)
		if err != nil || len(certs) == 0 || !slices.ContainsFunc(certs[0].Fingerprints(), fits) {
			continue
		}
		c := certs[0]
		at := slices.IndexFunc(all, func(o *pgp.Certificate) bool { return o.Fingerprint() == c.Fingerprint() })
		if at < 0 {
			all = append(all, c)
		} else if m, err := pgp.Merge(all[at], c); err == nil {
			all[at] = m
		}
	}
	primary := func(c *pgp.Certificate) bool { return fits(c.Fingerprint()) }
	if slices.ContainsFunc(all, primary) {
		all = slices.DeleteFunc(all, func(c *pgp.Certificate) bool { return !primary(c) })
	}
	return all, nil
}

// enterOld enters what was written before there was an index of keys.
func (d *Directory) enterOld(ctx context.Context) error {
	for {
		var rows []row
		err := d.store.View(ctx, func(tx store.Tx) error {
			rows = nil
			return tx.Rows(selectRows+" WHERE fingerprint = '' LIMIT 500", nil, func(scan func(...any) error) error {
				r := row{}
				err := scan(r.dest()...)
				rows = append(rows, r)
				return err
			})
		})
		if err != nil || len(rows) == 0 {
			return err
		}
		for i := range rows {
			if c, err := parseOne(rows[i].whole()); err == nil && !rows[i].gone {
				rows[i].keys = c.Fingerprints()
				rows[i].revoked, _ = c.RevocationOnly()
			}
		}
		err = d.store.Update(ctx, func(tx store.Tx) error {
			for _, r := range rows {
				n, err := tx.Exec("UPDATE keydirserver_cert SET fingerprint = ? WHERE address = ? AND fingerprint = ''", r.fingerprint(), r.address)
				if err != nil {
					return err
				}
				if n == 0 {
					continue // another node did it
				}
				if err := r.enter(tx, d.store); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
}

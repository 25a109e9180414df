package server

import (
	"context"
	"crypto/hmac"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/pgp"
)

// Schema is the table of published certificates.
var Schema = store.Schema{Name: "keydirserver", Steps: []string{
	// address is its Key, spelling as it was given; body is what is answered.
	`CREATE TABLE keydirserver_cert (
		address     TEXT PRIMARY KEY NOT NULL,
		spelling    TEXT NOT NULL,
		certificate BLOB NOT NULL,
		body        BLOB NOT NULL,
		added       INTEGER NOT NULL,
		mac         BLOB NOT NULL)`,
}}

// macPurpose separates the MACs of our rows.
const macPurpose = "keydirserver/cert v1"

// MaxCertificate is the longest certificate that is published, in bytes.
const MaxCertificate = 64 << 10

// Errors of Add. They wrap what pgp says, where it says something.
var (
	ErrTooLarge = errors.New("certificate too large to publish")
	ErrUserID   = errors.New("certificate does not name the address")
)

// Directory is the certificates that are published. It may be used concurrently.
type Directory struct {
	// Now is the clock; time.Now if nil. It must be set before first use.
	Now func() time.Time

	store store.Store
	write sync.Mutex               // held from a change of the table to that of snap
	snap  atomic.Pointer[snapshot] // nil before the first look-up
	mu    sync.Mutex               // held while snap is replaced
}

// NewDirectory makes a Directory over a store with our [Schema]. It reads
// nothing yet.
func NewDirectory(st store.Store) *Directory { return &Directory{store: st} }

// Entry is one published certificate.
type Entry struct {
	Address     address.Address
	Certificate *pgp.Certificate // as it was added
	Added       time.Time
}

func (d *Directory) now() time.Time {
	if d.Now != nil {
		return d.Now()
	}
	return time.Now()
}

// Add publishes c for a, in place of what was published for a. c must be at most
// [MaxCertificate] bytes and have a valid user ID of a; it may be revoked, which
// is then what is published. It is answered from when Add returns: [pgp.Certificate.Minimal]
// of c as of now. What expires later stays in it, for clients to see that.
func (d *Directory) Add(ctx context.Context, a address.Address, c *pgp.Certificate) error {
	r, err := d.row(a, c)
	if err != nil {
		return err
	}
	d.write.Lock()
	defer d.write.Unlock()
	err = d.store.Update(ctx, func(tx store.Tx) error { return r.write(tx, d.store) })
	if err != nil {
		return fmt.Errorf("publishing the certificate of %s: %w", a, err)
	}
	d.publish(a, answerOf(r.body))
	return nil
}

// Remove withdraws what is published for a; store.ErrNoRow if nothing is.
func (d *Directory) Remove(ctx context.Context, a address.Address) error {
	d.write.Lock()
	defer d.write.Unlock()
	err := d.store.Update(ctx, func(tx store.Tx) error {
		n, err := tx.Exec("DELETE FROM keydirserver_cert WHERE address = ?", a.Key())
		if err == nil && n == 0 {
			err = store.ErrNoRow
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("withdrawing the certificate of %s: %w", a, err)
	}
	d.publish(a, nil)
	return nil
}

// Certificate is the one published for a, as it was added; store.ErrNoRow if
// there is none.
func (d *Directory) Certificate(ctx context.Context, a address.Address) (*pgp.Certificate, error) {
	var e Entry
	err := d.store.View(ctx, func(tx store.Tx) error {
		r := row{}
		if err := tx.Row(selectRows+" WHERE address = ?", []any{a.Key()}, r.dest()...); err != nil {
			return err
		}
		var err error
		e, err = r.entry(d.store)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading the published certificate of %s: %w", a, err)
	}
	return e.Certificate, nil
}

// List is all that is published, by address.
func (d *Directory) List(ctx context.Context) ([]Entry, error) {
	rows, err := d.rows(ctx)
	if err != nil {
		return nil, err
	}
	all := make([]Entry, 0, len(rows))
	for _, r := range rows {
		e, err := r.entry(d.store)
		if err != nil {
			return nil, err
		}
		all = append(all, e)
	}
	return all, nil
}

const selectRows = "SELECT address, spelling, certificate, body, added, mac FROM keydirserver_cert"

func (d *Directory) rows(ctx context.Context) ([]row, error) {
	var rows []row
	err := d.store.View(ctx, func(tx store.Tx) error {
		return tx.Rows(selectRows+" ORDER BY address", nil, func(scan func(...any) error) error {
			r := row{}
			err := scan(r.dest()...)
			rows = append(rows, r)
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("reading the published certificates: %w", err)
	}
	return rows, nil
}

// row is a row of our table.
type row struct {
	address, spelling      string
	certificate, body, mac []byte
	added                  int64 // Unix microseconds
}

func (r *row) dest() []any {
	return []any{&r.address, &r.spelling, &r.certificate, &r.body, &r.added, &r.mac}
}

// row checks c and makes the row to store.
func (d *Directory) row(a address.Address, c *pgp.Certificate) (row, error) {
	if len(c.Bytes()) > MaxCertificate {
		return row{}, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, len(c.Bytes()), MaxCertificate)
	}
	if !c.Has(a) {
		return row{}, fmt.Errorf("%w: %s has no valid user ID of %s", ErrUserID, c.Fingerprint(), a)
	}
	now := d.now()
	m, err := c.Minimal(a, now)
	if err != nil {
		return row{}, fmt.Errorf("publishing the certificate of %s: %w", a, err)
	}
	return row{a.Key(), a.String(), c.Bytes(), m.Bytes(), nil, now.UnixMicro()}, nil
}

func (r *row) macOf(st store.Store) []byte {
	added := binary.BigEndian.AppendUint64(nil, uint64(r.added))
	return st.MAC(macPurpose, []byte(r.address), []byte(r.spelling), r.certificate, r.body, added)
}

func (r *row) write(tx store.Tx, st store.Store) error {
	_, err := tx.Exec(`INSERT INTO keydirserver_cert (address, spelling, certificate, body, added, mac)
		VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (address) DO UPDATE SET spelling = excluded.spelling,
		certificate = excluded.certificate, body = excluded.body, added = excluded.added, mac = excluded.mac`,
		r.address, r.spelling, r.certificate, r.body, r.added, r.macOf(st))
	return err
}

// check compares the row's MAC and gives its address.
func (r *row) check(st store.Store) (address.Address, error) {
	a, err := address.Parse(r.spelling)
	if !hmac.Equal(r.mac, r.macOf(st)) {
		err = store.ErrTampered
	}
	if err != nil {
		return address.Address{}, fmt.Errorf("published certificate of %q: %w", r.spelling, err)
	}
	return a, nil
}

// entry checks and reads a row.
func (r *row) entry(st store.Store) (Entry, error) {
	a, err := r.check(st)
	if err != nil {
		return Entry{}, err
	}
	certs, err := pgp.ParseCertificates(r.certificate)
	if err == nil && len(certs) != 1 {
		err = pgp.ErrMalformed
	}
	if err != nil {
		return Entry{}, fmt.Errorf("published certificate of %s: %w", a, err)
	}
	return Entry{a, certs[0], time.UnixMicro(r.added).UTC()}, nil
}

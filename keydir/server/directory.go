package server

import (
	"bytes"
	"context"
	"crypto/hmac"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
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
	// Several nodes share the table: each change raises the one version, in the
	// order of their commits, and the others read the rows that are newer than
	// what they have. So what is withdrawn leaves a row behind for a while.
	`ALTER TABLE keydirserver_cert ADD COLUMN version INTEGER NOT NULL DEFAULT 0;
	ALTER TABLE keydirserver_cert ADD COLUMN gone INTEGER NOT NULL DEFAULT 0;
	CREATE INDEX keydirserver_cert_version ON keydirserver_cert (version);
	CREATE TABLE keydirserver_version (id INTEGER PRIMARY KEY, version INTEGER NOT NULL);
	INSERT INTO keydirserver_version (id, version) VALUES (1, 0)`,
	// By fingerprint and key ID, subkeys' too; and what is told of revoked ones for
	// ever. fingerprint is empty where a row is still to be entered.
	`ALTER TABLE keydirserver_cert ADD COLUMN fingerprint TEXT NOT NULL DEFAULT '';
	CREATE INDEX keydirserver_cert_fingerprint ON keydirserver_cert (fingerprint);
	CREATE TABLE keydirserver_key (
		fingerprint TEXT NOT NULL, keyid INTEGER NOT NULL, address TEXT NOT NULL, PRIMARY KEY (fingerprint, address));
	CREATE INDEX keydirserver_key_id ON keydirserver_key (keyid);
	CREATE INDEX keydirserver_key_address ON keydirserver_key (address);
	CREATE TABLE keydirserver_revoked (
		fingerprint TEXT PRIMARY KEY NOT NULL, certificate BLOB NOT NULL, mac BLOB NOT NULL)`,
	// What waits for its confirmation: token is a keyed hash. Until when a revoked
	// predecessor is part of an answer; and which keys an address had before.
	`-- additive
	CREATE TABLE keydirserver_pending (
		token       BLOB PRIMARY KEY NOT NULL,
		way         TEXT NOT NULL,
		address     TEXT NOT NULL,
		spelling    TEXT NOT NULL,
		fingerprint TEXT NOT NULL,
		certificate BLOB NOT NULL,
		made        INTEGER NOT NULL,
		ends        INTEGER NOT NULL,
		used        INTEGER NOT NULL,
		mac         BLOB NOT NULL);
	CREATE INDEX keydirserver_pending_address ON keydirserver_pending (address, made);
	CREATE INDEX keydirserver_pending_ends ON keydirserver_pending (ends);
	ALTER TABLE keydirserver_cert ADD COLUMN until INTEGER NOT NULL DEFAULT 0;
	CREATE INDEX keydirserver_cert_until ON keydirserver_cert (until) WHERE until > 0;
	CREATE TABLE keydirserver_former (fingerprint TEXT NOT NULL, address TEXT NOT NULL, PRIMARY KEY (fingerprint, address))`,
	// Who asked, as a keyed hash, and whether whoever got the mail said no; and of a
	// mail that is still to be sent its seed and when it is due.
	`-- additive
	ALTER TABLE keydirserver_pending ADD COLUMN client TEXT NOT NULL DEFAULT '';
	ALTER TABLE keydirserver_pending ADD COLUMN refused INTEGER NOT NULL DEFAULT 0;
	ALTER TABLE keydirserver_pending ADD COLUMN seed TEXT NOT NULL DEFAULT '';
	ALTER TABLE keydirserver_pending ADD COLUMN due INTEGER NOT NULL DEFAULT 0;
	CREATE INDEX keydirserver_pending_client ON keydirserver_pending (client) WHERE client <> '';
	CREATE INDEX keydirserver_pending_due ON keydirserver_pending (due) WHERE due > 0`,
	// To count what waits without reading it.
	`-- additive
	CREATE INDEX keydirserver_pending_way ON keydirserver_pending (way, client)`,
}}

// These separate the MACs of our rows.
const (
	macPurpose = "keydirserver/cert v1"
	macGone    = "keydirserver/gone v1"
	macRevoked = "keydirserver/revoked v1"
)

// MaxCertificate is the longest certificate that is published, in bytes.
const MaxCertificate = 64 << 10

// Errors of Add. They wrap what pgp says, where it says something.
var (
	ErrTooLarge = errors.New("certificate too large to publish")
	ErrUserID   = errors.New("certificate does not name the address")
)

// Directory is the certificates that are published. It may be used concurrently,
// and by several nodes over one store: see [Directory.Refresh].
type Directory struct {
	// Now is the clock; time.Now if nil. It must be set before first use.
	Now func() time.Time
	// Submission is the address of the Web Key Service, zero for none. It must be
	// set before first use.
	Submission address.Address
	// Approved are certificates whose certifications of an address's user ID are
	// kept and published: the organisation's authorities, and keys that the owner
	// had before. What is published for the address counts as approved anyway. Nil
	// means none. It may be called concurrently, and must be set before first use.
	// It may read the store: it is never called within one of our transactions.
	Approved func(a address.Address) []*pgp.Certificate

	store store.Store
	served
}

// NewDirectory makes a Directory over a store with our [Schema]. It reads
// nothing yet.
func NewDirectory(st store.Store) *Directory {
	return &Directory{store: st, served: served{numbers: map[string]uint32{}, table: &table{}}}
}

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
	if err := d.change(ctx, r); err != nil {
		return fmt.Errorf("publishing the certificate of %s: %w", a, err)
	}
	return nil
}

// goneFor is how long the row of what was withdrawn stays, for other nodes.
const goneFor = 7 * 24 * time.Hour

// Remove withdraws what is published for a; store.ErrNoRow if nothing is.
func (d *Directory) Remove(ctx context.Context, a address.Address) error {
	err := d.update(ctx, func(tx store.Tx, version int64) error { return d.remove(tx, a, version, nil) })
	if err != nil {
		return fmt.Errorf("withdrawing the certificate of %s: %w", a, err)
	}
	return nil
}

// remove is Remove in a transaction; store.ErrNoRow also where the fingerprint of
// what is published isn't the one meant. A nil meant means any.
func (d *Directory) remove(tx store.Tx, a address.Address, version int64, meant func(fingerprint string) bool) error {
	now := d.now()
	r := row{address: a.Key(), spelling: a.String(), added: now.UnixMicro(), gone: true}
	var f string
	if err := tx.Row("SELECT fingerprint FROM keydirserver_cert WHERE address = ? AND gone = 0", []any{a.Key()}, &f); err != nil {
		return err
	}
	if meant != nil && !meant(f) {
		return store.ErrNoRow
	}
	if _, err := tx.Exec("INSERT INTO keydirserver_former (fingerprint, address) VALUES (?, ?) ON CONFLICT DO NOTHING", f, a.Key()); err != nil {
		return err
	}
	if _, err := tx.Exec("DELETE FROM keydirserver_cert WHERE gone = 1 AND added < ?", now.Add(-goneFor).UnixMicro()); err != nil {
		return err
	}
	return r.write(tx, d.store, version)
}

// change writes rows in one transaction, and answers by them.
func (d *Directory) change(ctx context.Context, rows ...row) error {
	return d.update(ctx, func(tx store.Tx, version int64) error {
		for _, r := range rows {
			if err := d.put(tx, r, version); err != nil {
				return err
			}
		}
		return nil
	})
}

// update runs f in a transaction with a version of its own, and makes what it
// wrote the answer. Nodes that do so at the same time wait for each other: what
// has a lower version was committed before.
func (d *Directory) update(ctx context.Context, f func(tx store.Tx, version int64) error) error {
	err := d.store.Update(ctx, func(tx store.Tx) error {
		if _, err := tx.Exec("UPDATE keydirserver_version SET version = version + 1 WHERE id = 1"); err != nil {
			return err
		}
		var version int64
		if err := tx.Row("SELECT version FROM keydirserver_version WHERE id = 1", nil, &version); err != nil {
			return err
		}
		return f(tx, version)
	})
	if err != nil {
		return err
	}
	if d.store.Shared() {
		_ = d.store.Notify(context.WithoutCancel(ctx), Channel, "") // a hint: the others look now and then
	}
	if err := d.catchUp(context.WithoutCancel(ctx)); err != nil {
		return fmt.Errorf("it is stored, and will be answered once the store can be read: %w", err)
	}
	return nil
}

// Certificate is the one published for a, as it was added; store.ErrNoRow if
// there is none.
func (d *Directory) Certificate(ctx context.Context, a address.Address) (*pgp.Certificate, error) {
	var e Entry
	err := d.store.View(ctx, func(tx store.Tx) error {
		r := row{}
		if err := tx.Row(selectRows+" WHERE address = ? AND gone = 0", []any{a.Key()}, r.dest()...); err != nil {
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

// List is all that is published, by address. It has everything in memory.
func (d *Directory) List(ctx context.Context) (all []Entry, err error) {
	err = d.store.View(ctx, func(tx store.Tx) error {
		all = nil
		return tx.Rows(selectRows+" WHERE gone = 0 ORDER BY address", nil, func(scan func(...any) error) error {
			r := row{}
			if err := scan(r.dest()...); err != nil {
				return err
			}
			e, err := r.entry(d.store)
			all = append(all, e)
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("reading the published certificates: %w", err)
	}
	return all, nil
}

const selectRows = "SELECT address, spelling, certificate, body, added, mac, gone, until FROM keydirserver_cert"

// row is a row of our table. One that is gone has neither certificate nor body;
// certificate is empty where body is the whole of it.
type row struct {
	address, spelling      string
	certificate, body, mac []byte
	added                  int64 // Unix microseconds; of one that is gone: since when
	gone                   bool
	until                  int64 // Unix microseconds: how long predecessors are part of body
	// What follows is not in this table.
	names    address.Address    // what spelling says
	cert     *pgp.Certificate   // as it was added
	keys     []pgp.Fingerprint  // the primary key's first
	revoked  *pgp.Certificate   // what is told for ever, nil if it isn't revoked
	approved []*pgp.Certificate // what Approved said, before the transaction

	predecessors int // certificates in body behind that of cert
}

func (r *row) dest() []any {
	return []any{&r.address, &r.spelling, &r.certificate, &r.body, &r.added, &r.mac, &r.gone, &r.until}
}

// whole is the certificate as it was added.
func (r *row) whole() []byte {
	if len(r.certificate) == 0 {
		return r.body
	}
	return r.certificate
}

// row checks c and makes the row to store. It asks Approved: see approvals.
func (d *Directory) row(a address.Address, c *pgp.Certificate) (row, error) {
	return d.rowBy(a, c, d.approvedFor(a))
}

// rowBy is row with what is approved for a.
func (d *Directory) rowBy(a address.Address, c *pgp.Certificate, approved []*pgp.Certificate) (row, error) {
	if len(c.Bytes()) > MaxCertificate {
		return row{}, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, len(c.Bytes()), MaxCertificate)
	}
	if !c.Has(a) {
		return row{}, fmt.Errorf("%w: %s has no valid user ID of %s", ErrUserID, c.Fingerprint(), a)
	}
	now := d.now()
	m, err := d.minimalBy(c, a, approved)
	if err != nil {
		return row{}, fmt.Errorf("publishing the certificate of %s: %w", a, err)
	}
	r := row{address: a.Key(), spelling: a.String(), body: m.Bytes(), added: now.UnixMicro(), names: a, cert: c, keys: c.Fingerprints(), approved: approved}
	r.revoked, _ = c.RevocationOnly()
	if !bytes.Equal(m.Bytes(), c.Bytes()) {
		r.certificate = c.Bytes()
	}
	return r, nil
}

// minimal is what is kept of a certificate for an address. It asks Approved.
func (d *Directory) minimal(c *pgp.Certificate, a address.Address) (*pgp.Certificate, error) {
	return d.minimalBy(c, a, d.approvedFor(a))
}

func (d *Directory) minimalBy(c *pgp.Certificate, a address.Address, approved []*pgp.Certificate) (*pgp.Certificate, error) {
	if k, ok := d.key(a.Domain, hashOfAddress(a)); ok {
		if body, _, ok := d.table.get(k, nil); ok {
			before, _ := pgp.ParseCertificates(body) // what can't be read approves of nothing
			approved = append(slices.Clone(approved), before...)
		}
	}
	return c.Minimal(a, d.now(), approved...)
}

func (r *row) macOf(st store.Store) []byte {
	added := binary.BigEndian.AppendUint64(nil, uint64(r.added))
	purpose := macPurpose
	if r.gone {
		purpose = macGone // a row that was withdrawn can't be turned into one that is there
	}
	return st.MAC(purpose, []byte(r.address), []byte(r.spelling), r.certificate, r.body, added)
}

func (r *row) write(tx store.Tx, st store.Store, version int64) error {
	_, err := tx.Exec(`INSERT INTO keydirserver_cert (address, spelling, certificate, body, added, mac, gone, version, fingerprint, until)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (address) DO UPDATE SET spelling = excluded.spelling,
		certificate = excluded.certificate, body = excluded.body, added = excluded.added, mac = excluded.mac,
		gone = excluded.gone, version = excluded.version, fingerprint = excluded.fingerprint, until = excluded.until`,
		r.address, r.spelling, r.certificate, r.body, r.added, r.macOf(st), r.gone, version, r.fingerprint(), r.until)
	if err != nil {
		return err
	}
	return r.enter(tx, st)
}

// check compares the row's MAC and gives its address.
func (r *row) check(st store.Store) (address.Address, error) {
	a, err := address.Parse(r.spelling)
	if !hmac.Equal(r.mac, r.macOf(st)) || a.Key() != r.address {
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
	certs, err := pgp.ParseCertificates(r.whole())
	if err == nil && len(certs) != 1 {
		err = pgp.ErrMalformed
	}
	if err != nil {
		return Entry{}, fmt.Errorf("published certificate of %s: %w", a, err)
	}
	return Entry{a, certs[0], time.UnixMicro(r.added).UTC()}, nil
}

package keydir

import (
	"context"
	"crypto/hmac"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/pgp"
)

// Each row carries trust, so each has a MAC over its key and value: the store's
// encryption keeps secrets, but does not notice a change.

// load reads the peer of an address from memory or the store; never nil without
// an error.
func (r *Resolver) load(ctx context.Context, a address.Address) (p *peer, state uint64, err error) {
	key := a.Key()
	p, state = r.cache.peer(key)
	if p != nil {
		return p, state, nil
	}
	err = r.store.View(ctx, func(tx store.Tx) error {
		p, err = r.readPeer(tx, a)
		return err
	})
	if err != nil {
		return nil, state, fmt.Errorf("reading what is known of a certificate: %w", err)
	}
	return p, state, nil
}

// change runs f on the peer of an address in one transaction and keeps it if f
// says so. f may run more than once, on a peer of its own each time.
func (r *Resolver) change(ctx context.Context, a address.Address, f func(tx store.Tx, p *peer) (keep bool, err error)) error {
	defer r.cache.forget(a.Key())
	news := false
	err := r.store.Update(ctx, func(tx store.Tx) error {
		news = false
		p, err := r.readPeer(tx, a)
		if err != nil {
			return err
		}
		before := p.standing()
		keep, err := f(tx, p)
		if err != nil || !keep {
			return err
		}
		if err := r.vouch(tx, a, p); err != nil {
			return err
		}
		news = p.standing() != before
		return r.writePeer(tx, a.Key(), p)
	})
	if err != nil {
		return fmt.Errorf("keeping what is known of a certificate: %w", err)
	}
	if news {
		r.cache.forget(a.Key())
		r.learned(ctx, a)
	}
	return nil
}

// standing is which certificates hold, and how well they are known. What only
// says when somebody was asked is no part of it.
func (p *peer) standing() string {
	var b strings.Builder
	for _, pin := range p.Pins {
		fmt.Fprintf(&b, "%s %s;", pin.Fingerprint, pin.Identity)
	}
	return fmt.Sprintf("%s%d", b.String(), len(p.Candidates))
}

func (r *Resolver) readPeer(tx store.Tx, a address.Address) (*peer, error) {
	var state, mac []byte
	err := tx.Row(`SELECT state, mac FROM keydir_peer WHERE addr = ?`, []any{a.Key()}, &state, &mac)
	if errors.Is(err, store.ErrNoRow) {
		return newPeer(a), nil
	}
	if err != nil {
		return nil, err
	}
	return r.decodePeer(tx, a.Key(), state, mac)
}

func (r *Resolver) decodePeer(tx store.Tx, key string, state, mac []byte) (*peer, error) {
	if !hmac.Equal(mac, r.store.MAC("keydir_peer", []byte(key), state)) {
		return nil, fmt.Errorf("keydir_peer: %w", store.ErrTampered)
	}
	p := newPeer(address.Address{})
	if err := json.Unmarshal(state, &p.Peer); err != nil {
		return nil, fmt.Errorf("keydir_peer: %w", err)
	}
	for _, b := range slices.Concat(p.Pins, p.Candidates, p.Former) {
		c, err := r.readCertificate(tx, b.Fingerprint)
		if err != nil {
			return nil, err
		}
		p.certs[b.Fingerprint] = c
	}
	return p, nil
}

func (r *Resolver) writePeer(tx store.Tx, key string, p *peer) error {
	state, err := p.encode()
	if err != nil {
		return err
	}
	named := map[pgp.Fingerprint]bool{}
	for _, b := range slices.Concat(p.Pins, p.Candidates, p.Former) {
		named[b.Fingerprint] = true
	}
	for _, f := range slices.Sorted(maps.Keys(named)) {
		if err := r.writeCertificate(tx, p.certs[f]); err != nil {
			return err
		}
	}
	_, err = tx.Exec(`INSERT INTO keydir_peer (addr, state, mac) VALUES (?, ?, ?)
		ON CONFLICT (addr) DO UPDATE SET state = excluded.state, mac = excluded.mac`,
		key, state, r.store.MAC("keydir_peer", []byte(key), state))
	return err
}

// readCertificate is a stored certificate; that it isn't there is tampering too,
// since rows that name it are written with it.
func (r *Resolver) readCertificate(tx store.Tx, f pgp.Fingerprint) (*pgp.Certificate, error) {
	var b, mac []byte
	err := tx.Row(`SELECT bytes, mac FROM keydir_cert WHERE fpr = ?`, []any{string(f)}, &b, &mac)
	switch {
	case errors.Is(err, store.ErrNoRow):
		return nil, fmt.Errorf("keydir_cert: %s is missing: %w", f, store.ErrTampered)
	case err != nil:
		return nil, err
	case !hmac.Equal(mac, r.store.MAC("keydir_cert", []byte(f), b)):
		return nil, fmt.Errorf("keydir_cert: %w", store.ErrTampered)
	}
	return r.parsed.get(b, func() (*pgp.Certificate, error) {
		certs, err := pgp.ParseCertificates(b)
		if err != nil || len(certs) != 1 || certs[0].Fingerprint() != f {
			return nil, fmt.Errorf("keydir_cert: %s can't be read: %w", f, errors.Join(store.ErrTampered, err))
		}
		return certs[0], nil
	})
}

// writeCertificate stores a certificate, merged with what is there: another
// address may name the same one.
func (r *Resolver) writeCertificate(tx store.Tx, c *pgp.Certificate) error {
	f := c.Fingerprint()
	var there int
	err := tx.Row(`SELECT 1 FROM keydir_cert WHERE fpr = ?`, []any{string(f)}, &there)
	switch {
	case err == nil:
		old, err := r.readCertificate(tx, f)
		if err != nil {
			return err
		}
		if merged, err := pgp.Merge(old, c); err == nil {
			c = merged
		}
		if string(c.Bytes()) == string(old.Bytes()) {
			return nil
		}
	case !errors.Is(err, store.ErrNoRow):
		return err
	}
	_, err = tx.Exec(`INSERT INTO keydir_cert (fpr, bytes, mac) VALUES (?, ?, ?)
		ON CONFLICT (fpr) DO UPDATE SET bytes = excluded.bytes, mac = excluded.mac`,
		string(f), c.Bytes(), r.store.MAC("keydir_cert", []byte(f), c.Bytes()))
	if err != nil {
		return err
	}
	for _, id := range c.SignerIDs() {
		_, err := tx.Exec(`INSERT INTO keydir_keyid (keyid, fpr) VALUES (?, ?) ON CONFLICT DO NOTHING`, int64(id), string(f))
		if err != nil {
			return err
		}
	}
	return nil
}

// seenDirectory tells whether the domain was ever seen with a directory; now is
// noted if it is so now.
func (r *Resolver) seenDirectory(tx store.Tx, domain string, seenNow bool, now time.Time) (bool, error) {
	var at int64
	var mac []byte
	err := tx.Row(`SELECT seen, mac FROM keydir_domain WHERE domain = ?`, []any{domain}, &at, &mac)
	switch {
	case err == nil && !hmac.Equal(mac, r.domainMAC(domain, at)):
		return true, fmt.Errorf("keydir_domain: %w", store.ErrTampered)
	case err == nil:
		return true, nil
	case !errors.Is(err, store.ErrNoRow):
		return true, err
	case !seenNow:
		return false, nil
	}
	at = now.UnixMicro()
	_, err = tx.Exec(`INSERT INTO keydir_domain (domain, seen, mac) VALUES (?, ?, ?)`, domain, at, r.domainMAC(domain, at))
	return true, err
}

func (r *Resolver) domainMAC(domain string, at int64) []byte {
	return r.store.MAC("keydir_domain", []byte(domain), binary.BigEndian.AppendUint64(nil, uint64(at)))
}

package keyring

import (
	"context"
	"crypto/hmac"
	"encoding/binary"
	"fmt"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/pgp"
)

// row is one row of keyring_keys.
type row struct {
	address     string
	fingerprint string
	secret      []byte
	active      int64
	added       int64 // Unix microseconds
	mac         []byte
}

// macPurpose separates the table from others.
const macPurpose = "keyring_keys"

func (r *Ring) mac(w row) []byte {
	var numbers [16]byte
	binary.BigEndian.PutUint64(numbers[:8], uint64(w.active))
	binary.BigEndian.PutUint64(numbers[8:], uint64(w.added))
	return r.store.MAC(macPurpose, []byte(w.address), []byte(w.fingerprint), w.secret, numbers[:])
}

// load gives every key of an address, oldest first, from memory or the store. A
// row that was changed from outside is store.ErrTampered for the whole address.
func (r *Ring) load(ctx context.Context, text string) ([]held, error) {
	r.mu.Lock()
	keys, ok := r.open[text]
	state := r.state
	r.mu.Unlock()
	if ok {
		return keys, nil
	}
	var rows []row
	err := r.store.View(ctx, func(tx store.Tx) (err error) {
		rows, err = read(tx, text)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading the keys of %s: %w", text, err)
	}
	for _, w := range rows {
		h, err := r.unpack(w)
		clear(w.secret)
		if err != nil {
			return nil, fmt.Errorf("reading the keys of %s: %w", text, err)
		}
		keys = append(keys, h)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state == state { // nothing was stored meanwhile
		r.open[text] = keys
	}
	return keys, nil
}

func read(tx store.Tx, text string) ([]row, error) {
	var rows []row
	err := tx.Rows(`SELECT address, fingerprint, secret, active, added, mac FROM keyring_keys
		WHERE address = ? ORDER BY added, fingerprint`, []any{text}, func(scan func(...any) error) error {
		var w row
		if err := scan(&w.address, &w.fingerprint, &w.secret, &w.active, &w.added, &w.mac); err != nil {
			return err
		}
		rows = append(rows, w)
		return nil
	})
	return rows, err
}

// unpack checks a row and parses its key.
func (r *Ring) unpack(w row) (held, error) {
	if !hmac.Equal(r.mac(w), w.mac) {
		return held{}, store.ErrTampered
	}
	keys, err := pgp.ParseKeys(w.secret, nil)
	if err != nil {
		return held{}, err
	}
	if len(keys) != 1 || string(keys[0].Fingerprint()) != w.fingerprint {
		return held{}, store.ErrTampered
	}
	return held{keys[0], w.active == 1, time.UnixMicro(w.added)}, nil
}

// put stores keys in one transaction. If active is given, that key becomes the
// active one and no other is.
func (r *Ring) put(ctx context.Context, a address.Address, keys []*pgp.Key, active pgp.Fingerprint) error {
	return r.putIf(ctx, a, keys, active, func([]row) error { return nil })
}

// putIf is put unless what is there already is an error.
func (r *Ring) putIf(ctx context.Context, a address.Address, keys []*pgp.Key, active pgp.Fingerprint, may func([]row) error) error {
	defer r.evict(a.Key())
	return r.store.Update(ctx, func(tx store.Tx) error {
		rows, err := read(tx, a.Key())
		if err != nil {
			return err
		}
		for _, w := range rows {
			if !hmac.Equal(r.mac(w), w.mac) {
				return store.ErrTampered
			}
		}
		if err := may(rows); err != nil {
			return err
		}
		for _, k := range keys {
			rows, err = with(rows, k, row{address: a.Key(), fingerprint: string(k.Fingerprint()), added: r.now().UnixMicro()})
			if err != nil {
				return err
			}
		}
		for _, w := range rows {
			if active != "" {
				w.active = 0
				if w.fingerprint == string(active) {
					w.active = 1
				}
			}
			if err := r.write(tx, w); err != nil {
				return err
			}
			clear(w.secret)
		}
		return nil
	})
}

// with adds k to the row that has it already, which forgets nothing by that, or else
// as w at the end: an older copy is no reason to lose a revocation or a subkey.
func with(rows []row, k *pgp.Key, w row) ([]row, error) {
	for i := range rows {
		if rows[i].fingerprint != w.fingerprint {
			continue
		}
		have, err := pgp.ParseKeys(rows[i].secret, nil)
		if err != nil {
			return nil, err
		}
		merged, err := pgp.MergeKeys(k, have[0])
		if err != nil {
			return nil, err
		}
		clear(rows[i].secret)
		rows[i].secret = merged.Marshal()
		return rows, nil
	}
	w.secret = k.Marshal()
	return append(rows, w), nil
}

func (r *Ring) write(tx store.Tx, w row) error {
	_, err := tx.Exec(`INSERT INTO keyring_keys (address, fingerprint, secret, active, added, mac)
		VALUES (?, ?, ?, ?, ?, ?)
		ON CONFLICT (address, fingerprint) DO UPDATE SET
			secret = excluded.secret, active = excluded.active, mac = excluded.mac`,
		w.address, w.fingerprint, w.secret, w.active, w.added, r.mac(w))
	return err
}

func (r *Ring) delete(ctx context.Context, a address.Address, f pgp.Fingerprint) error {
	err := r.store.Update(ctx, func(tx store.Tx) error {
		_, err := tx.Exec(`DELETE FROM keyring_keys WHERE address = ? AND fingerprint = ?`, a.Key(), string(f))
		return err
	})
	r.evict(a.Key())
	return err
}

// evict makes the next reader ask the store. Keys handed out stay usable.
func (r *Ring) evict(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state++
	delete(r.open, text)
}

func (r *Ring) addresses(ctx context.Context) ([]string, error) {
	var all []string
	err := r.store.View(ctx, func(tx store.Tx) error {
		all = nil
		return tx.Rows(`SELECT DISTINCT address FROM keyring_keys ORDER BY address`, nil, func(scan func(...any) error) error {
			var text string
			if err := scan(&text); err != nil {
				return err
			}
			all = append(all, text)
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("listing keys: %w", err)
	}
	return all, nil
}

// Package keyring has custody of the account's own secret keys: it stores them
// encrypted, makes and imports them, and hands out what may be done with them.
//
// A [Ring] keeps, for each address, every key that it ever had: the active one
// signs, and all of them decrypt, since old mail stays encrypted to old keys.
// Secret bytes leave it only through [Ring.Export], asked for by name. They lie
// in the store alone, which is encrypted at rest, and each row has a MAC, so
// that another key can't be slipped in from outside.
package keyring

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/pgp"
)

// ErrHasKey means that an address has an active key.
var ErrHasKey = errors.New("the address has a key already")

// ErrNoKey means that an address has no key, or none that was asked for.
var ErrNoKey = errors.New("no key for this address")

// ErrActive means that the key can't be removed while it is the one that signs.
var ErrActive = errors.New("key is in use")

// Schema is the keyring's table, for store.Open.
var Schema = store.Schema{
	Name: "keyring",
	Steps: []string{`CREATE TABLE keyring_keys (
		address     TEXT NOT NULL,
		fingerprint TEXT NOT NULL,
		secret      BLOB NOT NULL,
		active      INTEGER NOT NULL,
		added       INTEGER NOT NULL,
		mac         BLOB NOT NULL,
		PRIMARY KEY (address, fingerprint)
	)`},
}

// Ring is the secret keys of all accounts. It may be used concurrently.
type Ring struct {
	store store.Store
	now   func() time.Time

	mu sync.Mutex // guards open and state
	// open are the unlocked keys, by address key. An entry is whole: every key
	// of the address, as the store had them.
	open map[string][]held
	// state counts what was stored, so that a slow reader keeps nothing stale.
	state int
}

// held is one key of an address.
type held struct {
	key    *pgp.Key
	active bool
	added  time.Time
}

// New makes a Ring over a store that was opened with Schema.
func New(s store.Store) *Ring { return NewAt(s, time.Now) }

// NewAt is New with a clock.
func NewAt(s store.Store, now func() time.Time) *Ring {
	return &Ring{store: s, now: now, open: map[string][]held{}}
}

// Entry tells of one key; it holds no secret.
type Entry struct {
	Address     string // normalised
	Certificate *pgp.Certificate
	Active      bool // signs, and is the one that is published
	Offline     bool // the primary secret lies elsewhere
	Added       time.Time
}

// Signer is the active key of an address, or ErrNoKey.
func (r *Ring) Signer(ctx context.Context, a address.Address) (pgp.Signer, error) {
	return r.active(ctx, a)
}

// Certificate is that of the active key of an address, or ErrNoKey.
func (r *Ring) Certificate(ctx context.Context, a address.Address) (*pgp.Certificate, error) {
	k, err := r.active(ctx, a)
	if err != nil {
		return nil, err
	}
	return k.Certificate(), nil
}

// Decrypter is every key of the addresses, each once, the active ones first. With
// no key at all it is ErrNoKey.
func (r *Ring) Decrypter(ctx context.Context, addresses ...address.Address) (pgp.Decrypter, error) {
	var first, rest []*pgp.Key
	seen := map[pgp.Fingerprint]bool{}
	for _, a := range addresses {
		keys, err := r.keys(ctx, a)
		if err != nil {
			return nil, err
		}
		for _, h := range keys {
			switch {
			case seen[h.key.Fingerprint()]:
			case h.active:
				first = append(first, h.key)
			default:
				rest = append(rest, h.key)
			}
			seen[h.key.Fingerprint()] = true
		}
	}
	if len(first)+len(rest) == 0 {
		return nil, ErrNoKey
	}
	return pgp.Keys(append(first, rest...)...), nil
}

// Export is a key of an address, the active one where f is "", binary, locked with
// the passphrase unless that is empty; ErrNoKey if it isn't here.
func (r *Ring) Export(ctx context.Context, a address.Address, f pgp.Fingerprint, passphrase []byte) ([]byte, error) {
	k, err := r.one(ctx, a, f)
	if err != nil {
		return nil, err
	}
	return k.Export(passphrase)
}

// ExportArmored is Export in ASCII armor.
func (r *Ring) ExportArmored(ctx context.Context, a address.Address, f pgp.Fingerprint, passphrase []byte) (string, error) {
	k, err := r.one(ctx, a, f)
	if err != nil {
		return "", err
	}
	return k.ExportArmored(passphrase)
}

// List tells of every key, by address and then age.
func (r *Ring) List(ctx context.Context) ([]Entry, error) {
	addresses, err := r.addresses(ctx)
	if err != nil {
		return nil, err
	}
	var all []Entry
	for _, text := range addresses {
		keys, err := r.load(ctx, text)
		if err != nil {
			return nil, err
		}
		for _, h := range keys {
			all = append(all, Entry{text, h.key.Certificate(), h.active, h.key.Offline(), h.added})
		}
	}
	return all, nil
}

// Forget wipes the unlocked keys from memory, as far as they can be reached; the
// store keeps them. Nothing that the Ring handed out may be in use.
func (r *Ring) Forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, keys := range r.open {
		for _, h := range keys {
			h.key.Wipe()
		}
	}
	r.state++
	clear(r.open)
}

// one is the key of that fingerprint, or the active one.
func (r *Ring) one(ctx context.Context, a address.Address, f pgp.Fingerprint) (*pgp.Key, error) {
	if f == "" {
		return r.active(ctx, a)
	}
	keys, err := r.keys(ctx, a)
	if err != nil {
		return nil, err
	}
	for _, h := range keys {
		if h.key.Fingerprint() == f {
			return h.key, nil
		}
	}
	return nil, fmt.Errorf("%s of %s: %w", f, a, ErrNoKey)
}

func (r *Ring) active(ctx context.Context, a address.Address) (*pgp.Key, error) {
	keys, err := r.keys(ctx, a)
	if err != nil {
		return nil, err
	}
	for _, h := range keys {
		if h.active {
			return h.key, nil
		}
	}
	return nil, fmt.Errorf("%s: %w", a, ErrNoKey)
}

func (r *Ring) keys(ctx context.Context, a address.Address) ([]held, error) {
	return r.load(ctx, a.Key())
}

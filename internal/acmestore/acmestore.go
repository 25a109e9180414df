// Package acmestore keeps what ACME needs (accounts, keys, certificates, open
// challenges) in a store: encrypted at rest, and shared by nodes that share it, so
// that each of them can answer a challenge. [New] gives a certmagic.Storage.
package acmestore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/caddyserver/certmagic"

	"letterlock.org/letterlock/internal/store"
)

// Schema is the tables of this package.
var Schema = store.Schema{Name: "acme", Steps: []string{
	`CREATE TABLE acme_file (name TEXT PRIMARY KEY NOT NULL, content BLOB NOT NULL, modified INTEGER NOT NULL);
	CREATE TABLE acme_lock (name TEXT PRIMARY KEY NOT NULL, ends INTEGER NOT NULL)`,
}}

// lockFor is how long a lock holds if whoever has it is gone: longer than
// obtaining a certificate may take. lockPoll is how often others look.
const (
	lockFor  = 10 * time.Minute
	lockPoll = 500 * time.Millisecond
)

// Storage implements certmagic.Storage. It may be used concurrently.
type Storage struct{ store store.Store }

var _ certmagic.Storage = Storage{}

// New makes a Storage over a store with our [Schema].
func New(s store.Store) Storage { return Storage{s} }

// Store implements certmagic.Storage.
func (s Storage) Store(ctx context.Context, key string, value []byte) error {
	return s.update(ctx, func(tx store.Tx) error {
		_, err := tx.Exec(`INSERT INTO acme_file (name, content, modified) VALUES (?, ?, ?)
			ON CONFLICT (name) DO UPDATE SET content = excluded.content, modified = excluded.modified`, key, value, time.Now())
		return err
	})
}

// Load implements certmagic.Storage: fs.ErrNotExist if there is nothing.
func (s Storage) Load(ctx context.Context, key string) (b []byte, err error) {
	err = s.store.View(ctx, func(tx store.Tx) error {
		return tx.Row("SELECT content FROM acme_file WHERE name = ?", []any{key}, &b)
	})
	return b, translate(err)
}

// Delete implements certmagic.Storage: a file, or everything below a folder.
func (s Storage) Delete(ctx context.Context, key string) error {
	return s.update(ctx, func(tx store.Tx) error {
		n, err := tx.Exec("DELETE FROM acme_file WHERE name = ? OR name >= ? AND name < ?", key, key+"/", key+"0") // '0' follows '/'
		if err == nil && n == 0 {
			err = fs.ErrNotExist
		}
		return err
	})
}

// Exists implements certmagic.Storage.
func (s Storage) Exists(ctx context.Context, key string) bool {
	_, err := s.Stat(ctx, key)
	return err == nil
}

// List implements certmagic.Storage.
func (s Storage) List(ctx context.Context, path string, recursive bool) (out []string, err error) {
	below := strings.TrimSuffix(path, "/") + "/"
	if path == "" {
		below = ""
	}
	err = s.store.View(ctx, func(tx store.Tx) error {
		out = nil
		seen := map[string]bool{}
		return tx.Rows("SELECT name FROM acme_file ORDER BY name", nil, func(scan func(...any) error) error {
			var name string
			if err := scan(&name); err != nil {
				return err
			}
			rest, ok := strings.CutPrefix(name, below)
			if !ok {
				return nil
			}
			if first, _, deeper := strings.Cut(rest, "/"); deeper && !recursive {
				name = below + first
			}
			if !seen[name] {
				seen[name] = true
				out = append(out, name)
			}
			return nil
		})
	})
	if err == nil && len(out) == 0 {
		err = fs.ErrNotExist
	}
	return out, translate(err)
}

// Stat implements certmagic.Storage.
func (s Storage) Stat(ctx context.Context, key string) (k certmagic.KeyInfo, err error) {
	err = s.store.View(ctx, func(tx store.Tx) error {
		var b []byte
		var modified int64
		err := tx.Row("SELECT content, modified FROM acme_file WHERE name = ?", []any{key}, &b, &modified)
		k = certmagic.KeyInfo{Key: key, Modified: time.UnixMicro(modified), Size: int64(len(b)), IsTerminal: true}
		if !errors.Is(err, store.ErrNoRow) {
			return err
		}
		var n int
		k = certmagic.KeyInfo{Key: key}
		err = tx.Row("SELECT COUNT(*) FROM acme_file WHERE name >= ? AND name < ?", []any{key + "/", key + "0"}, &n)
		if err == nil && n == 0 {
			err = fs.ErrNotExist
		}
		return err
	})
	return k, translate(err)
}

// Lock implements certmagic.Locker, over all nodes of the store.
func (s Storage) Lock(ctx context.Context, name string) error {
	poll := time.NewTicker(lockPoll)
	defer poll.Stop()
	for {
		var got bool
		err := s.update(ctx, func(tx store.Tx) error {
			now := time.Now()
			n, err := tx.Exec(`INSERT INTO acme_lock (name, ends) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET ends = excluded.ends
				WHERE acme_lock.ends <= ? OR acme_lock.ends > ?`, name, now.Add(lockFor), now, now.Add(2*lockFor)) // a clock that was ahead
			got = n > 0
			return err
		})
		if err != nil || got {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-poll.C:
		}
	}
}

// Unlock implements certmagic.Locker.
func (s Storage) Unlock(ctx context.Context, name string) error {
	return s.update(context.WithoutCancel(ctx), func(tx store.Tx) error {
		_, err := tx.Exec("DELETE FROM acme_lock WHERE name = ?", name)
		return err
	})
}

func (s Storage) update(ctx context.Context, f func(store.Tx) error) error {
	return translate(s.store.Update(ctx, f))
}

func translate(err error) error {
	switch {
	case err == nil, errors.Is(err, fs.ErrNotExist):
		return err
	case errors.Is(err, store.ErrNoRow):
		return fs.ErrNotExist
	}
	return fmt.Errorf("what ACME keeps: %w", err)
}

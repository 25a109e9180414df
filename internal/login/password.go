package login

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/argon2"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/store"
)

// Schema is the tables of this package. The passwords lie in a store that is
// encrypted at rest: the local one has to be readable again, for whoever sets up
// another mail program.
var Schema = store.Schema{Name: "login", Steps: []string{
	`CREATE TABLE login_secret (
		account TEXT NOT NULL, -- address key
		kind TEXT NOT NULL,    -- "local", "upstream" or "verifier"
		value BLOB NOT NULL,
		PRIMARY KEY (account, kind)
	)`,
}}

const (
	kindLocal    = "local"
	kindUpstream = "upstream"
	kindVerifier = "verifier"
)

// argon2id parameters of verifiers: RFC 9106, Section 4, second choice, with
// less memory, since several connections of one client arrive together.
const (
	argonTime   = 3
	argonMemory = 32 << 10 // KiB
	saltSize    = 16
)

// equal compares in a time that tells nothing, lengths included.
func equal(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}

func newPassword() string {
	var b [16]byte
	rand.Read(b[:])
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b[:]))
}

func (c *Checker) get(ctx context.Context, account address.Address, kind string) (value []byte, err error) {
	err = c.store.View(ctx, func(tx store.Tx) error {
		return tx.Row(`SELECT value FROM login_secret WHERE account = ? AND kind = ?`, []any{account.Key(), kind}, &value)
	})
	return value, err
}

func (c *Checker) put(ctx context.Context, account address.Address, kind string, value []byte) error {
	err := c.store.Update(ctx, func(tx store.Tx) error {
		_, err := tx.Exec(`INSERT INTO login_secret (account, kind, value) VALUES (?, ?, ?)
			ON CONFLICT (account, kind) DO UPDATE SET value = excluded.value`, account.Key(), kind, value)
		return err
	})
	if err != nil {
		return fmt.Errorf("storing the %s password of %s: %w", kind, account, err)
	}
	return nil
}

// LocalPassword is the password that mail programs give in Local mode; it is
// made when first asked for.
func (c *Checker) LocalPassword(ctx context.Context, account address.Address) (string, error) {
	v, err := c.get(ctx, account, kindLocal)
	if err == nil {
		return string(v), nil
	}
	if !errors.Is(err, store.ErrNoRow) {
		return "", fmt.Errorf("reading the local password of %s: %w", account, err)
	}
	made := []byte(newPassword())
	err = c.store.Update(ctx, func(tx store.Tx) error {
		// Two sessions may come here at once: the first one's stays.
		if _, err := tx.Exec(`INSERT INTO login_secret (account, kind, value) VALUES (?, ?, ?)
			ON CONFLICT (account, kind) DO NOTHING`, account.Key(), kindLocal, made); err != nil {
			return err
		}
		return tx.Row(`SELECT value FROM login_secret WHERE account = ? AND kind = ?`, []any{account.Key(), kindLocal}, &v)
	})
	if err != nil {
		return "", fmt.Errorf("making a local password for %s: %w", account, err)
	}
	return string(v), nil
}

// RenewLocalPassword makes another local password; the old one opens nothing
// from then on.
func (c *Checker) RenewLocalPassword(ctx context.Context, account address.Address) (string, error) {
	p := newPassword()
	return p, c.put(ctx, account, kindLocal, []byte(p))
}

// SetUpstreamPassword stores the password that we log in with upstream.
func (c *Checker) SetUpstreamPassword(ctx context.Context, account address.Address, password string) error {
	return c.put(ctx, account, kindUpstream, []byte(password))
}

func (c *Checker) storedUpstream(ctx context.Context, account address.Address) (string, error) {
	v, err := c.get(ctx, account, kindUpstream)
	if errors.Is(err, store.ErrNoRow) {
		return "", fmt.Errorf("%w: no upstream password is stored for %s (run: letterlock account password %s)", ErrNotReady, account, account)
	}
	return string(v), err
}

// SetVerifier stores what a Passthrough account's password is compared with. What
// its client logged in with before is forgotten: an upstream that is given a wrong
// password again and again locks the account.
func (c *Checker) SetVerifier(ctx context.Context, account address.Address, password string) error {
	salt := make([]byte, saltSize)
	rand.Read(salt)
	sum, err := c.argon(ctx, password, salt)
	if err != nil {
		return err
	}
	if err := c.put(ctx, account, kindVerifier, append(salt, sum...)); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.forwarded, account.Key())
	c.renewed[account.Key()]++ // what is being compared with the one before isn't kept
	return nil
}

// HasUpstreamPassword tells whether the store has what the account's mode needs.
func (c *Checker) HasUpstreamPassword(ctx context.Context, a Account) (bool, error) {
	kind := kindUpstream
	if a.Mode == Passthrough {
		kind = kindVerifier
	} else if a.UpstreamPassword != nil {
		_, err := a.UpstreamPassword(ctx)
		return err == nil, nil
	}
	_, err := c.get(ctx, a.Address, kind)
	if errors.Is(err, store.ErrNoRow) {
		return false, nil
	}
	return err == nil, err
}

// Forget takes an account's passwords and verifier away, and tells whether there were
// any. Who is logged in stays so: that is for the servers, which ask for the account.
func (c *Checker) Forget(ctx context.Context, account address.Address) (some bool, err error) {
	err = c.store.Update(ctx, func(tx store.Tx) error {
		n, err := tx.Exec(`DELETE FROM login_secret WHERE account = ?`, account.Key())
		some = n > 0
		return err
	})
	if err != nil {
		return false, fmt.Errorf("forgetting the passwords of %s: %w", account, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.forwarded, account.Key())
	c.renewed[account.Key()]++ // what is being compared isn't kept
	return some, nil
}

func (c *Checker) argon(ctx context.Context, password string, salt []byte) ([]byte, error) {
	select {
	case c.hash <- struct{}{}:
		defer func() { <-c.hash }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return argon2.IDKey([]byte(password), salt, argonTime, argonMemory, 1, sha256.Size), nil
}

// verify compares with the verifier. A client's later connections are compared
// with the password that opened the first, at no cost.
func (c *Checker) verify(ctx context.Context, account address.Address, password string) (bool, error) {
	c.mu.Lock()
	before := c.renewed[account.Key()]
	c.mu.Unlock()
	v, err := c.get(ctx, account, kindVerifier)
	if errors.Is(err, store.ErrNoRow) {
		return false, fmt.Errorf("%w: no password is known for %s (run: letterlock account password %s)", ErrNotReady, account, account)
	}
	if err != nil {
		return false, fmt.Errorf("reading the verifier of %s: %w", account, err)
	}
	if len(v) != saltSize+sha256.Size {
		return false, fmt.Errorf("verifier of %s has %d bytes", account, len(v))
	}
	if c.seen(account, v, password) {
		return true, nil
	}
	sum, err := c.argon(ctx, password, v[:saltSize])
	if err != nil {
		return false, err
	}
	if subtle.ConstantTimeCompare(sum, v[saltSize:]) != 1 {
		return false, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.renewed[account.Key()] == before {
		c.forwarded[account.Key()] = fitting{password, bytes.Clone(v)}
	}
	return true, nil
}

// seen tells whether this very password was verified against this very verifier
// in this process.
func (c *Checker) seen(account address.Address, verifier []byte, password string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	f, ok := c.forwarded[account.Key()]
	return ok && bytes.Equal(f.verifier, verifier) && equal(f.password, password)
}

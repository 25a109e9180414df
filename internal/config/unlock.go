package config

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/argon2"

	"letterlock.org/letterlock/internal/wholefile"
)

// ErrLocked means that the key that opens the store could not be had.
var ErrLocked = errors.New("the store stays locked")

// splitUnlock reads the notation of unlock.
func splitUnlock(s string) (kind, where string, err error) {
	if s == "keyring" {
		return s, "", nil
	}
	kind, where, _ = strings.Cut(s, ":")
	switch kind {
	case "key-file", "passphrase-file":
		if !filepath.IsAbs(where) {
			return "", "", fmt.Errorf("%q needs an absolute path: %s:/path", s, kind)
		}
	case "credential":
		if where == "" || strings.ContainsAny(where, "/\\") {
			return "", "", fmt.Errorf("%q needs the name of a credential: credential:NAME", s)
		}
	default:
		return "", "", fmt.Errorf(`%q is none of "keyring", "key-file:/path", "passphrase-file:/path", "credential:NAME"`, s)
	}
	return kind, where, nil
}

// StoreName is the embedded store's file in state_dir.
const StoreName = "letterlock.db"

// SaltName is the file in state_dir that a passphrase needs beside itself.
const SaltName = "unlock.salt"

// Key is the key of the store, by unlock. exists tells whether the store is
// there already: then nothing is made. The error is ErrLocked.
func (c *Config) Key(exists bool) (key [32]byte, err error) {
	kind, where, err := splitUnlock(c.Unlock)
	if err != nil {
		return key, fmt.Errorf("%w: unlock = %w", ErrLocked, err)
	}
	switch kind {
	case "keyring":
		key, _, err := c.fromKeyring(exists, true)
		return key, err
	case "key-file":
		b, err := os.ReadFile(where)
		if err != nil {
			return key, fmt.Errorf("%w: reading the key file: %w (%s)", ErrLocked, err, c.aboutKeyFile(where))
		}
		if key, ok := hexKey(b); ok {
			return key, nil
		}
		return key, fmt.Errorf("%w: %s does not hold 64 hex digits", ErrLocked, where)
	case "passphrase-file":
		b, err := os.ReadFile(where)
		if err != nil {
			return key, fmt.Errorf("%w: reading the passphrase: %w", ErrLocked, err)
		}
		return c.stretch(b, exists)
	}
	b, err := Credential(where)
	if err != nil {
		return key, fmt.Errorf("%w: %w", ErrLocked, err)
	}
	if key, ok := hexKey(b); ok {
		return key, nil
	}
	if c.Store.Shared() {
		return key, fmt.Errorf("%w: the credential %s does not hold 64 hex digits, which a store that several nodes share needs", ErrLocked, where)
	}
	return c.stretch(b, exists)
}

// aboutKeyFile is what to do about a key file that can't be read. A new key is no
// good where there is a store.
func (c *Config) aboutKeyFile(file string) string {
	if _, err := os.Stat(filepath.Join(c.StateDir, StoreName)); err == nil {
		return "nothing but that key opens the store in " + c.StateDir + ": put the file back, or a copy of it"
	}
	return "a new key, for a new store: openssl rand -hex 32 > " + file
}

func hexKey(b []byte) (key [32]byte, ok bool) {
	s := strings.TrimSpace(string(b))
	if len(s) != 64 {
		return key, false
	}
	n, err := hex.Decode(key[:], []byte(s))
	return key, err == nil && n == 32
}

// stretch makes a key of a passphrase by argon2id (RFC 9106, Section 4, second
// choice), with a salt that lies beside the store.
func (c *Config) stretch(b []byte, exists bool) (key [32]byte, err error) {
	pass := strings.TrimRight(string(b), "\r\n")
	if pass == "" {
		return key, fmt.Errorf("%w: the passphrase is empty", ErrLocked)
	}
	file := filepath.Join(c.StateDir, SaltName)
	salt, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) && !exists {
		salt = make([]byte, 32)
		rand.Read(salt)
		err = wholefile.Create(file, salt, 0o600)
	}
	if errors.Is(err, os.ErrNotExist) {
		return key, fmt.Errorf("%w: the salt beside the store: %w (it was made with the store, which opens with it only: put it back; or was the store made with another unlock than this?)", ErrLocked, err)
	}
	if err != nil {
		return key, fmt.Errorf("%w: the salt beside the store: %w", ErrLocked, err)
	}
	if len(salt) != 32 {
		return key, fmt.Errorf("%w: %s has %d bytes instead of 32", ErrLocked, file, len(salt))
	}
	return [32]byte(argon2.IDKey([]byte(pass), salt, 3, 64<<10, 4, 32)), nil
}

// Credential reads what systemd handed to the service (systemd.exec(5),
// LoadCredential=).
func Credential(name string) ([]byte, error) {
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	if dir == "" {
		return nil, fmt.Errorf("credential %s: there are none here (CREDENTIALS_DIRECTORY is not set; systemd sets it for a unit with LoadCredential=%s:…; by hand: CREDENTIALS_DIRECTORY=FOLDER letterlock …)", name, name)
	}
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return nil, fmt.Errorf("credential %s: %w", name, err)
	}
	return b, nil
}

// ReadUpstreamPassword reads upstream_password where it is outside the store;
// stored tells that it isn't.
func (b *Bridge) ReadUpstreamPassword() (password string, stored bool, err error) {
	kind, where, _ := strings.Cut(b.UpstreamPassword, ":")
	var raw []byte
	switch kind {
	case "file":
		raw, err = os.ReadFile(where)
	case "credential":
		raw, err = Credential(where)
	default:
		return "", true, nil
	}
	if err != nil {
		return "", false, fmt.Errorf("upstream_password of %s: %w", b.Address, err)
	}
	return strings.TrimRight(string(raw), "\r\n"), false, nil
}

// CheckKey tells whether Key will find what it needs, without making anything.
func (c *Config) CheckKey() error {
	kind, where, _ := splitUnlock(c.Unlock)
	if kind == "passphrase-file" {
		if _, err := os.Stat(where); err != nil {
			return fmt.Errorf("%w: reading the passphrase: %w", ErrLocked, err)
		}
		return nil
	}
	if kind == "credential" {
		if _, err := Credential(where); err != nil {
			return fmt.Errorf("%w: %w", ErrLocked, err)
		}
		return nil
	}
	if kind == "keyring" {
		_, _, err := c.fromKeyring(false, false)
		return err
	}
	_, err := c.Key(true)
	return err
}

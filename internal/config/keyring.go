package config

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/zalando/go-keyring"
)

// keyringService is what our items in the desktop's keyring are called; each is
// named for its state_dir.
const keyringService = "letterlock"

// keyringPatience is how long a keyring may wait for a person to open it.
const keyringPatience = time.Minute

const keyringHint = `without a desktop that has one, write unlock = "key-file:/path" with 64 hex digits in the file (openssl rand -hex 32), "passphrase-file:/path", or "credential:NAME" for a systemd service`

// fromKeyring is the key that the desktop's keyring keeps for this state_dir
// (freedesktop's Secret Service, macOS's Keychain). One is made where there is no
// store yet and make is set; ok tells whether there is one.
func (c *Config) fromKeyring(exists, make bool) (key [32]byte, ok bool, err error) {
	if !hasBus() {
		return key, false, fmt.Errorf("%w: there is no desktop session with a keyring here (%s)", ErrLocked, keyringHint)
	}
	text, err := patiently(func() (string, error) { return keyring.Get(keyringService, c.StateDir) })
	switch {
	case err == nil:
		if key, ok = hexKey([]byte(text)); !ok {
			err = fmt.Errorf("%w: what the desktop's keyring has for %s is no key of ours", ErrLocked, c.StateDir)
		}
		return key, ok, err
	case !errors.Is(err, keyring.ErrNotFound):
		return key, false, fmt.Errorf("%w: the desktop's keyring doesn't answer: %w (%s)", ErrLocked, err, keyringHint)
	case exists:
		return key, false, fmt.Errorf("%w: the desktop's keyring has no key for %s; the store was made with another unlock, or by another user or on another machine", ErrLocked, c.StateDir)
	case !make:
		return key, false, nil
	}
	rand.Read(key[:])
	if _, err := patiently(func() (string, error) { return "", keyring.Set(keyringService, c.StateDir, hex.EncodeToString(key[:])) }); err != nil {
		return key, false, fmt.Errorf("%w: the desktop's keyring doesn't keep a key: %w (%s)", ErrLocked, err, keyringHint)
	}
	// A key that can't be had again would lose the store.
	kept, ok, err := c.fromKeyring(true, false)
	if err == nil && kept != key {
		err = fmt.Errorf("%w: the desktop's keyring gave back another key than it was given", ErrLocked)
	}
	return key, ok, err
}

// hasBus tells whether there is a session bus to ask on. Without one the D-Bus
// library would start a bus of its own, with nobody on it.
func hasBus() bool {
	if runtime.GOOS == "darwin" || runtime.GOOS == "windows" || os.Getenv("DBUS_SESSION_BUS_ADDRESS") != "" {
		return true
	}
	_, err := os.Stat(filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), "bus"))
	return os.Getenv("XDG_RUNTIME_DIR") != "" && err == nil
}

// patiently bounds a call that may wait for a person for ever.
func patiently(f func() (string, error)) (string, error) {
	type result struct {
		text string
		err  error
	}
	done := make(chan result, 1)
	go func() {
		text, err := f()
		done <- result{text, err}
	}()
	select {
	case r := <-done:
		return r.text, r.err
	case <-time.After(keyringPatience):
		return "", errors.New("nobody opened it within a minute")
	}
}

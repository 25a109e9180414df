package config_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/zalando/go-keyring"

	"letterlock.org/letterlock/internal/config"
)

func TestKeyring(t *testing.T) {
	c := config.Default()
	c.StateDir, c.Unlock = t.TempDir(), "keyring"
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nowhere")
	t.Run("one that doesn't answer is told with what to write instead", func(t *testing.T) {
		keyring.MockInitWithError(errors.New("no session bus"))
		for _, err := range []error{c.CheckKey(), keyErr(c.Key(false)), keyErr(c.Key(true))} {
			if !errors.Is(err, config.ErrLocked) || !strings.Contains(err.Error(), `unlock = "key-file:/path"`) {
				t.Errorf("got %v", err)
			}
		}
	})
	t.Run("a new store gets a key, and gets it again", func(t *testing.T) {
		keyring.MockInit()
		if err := c.CheckKey(); err != nil {
			t.Fatal(err)
		}
		if _, err := keyring.Get("letterlock", c.StateDir); err == nil {
			t.Error("looking made a key")
		}
		first, err := c.Key(false)
		if err != nil || first == [32]byte{} {
			t.Fatalf("%x, %v", first, err)
		}
		if again, err := c.Key(true); err != nil || again != first {
			t.Errorf("another key: %v", err)
		}
		other := *c
		other.StateDir = t.TempDir()
		if k, err := other.Key(false); err != nil || k == first {
			t.Errorf("another state_dir has the same key, %v", err)
		}
	})
	t.Run("a store that is there never gets a new key", func(t *testing.T) {
		keyring.MockInit()
		if _, err := c.Key(true); !errors.Is(err, config.ErrLocked) || !strings.Contains(err.Error(), "has no key for") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("without a session nothing is started", func(t *testing.T) {
		t.Setenv("DBUS_SESSION_BUS_ADDRESS", "")
		t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
		if _, err := c.Key(false); !errors.Is(err, config.ErrLocked) || !strings.Contains(err.Error(), "no desktop session") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("what is no key is none", func(t *testing.T) {
		keyring.MockInit()
		keyring.Set("letterlock", c.StateDir, "password1")
		if _, err := c.Key(true); !errors.Is(err, config.ErrLocked) || strings.Contains(err.Error(), "password1") {
			t.Errorf("got %v", err)
		}
	})
}

func keyErr(_ [32]byte, err error) error { return err }

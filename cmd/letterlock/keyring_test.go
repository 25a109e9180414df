package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"letterlock.org/letterlock/internal/mailtest/peer"
)

// TestDesktopKeyring makes and opens a store with the key in GNOME's keyring, on
// a session bus of its own.
func TestDesktopKeyring(t *testing.T) {
	peer.Require(t, "dbus-run-session", "gnome-keyring-daemon")
	dir := t.TempDir()
	config := filepath.Join(dir, "l.toml")
	if err := os.WriteFile(config, fmt.Appendf(nil, "state_dir = %q\nunlock = \"keyring\"\n[keydir]\nlisten = \"127.0.0.1:0\"\ndomains = [\"example.org\"]\n", filepath.Join(dir, "state")), 0o600); err != nil {
		t.Fatal(err)
	}
	session := func(script string) ([]byte, error) {
		cmd := exec.Command("dbus-run-session", "--", "sh", "-c", `printf secret | gnome-keyring-daemon --unlock --components=secrets >/dev/null && `+script)
		cmd.Env = append(os.Environ(), "LETTERLOCK_CONFIG="+config, "HOME="+dir, "XDG_RUNTIME_DIR="+dir, "XDG_DATA_HOME="+filepath.Join(dir, "data"), "DBUS_SESSION_BUS_ADDRESS=")
		return cmd.CombinedOutput()
	}
	if out, err := session("letterlock key generate alice@example.org && letterlock key list"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := session("letterlock key list | grep alice@example.org"); err != nil {
		t.Errorf("in another session, with the same keyring: %v\n%s", err, out)
	}
	if err := os.RemoveAll(filepath.Join(dir, "data")); err != nil {
		t.Fatal(err)
	}
	if out, err := session("letterlock key list; test $? = 4"); err != nil {
		t.Errorf("with another keyring: %v\n%s", err, out)
	}
}

package main_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestThunderbird lets two people write to each other with the real
// Thunderbird, each at a bridge of their own on Dovecot and Postfix; see
// testdata/thunderbird.py for what they do.
func TestThunderbird(t *testing.T) {
	if testing.Short() {
		t.Skip("takes minutes")
	}
	harness := os.Getenv("LETTERLOCK_THUNDERBIRD")
	if harness == "" {
		t.Skip("LETTERLOCK_THUNDERBIRD does not name the harness that drives Thunderbird")
	}
	for _, need := range []string{"thunderbird", "Xvfb", "python3", "dovecot", "postfix"} {
		if _, err := exec.LookPath(need); err != nil {
			if os.Getenv("LETTERLOCK_REQUIRE_PEERS") == "1" {
				t.Fatalf("%s is required and not installed", need)
			}
			t.Skipf("%s is not installed", need)
		}
	}
	out := os.Getenv("LETTERLOCK_THUNDERBIRD_OUT") // kept, to look at the screenshots
	if out == "" {
		// Not t.TempDir: the users of Dovecot and Postfix must reach it.
		var err error
		if out, err = os.MkdirTemp("", "letterlock-thunderbird-"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(out) })
		if err := os.Chmod(out, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	binary := filepath.Join(t.TempDir(), "letterlock")
	if b, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("building: %v\n%s", err, b)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
	defer cancel()
	script, err := filepath.Abs("testdata/thunderbird.py")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, "python3", script, harness, binary, out)
	cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // so that it ends what it started
	cmd.WaitDelay = time.Minute
	b, err := cmd.CombinedOutput()
	t.Logf("%s", b)
	if err != nil {
		log, _ := os.ReadFile(filepath.Join(out, "failures.log"))
		t.Errorf("%v\n%s", err, strings.TrimSpace(string(log)))
	}
}

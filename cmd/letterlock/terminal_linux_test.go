package main_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"letterlock.org/letterlock/internal/mailtest"
)

// terminal is a pseudo-terminal with a command on it: a person's, who sees all that it shows.
type terminal struct {
	t    *testing.T
	keys *os.File // and screen
	cmd  *exec.Cmd

	mu    sync.Mutex // guards shown
	shown bytes.Buffer
	more  chan struct{}
}

func onTerminal(t *testing.T, config string, args ...string) *terminal {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Skip("no pseudo-terminals here:", err)
	}
	keys := os.NewFile(uintptr(fd), "ptmx")
	t.Cleanup(func() { keys.Close() })
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err = errors.Join(err, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)); err != nil {
		t.Fatal(err)
	}
	tty, err := os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	x := &terminal{t: t, keys: keys, cmd: exec.Command("letterlock", args...), more: make(chan struct{}, 1)}
	x.cmd.Stdin, x.cmd.Stdout, x.cmd.Stderr = tty, tty, tty
	x.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	x.cmd.Env = append(os.Environ(), "LETTERLOCK_CONFIG="+config)
	if err := errors.Join(x.cmd.Start(), tty.Close()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = x.cmd.Process.Kill() })
	go func() {
		b := make([]byte, 1024)
		for {
			n, err := keys.Read(b)
			x.mu.Lock()
			x.shown.Write(b[:n])
			x.mu.Unlock()
			select {
			case x.more <- struct{}{}:
			default:
			}
			if err != nil {
				return
			}
		}
	}()
	return x
}

func (x *terminal) screen() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.shown.String()
}

func (x *terminal) await(text string) {
	x.t.Helper()
	late := time.After(time.Minute)
	for !strings.Contains(x.screen(), text) {
		select {
		case <-x.more:
		case <-late:
			x.t.Fatalf("%q is not shown; shown is %q", text, x.screen())
		}
	}
}

func (x *terminal) types(keys string) {
	x.t.Helper()
	if _, err := io.WriteString(x.keys, keys); err != nil {
		x.t.Fatal(err)
	}
}

// ends waits for the command's exit code.
func (x *terminal) ends(want int) {
	x.t.Helper()
	_ = x.cmd.Wait()
	if got := x.cmd.ProcessState.ExitCode(); got != want {
		x.t.Errorf("exit code %d, want %d; shown is %q", got, want, x.screen())
	}
}

// TestANewSecretIsTypedTwice: a copy of a key under a mistyped passphrase is none.
func TestANewSecretIsTypedTwice(t *testing.T) {
	dir := t.TempDir()
	config := filepath.Join(dir, "l.toml")
	text := "state_dir = \"" + filepath.Join(dir, "s") + "\"\nunlock = \"key-file:" + filepath.Join(dir, "key") + "\"\n"
	if err := errors.Join(os.WriteFile(config, []byte(text), 0o600), os.WriteFile(filepath.Join(dir, "key"), []byte(strings.Repeat("5a", 32)), 0o600)); err != nil {
		t.Fatal(err)
	}
	x := onTerminal(t, config, "key", "generate", "alice@example.org")
	x.ends(0)
	for _, second := range []string{"a long passphrase", "a lung passphrase"} {
		x := onTerminal(t, config, "key", "export", "alice@example.org", "--secret")
		x.await("passphrase to lock the key with: ")
		x.types("a long passphrase\n")
		x.await("the same again: ")
		x.types(second + "\n")
		if second == "a long passphrase" {
			x.await("END PGP PRIVATE KEY BLOCK")
			x.ends(0)
		} else {
			x.await("the passphrase to lock the key with was not typed the same twice")
			x.ends(1)
		}
		if strings.Contains(x.screen(), "a long") {
			t.Errorf("the passphrase is shown: %q", x.screen())
		}
	}
}

// What a person types at the password's prompt is not shown, and Ctrl-C ends the
// command there; setup, which runs other commands, is no exception.
func TestPasswordsAtATerminal(t *testing.T) {
	up, err := mailtest.Start(mailtest.Options{Users: map[string]string{"alice@example.org": "wonderland"}})
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	dir := t.TempDir()
	config := filepath.Join(dir, "l.toml")
	setup := []string{"setup", "alice@example.org", "--imap", "imap+insecure://" + up.IMAPAddr, "--smtp", "smtp+insecure://" + up.SMTPAddr, "--state-dir", filepath.Join(dir, "s")}
	const prompt = "password of alice@example.org at the mail server: "

	x := onTerminal(t, config, setup...)
	x.await(prompt)
	x.types("\x03")
	x.ends(1)
	x.await("letterlock: interrupted")

	x = onTerminal(t, config, setup...)
	x.await(prompt)
	x.types("wonderland\n")
	x.await("Next: letterlock serve")
	x.ends(0)
	if strings.Contains(x.screen(), "wonderland") {
		t.Errorf("the password is shown: %q", x.screen())
	}

	x = onTerminal(t, config, "account", "password", "alice@example.org")
	x.await(prompt)
	x.types("wonderland\n")
	x.await("Stored for alice@example.org.")
	x.ends(0)
}

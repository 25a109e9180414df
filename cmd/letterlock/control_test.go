package main_test

import (
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/store"
)

// fakeServe listens where serve would, and returns the configuration that leads
// to it.
func fakeServe(t *testing.T) (l net.Listener, config string) {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "llfake")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, err = net.Listen("unix", filepath.Join(dir, "control.sock"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	config = filepath.Join(dir, "l.toml")
	if err := os.WriteFile(config, []byte("state_dir = \""+dir+"\"\nunlock = \"key-file:/nonexistent\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return l, config
}

// Whoever stands behind the control socket gets the files that the command line
// names, and no others.
func TestControlReadsOnlyNamedFiles(t *testing.T) {
	l, config := fakeServe(t)
	named := filepath.Join(t.TempDir(), "named.asc")
	if err := os.WriteFile(named, []byte("named"), 0o600); err != nil {
		t.Fatal(err)
	}
	type answer struct {
		Data  []byte
		Error string
	}
	got := make(chan map[string]answer, 1)
	go func() {
		defer close(got)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		enc, dec := json.NewEncoder(c), json.NewDecoder(c)
		var request struct{ Args []string }
		dec.Decode(&request)
		answers := map[string]answer{}
		for _, file := range []string{"/etc/passwd", config, named + "/../named.asc", named} {
			var a answer
			enc.Encode(map[string]string{"read": file})
			if dec.Decode(&a) != nil {
				return
			}
			answers[file] = a
		}
		enc.Encode(map[string]int{"exit": 3})
		got <- answers
	}()
	cmd := exec.Command("letterlock", "cert", "import", named)
	cmd.Env = append(os.Environ(), "LETTERLOCK_CONFIG="+config)
	out, _ := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != 3 {
		t.Errorf("exit code is %d, not what serve said: %s", cmd.ProcessState.ExitCode(), out)
	}
	answers := <-got
	if len(answers) != 4 {
		t.Fatalf("the conversation ended early: %s", out)
	}
	for file, a := range answers {
		if file == named && string(a.Data) != "named" {
			t.Errorf("the named file was answered by %q, %s", a.Data, a.Error)
		}
		if file != named && (len(a.Data) > 0 || a.Error == "") {
			t.Errorf("%s was handed out", file)
		}
	}
}

// Another user's socket is not talked to.
func TestControlOfAnotherUserIsRefused(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can give a socket away")
	}
	l, config := fakeServe(t)
	if err := os.Chown(l.Addr().String(), 65534, 65534); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("letterlock", "status")
	cmd.Env = append(os.Environ(), "LETTERLOCK_CONFIG="+config)
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "not a socket of this user") {
		t.Errorf("it says %q, %v", out, err)
	}
}

// root asks the service whose state directory it is, and what root makes there before
// the service has begun, the service can open.
func TestAnAdministratorAndAService(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can look after another user's service")
	}
	l, config := fakeServe(t)
	dir := filepath.Dir(config)
	for _, file := range []string{dir, l.Addr().String()} {
		if err := os.Chown(file, 65534, 65534); err != nil {
			t.Fatal(err)
		}
	}
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		json.NewDecoder(c).Decode(&struct{}{})
		json.NewEncoder(c).Encode(map[string]int{"exit": 3})
	}()
	command := func(want int) {
		t.Helper()
		cmd := exec.Command("letterlock", "key", "generate", "alice@example.org")
		cmd.Env = append(os.Environ(), "LETTERLOCK_CONFIG="+config)
		out, _ := cmd.CombinedOutput()
		if got := cmd.ProcessState.ExitCode(); got != want {
			t.Errorf("exit code is %d, want %d: %s", got, want, out)
		}
	}
	command(3) // as the one who answers says
	l.Close()
	key := filepath.Join(t.TempDir(), "key")
	text := "state_dir = \"" + dir + "\"\nunlock = \"key-file:" + key + "\"\n"
	if err := errors.Join(os.WriteFile(key, []byte(strings.Repeat("5a", 32)), 0o600), os.WriteFile(config, []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
	command(0)
	for _, name := range []string{"lock", "letterlock.db", "ca.pem"} {
		st, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if uid := st.Sys().(*syscall.Stat_t).Uid; uid != 65534 {
			t.Errorf("%s belongs to user %d, not to the one whose directory it is in", name, uid)
		}
	}
}

// TestACommandWaitsForAServeThatStarts: between serve's taking the state directory
// and its opening the control socket a command waits, and then asks serve.
func TestACommandWaitsForAServeThatStarts(t *testing.T) {
	dir, err := os.MkdirTemp("/tmp", "llstart")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	config, key := filepath.Join(dir, "l.toml"), filepath.Join(dir, "key")
	for file, text := range map[string]string{config: "state_dir = \"" + dir + "/s\"\nunlock = \"key-file:" + key + "\"\n", key: strings.Repeat("5a", 32)} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	held, err := store.Lock(filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	cmd := exec.Command("letterlock", "status")
	cmd.Env = append(os.Environ(), "LETTERLOCK_CONFIG="+config)
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(300 * time.Millisecond) // it finds the lock held; if it is slow, so much the better
	l, err := net.Listen("unix", filepath.Join(dir, "s", "control.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		if c, err := l.Accept(); err == nil {
			var request struct{ Args []string }
			json.NewDecoder(c).Decode(&request)
			json.NewEncoder(c).Encode(map[string]int{"exit": 3})
		}
	}()
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 3 {
		t.Errorf("it did not ask serve, but ended with %v: %s", err, said.String())
	}
}

// Package peer starts other people's mail programs for tests: a private Dovecot
// (IMAP, LMTP, SASL) and a private Postfix (submission) on 127.0.0.1, with
// folders of their own that end with the test. No service of the system and no
// file in /etc is touched.
//
// A test whose peer is missing is skipped with a reason; with
// LETTERLOCK_REQUIRE_PEERS=1 it fails instead.
package peer

import (
	"crypto/x509"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// Users that a server knows unless told otherwise.
const (
	Alice, AlicePassword = "alice@example.test", "alice-pw-1"
	Bob, BobPassword     = "bob@example.test", "bob-pw-2"
)

// required tells whether a missing peer is a failure.
func required() bool { return os.Getenv("LETTERLOCK_REQUIRE_PEERS") == "1" }

func missing(t testing.TB, format string, args ...any) {
	t.Helper()
	if required() {
		t.Fatalf(format+" (LETTERLOCK_REQUIRE_PEERS=1)", args...)
	}
	t.Skipf(format, args...)
}

// Require skips or fails the test unless every program can be run.
func Require(t testing.TB, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			missing(t, "peer %s is not installed", p)
		}
	}
}

// Corpus is the folder of collected messages, by LETTERLOCK_CORPUS; without it
// the test is skipped.
func Corpus(t testing.TB) string {
	t.Helper()
	dir := os.Getenv("LETTERLOCK_CORPUS")
	if dir == "" {
		t.Skip("LETTERLOCK_CORPUS names no corpus of messages")
	}
	if _, err := os.Stat(filepath.Join(dir, "EXPECTED.tsv")); err != nil {
		t.Fatalf("LETTERLOCK_CORPUS: %v", err)
	}
	return dir
}

// requireRoot: Dovecot and Postfix change to other users.
func requireRoot(t testing.TB) {
	t.Helper()
	if os.Getuid() != 0 {
		missing(t, "Dovecot and Postfix have to be started by root")
	}
}

// folder makes a folder that other users may walk through, with a path short
// enough for sockets, gone when the test ends.
func folder(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "llpeer.")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !t.Failed() || os.Getenv("LETTERLOCK_KEEP") == "" {
			os.RemoveAll(dir)
		}
	})
	mkdir(t, dir, 0o755, -1, -1)
	return dir
}

func mkdir(t testing.TB, dir string, mode os.FileMode, uid, gid int) {
	t.Helper()
	err := os.MkdirAll(dir, 0o755)
	if err == nil {
		err = os.Chmod(dir, mode) // whatever the umask
	}
	if err == nil && uid >= 0 {
		err = os.Chown(dir, uid, gid)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func write(t testing.TB, path, text string, mode os.FileMode) {
	t.Helper()
	err := os.WriteFile(path, []byte(text), mode)
	if err == nil {
		err = os.Chmod(path, mode)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// ids are the numbers of a user of the system.
func ids(t testing.TB, names ...string) (uid, gid int) {
	t.Helper()
	for _, name := range names {
		if u, err := user.Lookup(name); err == nil {
			uid, _ = strconv.Atoi(u.Uid)
			gid, _ = strconv.Atoi(u.Gid)
			return uid, gid
		}
	}
	missing(t, "no user %v on this machine", names)
	return 0, 0
}

// freePorts picks ports that nobody listens on at this moment. They are below those
// that the kernel gives to whoever asks for any, so that no connection of another test
// has one when the program comes to listen.
func freePorts(t testing.TB, n int) []int {
	t.Helper()
	var ports []int
	for range 1000 {
		if len(ports) == n {
			return ports
		}
		port := 15000 + rand.IntN(17000)
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		defer l.Close()
		ports = append(ports, port)
	}
	t.Fatal("no port is free")
	return nil
}

// run starts a program that ends with the test, or with the test's process.
func run(t testing.TB, log string, name string, args ...string) *exec.Cmd {
	t.Helper()
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd := exec.Command(name, args...)
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		t.Fatalf("starting %s: %v", name, err)
	}
	done := make(chan struct{})
	go func() { cmd.Wait(); close(done) }()
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			cmd.Process.Kill()
			<-done
		}
	})
	return cmd
}

// await tries f until it succeeds, for as long as a loaded machine may need.
func await(t testing.TB, what string, logs []string, f func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(3 * time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if err = f(); err == nil {
			return
		}
	}
	for _, l := range logs {
		b, _ := os.ReadFile(l)
		if len(b) > 3000 {
			b = b[len(b)-3000:]
		}
		t.Logf("%s:\n%s", l, b)
	}
	t.Fatalf("%s did not come up: %v", what, err)
}

// Pool trusts the certificates in a PEM file.
func Pool(t testing.TB, file string) *x509.CertPool {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	p := x509.NewCertPool()
	if !p.AppendCertsFromPEM(b) {
		t.Fatalf("no certificate in %s", file)
	}
	return p
}

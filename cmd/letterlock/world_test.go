package main_test

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/mailtest"
	"letterlock.org/letterlock/internal/mailtest/peer"
)

const alice, bob = "alice@example.org", "bob@example.org"

// world is a key directory and bridges, each a serve of its own, before one mail
// server.
type world struct {
	t testing.TB
	// imap and smtp are the listen and upstream values of every bridge.
	imap, smtp       string
	more             string // further settings of every [[bridge]], and sections
	lines            int    // further ready lines that they give
	domain           string
	directory        string // where its certificates are served; "" for any port
	dir, state, temp string
	prepare          func(*world) // may move state and temp
	keydir           *bridge
	running          []*bridge
}

// bridge is one running serve.
type bridge struct {
	w          *world
	name       string
	env        []string
	process    *exec.Cmd
	log        string
	imap, smtp mailtest.Login
	ready      []readyLine
	start      func(*exec.Cmd) error // nil for a process beside us
}

type readyLine struct{ Role, Protocol, Address, Listen string }

// newWorld is a world before an embedded mail server.
func newWorld(t testing.TB, up *mailtest.Upstream) *world {
	t.Helper()
	return newWorldOf(t, world{domain: "example.org",
		imap: fmt.Sprintf(`listen = "127.0.0.1:0", upstream = "imap+insecure://%s"`, up.IMAPAddr),
		smtp: fmt.Sprintf(`listen = "127.0.0.1:0", upstream = "smtp+insecure://%s"`, up.SMTPAddr)})
}

func newWorldOf(t testing.TB, of world) *world {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "llworld") // short, for the control sockets
	if err != nil {
		t.Fatal(err)
	}
	w := &of
	w.t, w.dir, w.state, w.temp = t, dir, filepath.Join(dir, "state"), filepath.Join(dir, "temp")
	t.Cleanup(func() { w.stop(); os.RemoveAll(dir) })
	if w.prepare != nil {
		w.prepare(w)
	}
	for _, d := range []string{w.state, w.temp} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	w.keydir = w.configure("keydir", fmt.Sprintf("[keydir]\nlisten = %q\ndomains = [%q]\n", cmp.Or(w.directory, "127.0.0.1:0"), w.domain))
	w.keydir.serve(1)
	return w
}

func (w *world) file(name, text string) string {
	w.t.Helper()
	f := filepath.Join(w.dir, name)
	if err := os.WriteFile(f, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
	return f
}

func (w *world) configure(name, text string) *bridge {
	w.t.Helper()
	key := w.file(name+".key", strings.Repeat("5a", 32))
	config := w.file(name+".toml", fmt.Sprintf("state_dir = %q\nunlock = \"key-file:%s\"\n%s\n[log]\nlevel = \"debug\"\n", filepath.Join(w.state, name), key, text))
	return &bridge{w: w, name: name, env: append(os.Environ(), "LETTERLOCK_CONFIG="+config, "TMPDIR="+w.temp), log: filepath.Join(w.dir, name+".log")}
}

// bridge sets an account up, publishes its certificate and serves it.
func (w *world) bridge(address, upstreamPassword string) *bridge {
	w.t.Helper()
	name, _, _ := strings.Cut(address, "@")
	b := w.configure(name, fmt.Sprintf(`[[bridge]]
address = %q
imap = { %s }
smtp = { %s }
%s
[discovery]
wkd_override = { %q = "http://%s" }`, address, w.imap, w.smtp, w.more, w.domain, w.keydir.ready[0].Listen))
	password := w.file("password", upstreamPassword+"\n")
	b.command("setup", address, "--password-file", password)
	os.Remove(password)
	w.keydir.command("keydir", "add", address, w.file("cert", b.command("key", "export", address)))
	b.serve(2 + w.lines)
	var account struct{ User, Password, CA string }
	if err := json.Unmarshal([]byte(b.command("account", "show", address, "--json")), &account); err != nil {
		w.t.Fatal(err)
	}
	trust := &tls.Config{ServerName: "127.0.0.1", RootCAs: peer.Pool(w.t, account.CA)}
	for _, r := range b.ready {
		l := mailtest.Login{Addr: r.Listen, User: account.User, Password: account.Password, TLS: trust}
		switch r.Protocol {
		case "imaps":
			l.Implicit = true
			fallthrough
		case "imap":
			b.imap = l
		case "submissions":
			l.Implicit = true
			fallthrough
		case "smtp":
			b.smtp = l
		}
	}
	return b
}

// command runs a letterlock command that must succeed, and returns its output.
func (b *bridge) command(args ...string) string {
	b.w.t.Helper()
	cmd := exec.Command("letterlock", args...)
	cmd.Env = b.env
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		b.w.t.Fatalf("letterlock %s: %v\n%s", args[0], err, stderr.Bytes())
	}
	return string(out)
}

// serve starts serve and waits for its ready lines.
func (b *bridge) serve(lines int) {
	b.w.t.Helper()
	log, err := os.Create(b.log)
	if err != nil {
		b.w.t.Fatal(err)
	}
	defer log.Close()
	b.process = exec.Command("letterlock", "serve", "--json")
	b.process.Env, b.process.Stderr = b.env, log
	out, err := b.process.StdoutPipe()
	start := (*exec.Cmd).Start
	if b.start != nil {
		start = b.start
	}
	if err == nil {
		err = start(b.process)
	}
	if err != nil {
		b.w.t.Fatal(err)
	}
	b.w.running = append(b.w.running, b)
	for s := bufio.NewScanner(out); len(b.ready) < lines; {
		if !s.Scan() {
			text, _ := os.ReadFile(b.log)
			b.w.t.Fatalf("serve of %s ended: %s", b.name, text)
		}
		var r readyLine
		if err := json.Unmarshal(s.Bytes(), &r); err != nil {
			b.w.t.Fatalf("%s: %v", s.Text(), err)
		}
		b.ready = append(b.ready, r)
	}
}

// patience is how long something may take that is to happen, on a machine that has
// much else to do.
const patience = 3 * time.Minute

// stop ends every serve in order and returns what they logged.
func (w *world) stop() (logs []byte) {
	w.t.Helper()
	for _, b := range w.running {
		b.process.Process.Signal(os.Interrupt)
		kill := time.AfterFunc(patience, func() { b.process.Process.Kill() })
		if err := b.process.Wait(); err != nil {
			w.t.Errorf("serve of %s: %v", b.name, err)
		}
		kill.Stop()
		text, _ := os.ReadFile(b.log)
		logs = append(logs, text...)
	}
	w.running = nil
	return logs
}

// fails runs a command that must end with that exit code, and returns what it
// says.
func (b *bridge) fails(code int, args ...string) string {
	b.w.t.Helper()
	cmd := exec.Command("letterlock", args...)
	cmd.Env = b.env
	out, err := cmd.CombinedOutput()
	if err == nil || cmd.ProcessState.ExitCode() != code {
		b.w.t.Errorf("letterlock %s: %v, want exit code %d\n%s", args[0], err, code, out)
	}
	return string(out)
}

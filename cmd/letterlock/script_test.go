package main_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"letterlock.org/letterlock/internal/mailtest"

	letterlock "letterlock.org/letterlock/cmd/letterlock"
)

// TestMain also runs the command. A process with the race detector in it sleeps for
// a second when it ends; the hundreds of commands that the tests run don't.
func TestMain(m *testing.M) {
	if os.Getenv("GORACE") == "" {
		os.Setenv("GORACE", "atexit_sleep_ms=20")
	}
	testscript.Main(m, map[string]func(){"letterlock": letterlock.Main})
}

// TestScripts runs testdata/script, conversations with the command as a person
// has them. In them, `exits CODE …` runs a command that must end with that code,
// `await FILE TEXT` waits until a file contains it, `hangup FILE` and `terminate FILE`
// signal the process whose ID is in the file. $KEY is 64 hex digits, $BUSY a port
// that is taken, $IMAP and $SMTP are a mail server of alice@ and bob@example.org.
func TestScripts(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { busy.Close() })
	up, err := mailtest.Start(mailtest.Options{Users: map[string]string{"alice@example.org": "wonderland", "bob@example.org": "builder"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { up.Close() })
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			e.Setenv("HOME", e.WorkDir+"/home")
			e.Setenv("GORACE", os.Getenv("GORACE"))
			e.Setenv("LETTERLOCK_CONFIG", e.WorkDir+"/l.toml")
			e.Setenv("KEY", strings.Repeat("0123456789abcdef", 4))
			_, port, _ := net.SplitHostPort(busy.Addr().String())
			e.Setenv("BUSY", port)
			e.Setenv("IMAP", up.IMAPAddr)
			e.Setenv("SMTP", up.SMTPAddr)
			// Unix socket paths are short, script folders are not.
			state, err := os.MkdirTemp("/tmp", "llscript")
			e.Setenv("STATE", state+"/s")
			e.Defer(func() { os.RemoveAll(state) })
			return err
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "await": await, "expand": expand, "mode": mode, "keep": keep,
			"hangup":    func(ts *testscript.TestScript, _ bool, args []string) { signal(ts, "-HUP", args[0]) },
			"terminate": func(ts *testscript.TestScript, _ bool, args []string) { signal(ts, "-TERM", args[0]) },
		},
	})
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARGS…")
	}
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("exit code is %d, want %s", code, args[0])
	}
}

// await waits for what another process does.
func await(ts *testscript.TestScript, _ bool, args []string) {
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if b, err := os.ReadFile(ts.MkAbs(args[0])); err == nil && strings.Contains(string(b), args[1]) {
			return
		}
	}
	b, _ := os.ReadFile(ts.MkAbs(args[0]))
	ts.Fatalf("%s never had %q, but\n%s", args[0], args[1], b)
}

// expand puts environment variables into a file.
func expand(ts *testscript.TestScript, _ bool, args []string) {
	for _, f := range args {
		ts.Check(os.WriteFile(ts.MkAbs(f), []byte(os.Expand(ts.ReadFile(f), ts.Getenv)), 0o600))
	}
}

// keep NAME KEY sets an environment variable to a value of the JSON that the last
// command printed.
func keep(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: keep NAME KEY")
	}
	var object map[string]any
	if err := json.Unmarshal([]byte(ts.ReadFile("stdout")), &object); err != nil {
		ts.Fatalf("stdout: %v", err)
	}
	v, ok := object[args[1]]
	if !ok {
		ts.Fatalf("stdout has no %s", args[1])
	}
	ts.Setenv(args[0], fmt.Sprint(v))
}

// mode compares the permissions of a file.
func mode(ts *testscript.TestScript, _ bool, args []string) {
	st, err := os.Stat(ts.MkAbs(args[1]))
	ts.Check(err)
	if got := strconv.FormatInt(int64(st.Mode().Perm()), 8); got != args[0] {
		ts.Fatalf("mode of %s is %s, want %s", args[1], got, args[0])
	}
}

// signal sends a signal to the process whose ID the state directory's lock has.
func signal(ts *testscript.TestScript, name, lock string) {
	ts.Check(exec.Command("kill", name, strings.TrimSpace(ts.ReadFile(lock))).Run())
}

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// The control socket lets a command run inside serve, which holds the store. The
// client sends its command line; serve sends what to print, asks for the
// client's files, and ends with an exit code. Both sides send JSON values.

const controlName = "control.sock"

// ask is what serve sends: one of its fields is set.
type ask struct {
	Stdout   []byte `json:"stdout,omitempty"`
	Stderr   []byte `json:"stderr,omitempty"`
	Read     string `json:"read,omitempty"`
	Password string `json:"password,omitempty"` // the prompt
	Twice    bool   `json:"twice,omitempty"`    // of Password
	Exit     *int   `json:"exit,omitempty"`
}

// answer is what the client sends to Read and Password.
type answer struct {
	Data  []byte `json:"data,omitempty"`
	Error string `json:"error,omitempty"`
}

type request struct {
	Args []string `json:"args"`
	Dir  string   `json:"dir"` // the client's working directory
}

// errNoServer means that no serve answers on a control socket.
var errNoServer = errors.New("serve is not running")

// silence is how long a serve may say nothing until its client tells that it waits.
var silence = 15 * time.Second

// runInServe has serve run the command line.
func runInServe(ctx context.Context, e *env, stateDir string, args []string) error {
	path := filepath.Join(stateDir, controlName)
	if err := checkSocket(path); err != nil {
		return err
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return errNoServer
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	enc, dec := json.NewEncoder(conn), json.NewDecoder(conn)
	if err := enc.Encode(request{args, e.dir}); err != nil {
		return fmt.Errorf("asking the running serve: %w", err)
	}
	waits := time.AfterFunc(silence, func() {
		fmt.Fprintf(e.stderr, "letterlock: still waiting for the serve that runs on %s; Ctrl-C ends the waiting\n", stateDir)
	})
	defer waits.Stop()
	for {
		var a ask
		err := dec.Decode(&a)
		waits.Stop()
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("the running serve went away in the middle of it: %w", err)
		}
		switch {
		case a.Exit != nil && *a.Exit == 0:
			return nil
		case a.Exit != nil:
			return exitError(*a.Exit)
		case a.Stdout != nil:
			e.stdout.Write(a.Stdout)
		case a.Stderr != nil:
			e.stderr.Write(a.Stderr)
		default:
			if err := enc.Encode(respond(e, a, args)); err != nil {
				return err
			}
		}
	}
}

// answers tells whether a serve runs on a state directory.
func answers(stateDir string) bool {
	conn, err := net.Dial("unix", filepath.Join(stateDir, controlName))
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// checkSocket makes sure that whoever listens is ourselves: another user's
// socket could have us read our files to it. An administrator may ask the user whose
// state directory it is: a service runs as a user that nobody else can become.
func checkSocket(path string) error {
	st, err := os.Lstat(path)
	if err != nil {
		return errNoServer
	}
	us := os.Geteuid()
	if owner, ok := ownerOf(st); st.Mode()&os.ModeSocket != 0 && ok {
		if owner == us {
			return nil
		}
		if dir, err := os.Stat(filepath.Dir(path)); err == nil && us == 0 {
			if of, ok := ownerOf(dir); ok && of == owner {
				return nil
			}
		}
	}
	return fmt.Errorf("%s is not a socket of this user (run the command as the user that runs serve)", path)
}

func ownerOf(st os.FileInfo) (uid int, ok bool) {
	uid, _, ok = ownersOf(st)
	return uid, ok
}

func ownersOf(st os.FileInfo) (uid, gid int, ok bool) {
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0, false
	}
	return int(sys.Uid), int(sys.Gid), true
}

// respond does what serve asks for: it reads a file that the command line names,
// and no other.
func respond(e *env, a ask, args []string) (r answer) {
	var err error
	switch {
	case a.Password != "":
		var s string
		s, err = e.files.Password(a.Password, a.Twice)
		r.Data = []byte(s)
	case !names(args, a.Read):
		err = fmt.Errorf("serve asked for %s, which the command line does not name", a.Read)
	default:
		r.Data, err = e.files.Read(a.Read)
	}
	if err != nil {
		r.Error = err.Error()
	}
	return r
}

// names tells whether file stands on the command line, by itself or as --flag=file.
func names(args []string, file string) bool {
	return slices.ContainsFunc(args, func(arg string) bool {
		if _, v, ok := strings.Cut(arg, "="); ok && strings.HasPrefix(arg, "-") {
			arg = v
		}
		return arg == file || file == "-" && arg == "receive" // which reads its input without being told to
	})
}

// remote is the other side: a client's output and files, as a command inside
// serve sees them. Commands run in one goroutine, so answers are in order.
type remote struct {
	mu  sync.Mutex // guards enc and dec
	enc *json.Encoder
	dec *json.Decoder
}

func (r *remote) env(now func() time.Time, dir string) *env {
	out := func(wrap func([]byte) ask) io.Writer { return &remoteWriter{r, wrap} }
	return &env{
		stdout: out(func(b []byte) ask { return ask{Stdout: b} }),
		stderr: out(func(b []byte) ask { return ask{Stderr: b} }),
		files:  r, now: now, dir: dir,
	}
}

type remoteWriter struct {
	r    *remote
	wrap func([]byte) ask
}

func (w *remoteWriter) Write(p []byte) (int, error) {
	w.r.mu.Lock()
	defer w.r.mu.Unlock()
	if len(p) == 0 {
		return 0, nil
	}
	return len(p), w.r.enc.Encode(w.wrap(p))
}

func (r *remote) ask(a ask) (answer, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var got answer
	err := r.enc.Encode(a)
	if err == nil {
		err = r.dec.Decode(&got)
	}
	if err == nil && got.Error != "" {
		err = errors.New(got.Error)
	}
	return got, err
}

func (r *remote) Read(name string) ([]byte, error) {
	a, err := r.ask(ask{Read: name})
	return a.Data, err
}

func (r *remote) Password(prompt string, twice bool) (string, error) {
	a, err := r.ask(ask{Password: prompt, Twice: twice})
	return string(a.Data), err
}

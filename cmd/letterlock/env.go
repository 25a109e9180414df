package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// env is what a command reads and writes. It is the caller's, also where the
// command runs inside serve.
type env struct {
	stdout, stderr io.Writer
	files          files
	now            func() time.Time
	dir            string // the caller's working directory
}

// output is where a command prints. That it could not be written there is told at the
// end: a copy of a key on a disk that is full is none.
type output struct {
	w io.Writer

	mu  sync.Mutex // guards err
	err error      // the first
}

func (o *output) Write(b []byte) (int, error) {
	n, err := o.w.Write(b)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.err = cmp.Or(o.err, err)
	return n, err
}

func (o *output) failed() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err == nil {
		return nil
	}
	return fmt.Errorf("what there was to print could not be written: %w", o.err)
}

// files are the caller's files, by names of the command line.
type files interface {
	// Read reads a file; "-" is standard input.
	Read(name string) ([]byte, error)
	// Password asks a person, without showing what is typed; twice where that is so,
	// and what nothing else would tell to be mistyped.
	Password(prompt string, twice bool) (string, error)
}

// path is a folder that the command line names, wherever the command runs.
func (e *env) path(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(e.dir, name)
}

// json prints v for scripts.
func (e *env) json(v any) error {
	enc := json.NewEncoder(e.stdout)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// jsonList writes one list, element by element, as json would write it whole. It has
// to be ended.
func (e *env) jsonList() *jsonList { return &jsonList{e: e} }

type jsonList struct {
	e    *env
	some bool
}

func (l *jsonList) put(v any) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetIndent("  ", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err
	}
	start := "[\n  "
	if l.some {
		start = ",\n  "
	}
	l.some = true
	_, err := fmt.Fprintf(l.e.stdout, "%s%s", start, bytes.TrimRight(b.Bytes(), "\n"))
	return err
}

func (l *jsonList) end() {
	if l.some {
		l.e.printf("\n]\n")
	} else {
		l.e.printf("[]\n")
	}
}

func (e *env) printf(format string, args ...any) { fmt.Fprintf(e.stdout, format, args...) }

// secret is a password or passphrase: from a file where one is named, else asked
// for. One line end is cut off.
func (e *env) secret(file, prompt string) (string, error) {
	return e.secretOf(file, prompt, false)
}

// newSecret is secret for one that is chosen now: a mistake would be found out when
// it is too late.
func (e *env) newSecret(file, prompt string) (string, error) {
	return e.secretOf(file, prompt, true)
}

func (e *env) secretOf(file, prompt string, twice bool) (string, error) {
	if file == "" {
		return e.files.Password(prompt, twice)
	}
	b, err := e.files.Read(file)
	if err != nil {
		return "", err
	}
	s := strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r")
	if s == "" {
		return "", fmt.Errorf("%s is empty, where the %s belongs", file, prompt)
	}
	return s, nil
}

// maxFile bounds what a command reads: keys and certificates are far smaller.
const maxFile = 64 << 20

// localFiles are those of this process.
type localFiles struct {
	ctx    context.Context // ends what waits for a person
	stdin  io.Reader
	stderr io.Writer
	once   sync.Once
	lines  *bufio.Reader
}

func (l *localFiles) input() *bufio.Reader {
	l.once.Do(func() { l.lines = bufio.NewReader(&interruptible{l.ctx, l.stdin}) })
	return l.lines
}

// interruptible is an input that ends with ctx: a read that waits for a person can't be
// ended otherwise.
type interruptible struct {
	ctx context.Context
	r   io.Reader
}

func (i *interruptible) Read(p []byte) (int, error) {
	type result struct {
		b   []byte
		err error
	}
	got := make(chan result, 1)
	go func() {
		b := make([]byte, min(len(p), 64<<10)) // p may be gone when this returns
		n, err := i.r.Read(b)
		got <- result{b[:n], err}
	}()
	select {
	case r := <-got:
		return copy(p, r.b), r.err
	case <-i.ctx.Done():
		return 0, i.ctx.Err()
	}
}

func (l *localFiles) Read(name string) ([]byte, error) {
	var r io.Reader = l.input()
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		r = f
	}
	b, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err == nil && len(b) > maxFile {
		return nil, fmt.Errorf("%s is larger than %d MiB", name, maxFile>>20)
	}
	return b, err
}

func (l *localFiles) Password(prompt string, twice bool) (string, error) {
	p, hidden, err := l.password(prompt)
	if err != nil || !hidden || !twice {
		return p, err
	}
	again, _, err := l.password("the same again")
	if err == nil && again != p {
		err = fmt.Errorf("the %s was not typed the same twice", prompt)
	}
	return p, err
}

// password asks once; hidden tells that a person typed it unseen.
func (l *localFiles) password(prompt string) (text string, hidden bool, err error) {
	if f, ok := l.stdin.(*os.File); ok {
		if old, err := unix.IoctlGetTermios(int(f.Fd()), getTermios); err == nil {
			quiet := *old
			quiet.Lflag &^= unix.ECHO
			if err := unix.IoctlSetTermios(int(f.Fd()), setTermios, &quiet); err == nil {
				defer unix.IoctlSetTermios(int(f.Fd()), setTermios, old)
				defer fmt.Fprintln(l.stderr)
				hidden = true
			}
			fmt.Fprintf(l.stderr, "%s: ", prompt) // last: who types at once is not shown either
		}
	}
	s, err := l.input().ReadString('\n')
	if err != nil && (err != io.EOF || s == "") {
		return "", hidden, fmt.Errorf("reading the %s from standard input: %w (give it there, or in a file)", prompt, err)
	}
	return strings.TrimRight(s, "\r\n"), hidden, nil
}

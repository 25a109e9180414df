// Command letterlock is an OpenPGP gateway for mail: a bridge between the mail
// programs that people already use and the servers that already carry their
// mail. See the README for what it protects, and letterlock --help.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"letterlock.org/letterlock/internal/config"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/pgp"
)

func main() {
	harden()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	args := os.Args[1:]
	if name := filepath.Base(os.Args[0]); name == "sop" || name == "letterlock-sop" { // a link to us, as suites want it
		args = append([]string{"sop"}, args...)
	}
	err := run(ctx, args, os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(report(os.Stderr, err))
}

// Exit codes of every command.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
	exitConfig = 3
	exitLocked = 4
)

// errUsage means that a command line was not understood.
var errUsage = errors.New("usage")

// usageError is errUsage where the command line was understood, but says too little.
type usageError struct{ error }

func (usageError) Is(target error) bool { return target == errUsage }

func (e usageError) Unwrap() error { return e.error }

// exitError carries the exit code of a command that has told its error already.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// report tells an error to a person and returns the exit code.
func report(stderr io.Writer, err error) int {
	code := exitCode(err)
	var told exitError
	if errors.Is(err, context.Canceled) && !errors.As(err, &told) {
		fmt.Fprintln(stderr, "letterlock: interrupted")
	} else if err != nil && !errors.As(err, &told) {
		fmt.Fprintf(stderr, "letterlock: %v\n", err)
	}
	return code
}

func exitCode(err error) int {
	var told exitError
	var problems config.Problems
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &told):
		return int(told)
	case errors.Is(err, errUsage):
		return exitUsage
	case errors.As(err, &problems), errors.Is(err, config.ErrNoFile), errors.Is(err, errConfig):
		return exitConfig
	case errors.Is(err, config.ErrLocked), errors.Is(err, store.ErrKey), errors.Is(err, pgp.ErrLocked):
		return exitLocked
	}
	return exitFailed
}

// errConfig means that the configuration lacks what a command needs.
var errConfig = errors.New("configuration")

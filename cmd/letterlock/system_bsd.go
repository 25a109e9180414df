//go:build darwin || dragonfly || freebsd || netbsd || openbsd

package main

import "golang.org/x/sys/unix"

// harden keeps keys and plaintext from other users and from disk: no core dump,
// private files only.
func harden() {
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	unix.Umask(0o077)
}

// The requests that get and set a terminal's modes.
const (
	getTermios = unix.TIOCGETA
	setTermios = unix.TIOCSETA
)

// giveFile is for Linux, where a service runs as a user of its own.
func giveFile(string, int, int) error { return nil }

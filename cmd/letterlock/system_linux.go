package main

import "golang.org/x/sys/unix"

// harden keeps keys and plaintext from other users and from disk: no core dump,
// no reading of our memory, private files only.
func harden() {
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	unix.Umask(0o077)
}

// The requests that get and set a terminal's modes.
const (
	getTermios = unix.TCGETS
	setTermios = unix.TCSETS
)

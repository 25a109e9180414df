//go:build !linux

package main

import "golang.org/x/sys/unix"

// harden keeps keys and plaintext from other users and from disk: no core dump,
// private files only.
func harden() {
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	unix.Umask(0o077)
}

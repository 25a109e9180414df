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

// giveFile makes a regular file that is root's another user's. The folder is that
// user's, who may put a link there meanwhile: neither one nor a file that has another
// name too is given away. Nothing of it is opened, since closing it would end locks.
func giveFile(file string, uid, gid int) error {
	fd, err := unix.Open(file, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Nlink != 1 || st.Uid != 0 {
		return unix.EPERM
	}
	return unix.Fchownat(fd, "", uid, gid, unix.AT_EMPTY_PATH)
}

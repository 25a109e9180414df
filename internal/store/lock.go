package store

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// ErrInUse means that another process holds the state directory.
var ErrInUse = errors.New("state directory is in use")

// Lock takes dir for this process, until the Closer is closed or the process
// ends, however it ends. Where another has it the error is ErrInUse and names
// its process ID. A missing dir is made, for its owner only.
func Lock(dir string) (io.Closer, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the state directory: %w", err)
	}
	path := filepath.Join(dir, "lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking the state directory: %w%s", err, foreign(path, err))
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w: %s is held by process %s", ErrInUse, dir, holder(f))
		}
		return nil, fmt.Errorf("locking %s: %w", path, err)
	}
	if err := writePID(f); err != nil {
		f.Close()
		return nil, fmt.Errorf("writing %s: %w", path, err)
	}
	return f, nil
}

// foreign is what to do where a file can't be opened since it is another user's.
func foreign(path string, err error) string {
	if !errors.Is(err, syscall.EACCES) {
		return ""
	}
	st, err := os.Lstat(path)
	if err != nil {
		return fmt.Sprintf(" (its folder is not for user %d, as whom this runs; run it as the user that runs serve)", os.Geteuid())
	}
	owner, ok := st.Sys().(*syscall.Stat_t)
	if !ok || int(owner.Uid) == os.Geteuid() {
		return ""
	}
	return fmt.Sprintf(" (it belongs to user %d, and this runs as %d; run it as that user, or give all of it to this one: chown -R %d %s)", owner.Uid, os.Geteuid(), os.Geteuid(), filepath.Dir(path))
}

// holder is the process ID in f, or "unknown".
func holder(f *os.File) string {
	b := make([]byte, 20)
	n, _ := f.ReadAt(b, 0)
	pid := strings.TrimSpace(string(b[:n]))
	if _, err := strconv.ParseUint(pid, 10, 32); err != nil {
		return "unknown"
	}
	return pid
}

func writePID(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

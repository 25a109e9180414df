// Package wholefile writes small files whole: whoever reads one finds what was
// there before or all of what was written, after a crash as well, and a disk that
// is full leaves what was there.
package wholefile

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// Create makes a file that must not exist; if it does, the error is fs.ErrExist.
func Create(file string, b []byte, mode fs.FileMode) error {
	return write(file, b, mode, func(temp string) error {
		err := os.Link(temp, file)
		if err == nil || errors.Is(err, fs.ErrExist) {
			return errors.Join(err, os.Remove(temp))
		}
		if _, exists := os.Lstat(file); exists == nil { // no hard links here, as on FAT
			return errors.Join(fs.ErrExist, os.Remove(temp))
		}
		return os.Rename(temp, file)
	})
}

// Replace makes a file or puts another in its place, with the owner and permissions
// that it had, else with mode. Where the name is a symbolic link, what it points to is
// replaced.
func Replace(file string, b []byte, mode fs.FileMode) error {
	if real, err := filepath.EvalSymlinks(file); err == nil {
		file = real
	}
	uid, gid := -1, -1
	if st, err := os.Stat(file); err == nil {
		mode = st.Mode().Perm()
		if sys, ok := st.Sys().(*syscall.Stat_t); ok && os.Geteuid() == 0 {
			uid, gid = int(sys.Uid), int(sys.Gid)
		}
	}
	return write(file, b, mode, func(temp string) error {
		_ = os.Lchown(temp, uid, gid) // some file systems have one owner for all
		return os.Rename(temp, file)
	})
}

// ErrChanged means that a file isn't what it was when it was read.
var ErrChanged = errors.New("the file was changed meanwhile")

// Swap is Replace for whoever changes what a file held: old is what was read, nil
// for no file. If it holds something else by now, the error is ErrChanged and nothing
// was written. Of several processes that do so at once each finds what the one before
// it wrote.
func Swap(file string, old, b []byte, mode fs.FileMode) error {
	if real, err := filepath.EvalSymlinks(file); err == nil {
		file = real
	}
	dir, err := os.Open(filepath.Dir(file))
	if err != nil {
		return err
	}
	defer dir.Close() // which ends the lock
	lockSoon(dir)
	now, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		now, err = nil, nil
	}
	if err != nil {
		return err
	}
	if !bytes.Equal(now, old) || (now == nil) != (old == nil) {
		return fmt.Errorf("%w: %s", ErrChanged, file)
	}
	return Replace(file, b, mode)
}

// patience is how long a folder's lock is waited for.
var patience = 30 * time.Second

// lockSoon locks a folder, which takes a moment at most where nobody means harm: who
// may look into it can keep it locked. Then, and on network file systems that lock no
// folders, what Swap compares is all that is left.
func lockSoon(dir *os.File) {
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		err := syscall.Flock(int(dir.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err != syscall.EWOULDBLOCK && err != syscall.EINTR {
			return
		}
	}
}

// write writes to a temporary file beside file, and has place give it its name.
func write(file string, b []byte, mode fs.FileMode, place func(temp string) error) error {
	dir := filepath.Dir(file)
	f, err := os.CreateTemp(dir, ".letterlock-*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err == nil {
		err = place(f.Name())
	}
	if err != nil {
		os.Remove(f.Name())
		return fmt.Errorf("writing %s: %w", file, err)
	}
	return syncDir(dir)
}

// syncDir makes names last. Not every file system can.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) {
		return err
	}
	return nil
}

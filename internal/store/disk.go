package store

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/ncruces/go-sqlite3"
	"golang.org/x/sys/unix"
)

// ErrDamaged means that the file is a store of ours, and not whole.
var ErrDamaged = errors.New("the store is damaged")

// ErrNoSpace means that the disk that the store is on is full.
var ErrNoSpace = errors.New("the disk is full")

// fullBelow is the free bytes at which a disk counts as full: a write of SQLite's
// log may need that much.
const fullBelow = 1 << 20

// ofDisk says that the disk is full where SQLite only says that a write failed.
func (s *sqlite) ofDisk(err error) error { return ofDisk(s.path, err) }

func ofDisk(path string, err error) error {
	if errors.Is(err, sqlite3.CORRUPT) {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if !errors.Is(err, sqlite3.IOERR) && !errors.Is(err, sqlite3.FULL) {
		return err
	}
	var st unix.Statfs_t
	if unix.Statfs(filepath.Dir(path), &st) == nil && int64(st.Bavail)*int64(st.Bsize) < fullBelow {
		return fmt.Errorf("%w: %w", ErrNoSpace, err)
	}
	return err
}

package message

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// openUnlinked makes a new file in dir that only its owner may open, and takes
// its name away again, so that it ends with the process whatever happens.
func openUnlinked(dir string) (*os.File, error) {
	if dir == "" {
		dir = os.TempDir()
	}
	name := filepath.Join(dir, "letterlock-spool-"+rand.Text())
	flags := os.O_RDWR | os.O_CREATE | os.O_EXCL | syscall.O_NOFOLLOW
	f, err := os.OpenFile(name, flags, 0o600)
	if err != nil {
		return nil, err
	}
	if err := os.Remove(name); err != nil {
		f.Close()
		return nil, fmt.Errorf("taking the name of a temporary file away: %w", err)
	}
	return f, nil
}

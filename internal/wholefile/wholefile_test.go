package wholefile_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/wholefile"
)

// holds makes sure of a file's text and permissions, and that nothing else lies
// beside it but what is named.
func holds(t *testing.T, file, want string, mode fs.FileMode, beside ...string) {
	t.Helper()
	b, err := os.ReadFile(file)
	st, err2 := os.Stat(file)
	if err := errors.Join(err, err2); err != nil || string(b) != want || st.Mode().Perm() != mode {
		t.Errorf("%s holds %q, %v, %v; want %q, %v", file, b, st.Mode(), err, want, mode)
	}
	all, _ := os.ReadDir(filepath.Dir(file))
	if len(all) != 1+len(beside) {
		t.Errorf("beside it lie %v", all)
	}
}

func TestCreateKeepsWhatIsThere(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key")
	if err := wholefile.Create(file, []byte("first"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := wholefile.Create(file, []byte("second"), 0o644); !errors.Is(err, fs.ErrExist) {
		t.Errorf("got %v, want fs.ErrExist", err)
	}
	holds(t, file, "first", 0o600)
	if err := wholefile.Create(filepath.Join(filepath.Dir(file), "none", "key"), nil, 0o600); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want fs.ErrNotExist", err)
	}
}

func TestReplaceKeepsPermissionsAndLinks(t *testing.T) {
	dir := t.TempDir()
	file, link := filepath.Join(dir, "config"), filepath.Join(dir, "link")
	if err := wholefile.Replace(file, []byte("first"), 0o640); err != nil {
		t.Fatal(err)
	}
	holds(t, file, "first", 0o640)
	if err := os.Symlink("config", link); err != nil {
		t.Fatal(err)
	}
	if err := wholefile.Replace(link, []byte("second"), 0o600); err != nil {
		t.Fatal(err)
	}
	holds(t, file, "second", 0o640, "link")
	if to, err := os.Readlink(link); to != "config" {
		t.Errorf("the link is %q, %v", to, err)
	}
}

// An administrator changes a configuration for the user whose it is.
func TestReplaceKeepsTheOwner(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root writes for others")
	}
	file := filepath.Join(t.TempDir(), "config")
	if err := errors.Join(wholefile.Create(file, []byte("first"), 0o600), os.Chown(file, 65534, 65533)); err != nil {
		t.Fatal(err)
	}
	if err := wholefile.Replace(file, []byte("second"), 0o600); err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if sys := st.Sys().(*syscall.Stat_t); sys.Uid != 65534 || sys.Gid != 65533 {
		t.Errorf("it is %d:%d's now", sys.Uid, sys.Gid)
	}
	holds(t, file, "second", 0o600)
}

func TestAFailureLeavesWhatWasThere(t *testing.T) {
	// A name too long for the file that is there in the meantime to become it.
	dir := t.TempDir()
	if err := wholefile.Create(filepath.Join(dir, strings.Repeat("x", 300)), []byte("x"), 0o600); err == nil {
		t.Error("a name of 300 bytes was given")
	}
	if all, _ := os.ReadDir(dir); len(all) != 0 {
		t.Errorf("a failure leaves %v", all)
	}
}

func TestSwapReplacesOnlyWhatWasRead(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	swap := func(old, b string, want error) {
		t.Helper()
		var was []byte
		if old != "none" {
			was = []byte(old)
		}
		if err := wholefile.Swap(file, was, []byte(b), 0o600); !errors.Is(err, want) {
			t.Errorf("%s for %s: got %v, want %v", b, old, err, want)
		}
	}
	swap("", "one", wholefile.ErrChanged)
	swap("none", "", nil)
	holds(t, file, "", 0o600)
	swap("none", "two", wholefile.ErrChanged)
	swap("", "three", nil)
	swap("", "four", wholefile.ErrChanged)
	holds(t, file, "three", 0o600)
}

// Who keeps the folder locked, as everybody may who can look into it, stops nobody.
func TestSwapInALockedFolder(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	dir, err := os.Open(filepath.Dir(file))
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	if err := syscall.Flock(int(dir.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	defer wholefile.Patience(50 * time.Millisecond)()
	if err := wholefile.Swap(file, nil, []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
	holds(t, file, "new", 0o600)
}

func TestSwapsAtOnceLoseNothing(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	var all sync.WaitGroup
	const writers = 8
	for range writers {
		all.Go(func() {
			for {
				old, err := os.ReadFile(file)
				if err != nil && !errors.Is(err, fs.ErrNotExist) {
					t.Error(err)
					return
				}
				err = wholefile.Swap(file, old, append(bytes.Clone(old), 'x'), 0o600)
				if !errors.Is(err, wholefile.ErrChanged) {
					if err != nil {
						t.Error(err)
					}
					return
				}
			}
		})
	}
	all.Wait()
	holds(t, file, strings.Repeat("x", writers), 0o600)
}

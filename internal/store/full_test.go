package store_test

import (
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"

	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/internal/store/storetest"
)

// TestDiskFull lets a process's files grow no further for a while. What was
// acknowledged is there, what failed is not, and afterwards updates go on.
func TestDiskFull(t *testing.T) {
	if path := os.Getenv("LETTERLOCK_STORE_FULL"); path != "" {
		if err := updateOnFullDisk(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestDiskFull$")
	cmd.Env = append(os.Environ(), "LETTERLOCK_STORE_FULL="+t.TempDir()+"/s.db")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// limitFiles sets the size that no file may exceed; 0 lifts it.
func limitFiles(n uint64) error {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &l); err != nil {
		return err
	}
	if l.Cur = n; n == 0 {
		l.Cur = l.Max
	}
	return syscall.Setrlimit(syscall.RLIMIT_FSIZE, &l)
}

func updateOnFullDisk(path string) error {
	s, err := store.Open(path, key(1), storetest.Schema)
	if err != nil {
		return err
	}
	if err := limitFiles(600_000); err != nil {
		return err
	}
	var mu sync.Mutex
	acknowledged := map[int]bool{}
	round := func(first, n int) (failed int) {
		var wg sync.WaitGroup
		for g := range 8 {
			wg.Go(func() {
				for i := g; i < n; i += 8 {
					err := s.Update(ctx, func(tx store.Tx) error {
						_, err := tx.Exec("INSERT INTO storetest_row (id, data) VALUES (?, ?)", first+i, make([]byte, 5000))
						return err
					})
					mu.Lock()
					acknowledged[first+i] = err == nil
					if err != nil {
						failed++
					}
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		return failed
	}
	failed := round(0, 400)
	if failed == 0 || failed == 400 {
		return fmt.Errorf("%d of 400 failed: the test shows nothing", failed)
	}
	if err := limitFiles(0); err != nil {
		return err
	}
	if n := round(1000, 100); n > 0 {
		return fmt.Errorf("%d of 100 failed with room again", n)
	}
	for range 2 {
		found := map[int]bool{}
		err := s.View(ctx, func(tx store.Tx) error {
			return tx.Rows("SELECT id FROM storetest_row", nil, func(scan func(...any) error) error {
				var id int
				err := scan(&id)
				found[id] = true
				return err
			})
		})
		if err != nil {
			return err
		}
		for id, ok := range acknowledged {
			if ok != found[id] {
				return fmt.Errorf("%d: acknowledged %v, found %v", id, ok, found[id])
			}
		}
		if err := s.Close(); err != nil {
			return err
		}
		if s, err = store.Open(path, key(1), storetest.Schema); err != nil {
			return err
		}
	}
	return s.Close()
}

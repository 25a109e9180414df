package store_test

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/ncruces/go-sqlite3"

	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/internal/store/storetest"
)

// synced is a store on a disk whose syncs can fail.
type synced struct {
	t    *testing.T
	d    *disk
	path string
	store.Store

	mu   sync.Mutex
	told map[int]error // what each update came to
}

func newSynced(t *testing.T, seed uint64) *synced {
	t.Helper()
	s := &synced{t: t, d: newDisk(seed), path: filepath.Join(t.TempDir(), "s.db"), told: map[int]error{}}
	t.Cleanup(store.SetSystem(s.d))
	var err error
	if s.Store, err = store.Open(s.path, key(1), storetest.Schema); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// put makes updates of two rows each, eight at a time, and returns how many failed.
func (s *synced) put(first, n int) (failed int) {
	var all sync.WaitGroup
	for g := range min(8, n) {
		all.Go(func() {
			for id := first + g; id < first+n; id += 8 {
				err := s.Update(ctx, func(tx store.Tx) error {
					for _, row := range []int{id, id + half} {
						if _, err := tx.Exec("INSERT INTO storetest_row (id, data) VALUES (?, ?)", row, make([]byte, 3000)); err != nil {
							return err
						}
					}
					return nil
				})
				s.mu.Lock()
				if s.told[id] = err; err != nil {
					failed++
				}
				s.mu.Unlock()
			}
		})
	}
	all.Wait()
	return failed
}

// half is how far the two rows of an update are apart.
const half = 1_000_000

// updates are those that a store has.
func updates(t *testing.T, s store.Store) map[int]bool {
	t.Helper()
	ids, found := map[int]bool{}, map[int]bool{}
	if err := s.View(ctx, func(tx store.Tx) error {
		clear(ids)
		return tx.Rows("SELECT id FROM storetest_row", nil, func(scan func(...any) error) error {
			var id int
			err := scan(&id)
			ids[id] = true
			return err
		})
	}); err != nil {
		t.Fatal(err)
	}
	for id := range ids {
		if found[id%half] = true; ids[id%half] != ids[id%half+half] {
			t.Errorf("half of %d is there", id%half)
		}
	}
	return found
}

// has compares what a store has with what was told: what was acknowledged is there;
// what failed isn't, or, where nobody can know, may be.
func (s *synced) has(when string, st store.Store, failedMayBe bool) {
	s.t.Helper()
	found := updates(s.t, st)
	for id, err := range s.told {
		if err == nil && !found[id] {
			s.t.Errorf("%s: LOST: %d was acknowledged and is not there", when, id)
		}
		if err != nil && found[id] && !failedMayBe {
			s.t.Errorf("%s: %d failed (%v) and is there", when, id, err)
		}
	}
	if extra := len(found) - len(s.told); extra > 0 {
		s.t.Errorf("%s: %d more than were written", when, extra)
	}
}

// reopened closes it, and opens what is there.
func (s *synced) reopened() {
	s.t.Helper()
	err := s.Close()
	if err == nil {
		s.Store, err = store.Open(s.path, key(1), storetest.Schema)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// TestAFailedSyncFailsWhoeverItWasFor: none of them believes that it is written,
// nobody reads it, each is told why, and as soon as the disk works the store does.
func TestAFailedSyncFailsWhoeverItWasFor(t *testing.T) {
	s := newSynced(t, 1)
	if n := s.put(0, 40); n > 0 {
		t.Fatalf("%d of 40 failed on a disk that works", n)
	}
	s.d.failWhere(func(string) bool { return true })
	if n := s.put(100, 40); n != 40 {
		t.Errorf("%d of 40 failed on a disk that takes nothing", n)
	}
	for id := 100; id < 140; id++ {
		err := s.told[id]
		if !errors.Is(err, sqlite3.IOERR_FSYNC) || !strings.HasPrefix(err.Error(), "committing to the store: ") {
			t.Fatalf("%d was told %v", id, err)
		}
	}
	s.has("while it lasts", s, false)
	s.d.failWhere(nil)
	if n := s.put(200, 40); n > 0 {
		t.Errorf("%d of 40 failed after it", n)
	}
	s.has("after it", s, false)
	s.reopened()
	s.has("opened again", s, false)
}

// TestWhoSharesAFailedSyncIsTriedAlone: one sync that fails need fail nobody, and
// fails nobody by halves.
func TestWhoSharesAFailedSyncIsTriedAlone(t *testing.T) {
	for n := range 12 {
		s := newSynced(t, uint64(n))
		at := 0
		s.d.failWhere(func(path string) bool {
			at++
			return at == n+1
		})
		failed := 0
		for first := 0; s.d.failed() == 0; first += 80 { // how many share a sync is the scheduler's
			failed += s.put(first, 80)
		}
		if failed > 1 {
			t.Errorf("sync %d: %d callers failed; who shared it is to be tried again", n+1, failed)
		}
		s.has("after it", s, false)
		s.reopened()
		s.has("opened again", s, false)
	}
}

// TestFailedSyncsLoseNothingAtALossOfPower: of the log and of the database, where
// the system forgets what it could not write. What was acknowledged is there
// afterwards. What failed may be: its bytes may have reached the disk.
func TestFailedSyncsLoseNothingAtALossOfPower(t *testing.T) {
	failed, back := 0, 0
	for seed := range uint64(3) {
		s := newSynced(t, seed)
		s.d.failWhere(func(path string) bool {
			if strings.HasSuffix(path, "-wal") {
				return s.d.rand.IntN(6) == 0
			}
			return s.d.rand.IntN(2) == 0 // moving the log into the database
		})
		for round := range 4 {
			s.put(round*300, 300) // more than SQLite's log is to hold before it is moved
			if round == 2 {
				s.d.failWhere(nil)
			}
			s.has("meanwhile", s, false)
			for how, leave := range map[string]func(dir string) error{"a loss of power": s.losePower, "kill -9": s.kill} {
				dir := t.TempDir()
				if err := leave(dir); err != nil {
					t.Fatal(err)
				}
				after, err := store.Open(filepath.Join(dir, "s.db"), key(1), storetest.Schema)
				if err != nil {
					t.Fatalf("seed %d, round %d, after %s: %v", seed, round, how, err)
				}
				s.has(fmt.Sprintf("seed %d, round %d, after %s", seed, round, how), after, true)
				for id := range updates(t, after) {
					if s.told[id] != nil {
						back++
					}
				}
				after.Close()
			}
		}
		for _, err := range maps.All(s.told) {
			if err != nil {
				failed++
			}
		}
		s.Close()
	}
	if failed == 0 {
		t.Error("nothing failed: the test shows nothing")
	}
	t.Logf("%d updates failed; %d times one was there after all", failed, back)
}

// losePower leaves what is on the disk.
func (s *synced) losePower(dir string) error { return s.d.losePower(filepath.Dir(s.path), dir) }

// kill leaves the files as the operating system has them.
func (s *synced) kill(dir string) error {
	for _, suffix := range []string{"", "-wal"} {
		b, err := os.ReadFile(s.path + suffix)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, "s.db"+suffix), b, 0o600)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

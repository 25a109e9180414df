package store_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/internal/store/storetest"
)

// TestAFailedSyncOfWhatWasMovedBeforeLosesNothing: while somebody reads, SQLite moves
// the older part of its log into the database, and leaves the sync to when it moves
// the rest.
func TestAFailedSyncOfWhatWasMovedBeforeLosesNothing(t *testing.T) {
	for seed := range uint64(2) {
		s := newSynced(t, seed)
		s.put(0, 220)
		reading, done := make(chan bool), make(chan error)
		go func() {
			done <- s.View(ctx, func(tx store.Tx) error {
				var n int64
				err := tx.Row("SELECT count(*) FROM storetest_row", nil, &n)
				close(reading)
				<-done
				return err
			})
		}()
		<-reading
		s.put(300, 900) // the log is moved as far as the reader lets it
		done <- nil
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		before := s.d.failed()
		s.d.failWhere(func(path string) bool { return !strings.HasSuffix(path, "-wal") })
		for at := 1200; s.d.failed() == before && at < 6000; at += 8 {
			s.put(at, 8)
		}
		if s.d.failed() == before {
			t.Fatal("the log was never moved: the test shows nothing")
		}
		s.d.failWhere(nil)
		if n := s.put(6000, 20); n != 20 || !errors.Is(s.told[6000], store.ErrSync) {
			t.Errorf("%d of 20 failed in a store that can't be believed: %v", n, s.told[6000])
		}
		if err := s.View(ctx, func(store.Tx) error { return nil }); !errors.Is(err, store.ErrSync) {
			t.Errorf("it is read: %v", err)
		}
		dir := t.TempDir()
		if err := s.losePower(dir); err != nil {
			t.Fatal(err)
		}
		s.Close()
		for when, path := range map[string]string{"a loss of power": filepath.Join(dir, "s.db"), "a restart": s.path} {
			after, err := store.Open(path, key(1), storetest.Schema)
			if err != nil {
				t.Fatalf("after %s: %v", when, err)
			}
			s.has("after "+when, after, false)
			if err := after.Update(ctx, func(tx store.Tx) error {
				_, err := tx.Exec("DELETE FROM storetest_row")
				return err
			}); err != nil {
				t.Errorf("after %s: %v", when, err)
			}
			after.Close()
		}
	}
}

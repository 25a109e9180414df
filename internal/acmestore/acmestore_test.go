package acmestore_test

import (
	"context"
	"errors"
	"io/fs"
	"reflect"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/acmestore"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/internal/store/storetest"
)

func TestStorage(t *testing.T) {
	storetest.Each(t, []store.Schema{acmestore.Schema}, func(t *testing.T, st store.Store) {
		ctx := context.Background()
		s := acmestore.New(st)
		if _, err := s.Load(ctx, "a/b"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("nothing: %v", err)
		}
		for _, f := range []string{"a/b", "a/c/d", "a/c/e", "ab/x"} {
			if err := s.Store(ctx, f, []byte(f)); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Store(ctx, "a/b", []byte("again")); err != nil {
			t.Fatal(err)
		}
		if b, err := s.Load(ctx, "a/b"); err != nil || string(b) != "again" {
			t.Errorf("got %q, %v", b, err)
		}
		if k, err := s.Stat(ctx, "a/b"); err != nil || k.Size != 5 || !k.IsTerminal || time.Since(k.Modified) > time.Hour {
			t.Errorf("a file: %v, %v", k, err)
		}
		if k, err := s.Stat(ctx, "a/c"); err != nil || k.IsTerminal {
			t.Errorf("a folder: %v, %v", k, err)
		}
		for _, tt := range []struct {
			path      string
			recursive bool
			want      []string
		}{
			{"a", false, []string{"a/b", "a/c"}},
			{"a", true, []string{"a/b", "a/c/d", "a/c/e"}},
			{"", false, []string{"a", "ab"}},
		} {
			if got, err := s.List(ctx, tt.path, tt.recursive); err != nil || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("list %q: %q, %v, want %q", tt.path, got, err, tt.want)
			}
		}
		if err := s.Delete(ctx, "a/c"); err != nil || s.Exists(ctx, "a/c/d") || !s.Exists(ctx, "a/b") || !s.Exists(ctx, "ab/x") {
			t.Errorf("deleting a folder: %v", err)
		}
		if err := s.Delete(ctx, "a/c"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("deleting nothing: %v", err)
		}
		if err := s.Lock(ctx, "l"); err != nil {
			t.Fatal(err)
		}
		short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		defer cancel()
		if err := s.Lock(short, "l"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a second lock: %v", err)
		}
		// Whoever had a clock that was a year ahead, and died, locks nobody out for a year.
		if err := st.Update(ctx, func(tx store.Tx) error {
			_, err := tx.Exec("UPDATE acme_lock SET ends = ?", time.Now().AddDate(1, 0, 0))
			return err
		}); err != nil {
			t.Fatal(err)
		}
		soon, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		if err := s.Lock(soon, "l"); err != nil {
			t.Errorf("a lock from a wrong clock: %v", err)
		}
		if err := errors.Join(s.Unlock(ctx, "l"), s.Lock(ctx, "l")); err != nil {
			t.Errorf("unlocked and locked: %v", err)
		}
	})
}

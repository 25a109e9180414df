// Package storetest is the suite that every implementation of [store.Store]
// passes.
package storetest

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/store"
)

// Schema is what the suite needs; open must give it to the store.
var Schema = store.Schema{Name: "storetest", Steps: []string{
	`CREATE TABLE storetest_row (id INTEGER PRIMARY KEY, name TEXT UNIQUE, data BLOB, at INTEGER);
	 CREATE TABLE storetest_child (id INTEGER PRIMARY KEY, row_id INTEGER NOT NULL REFERENCES storetest_row (id) DEFERRABLE INITIALLY DEFERRED)`,
}}

// Run runs the suite; open gives a new, empty store each time and closes it when
// its test ends.
func Run(t *testing.T, open func(t *testing.T) store.Store) {
	tests := map[string]func(*testing.T, store.Store){
		"what is stored is read back":           roundTrip,
		"NULL is told apart":                    nulls,
		"no row is ErrNoRow":                    noRow,
		"a failing update leaves nothing":       failingUpdate,
		"a panicking update leaves nothing":     panickingUpdate,
		"an update whose goroutine ends":        exitingUpdate,
		"a lost transaction is run again":       lostTransaction,
		"a failing commit spares the others":    failingCommit,
		"concurrent updates all count":          concurrentUpdates,
		"a view cannot write":                   readOnlyView,
		"a view sees one state":                 snapshot,
		"an update within a view":               updateInView,
		"views nested by mistake end":           nestedViews,
		"a cancelled context stops":             cancelled,
		"a statement may run within itself":     reentrant,
		"a transaction ends":                    txEnds,
		"wrong numbers of values are refused":   wrongNumbers,
		"MAC and keys are told apart":           macs,
		"after close nothing runs":              closed,
		"close waits for views and updates":     closeWaits,
		"statements beyond the cache":           manyStatements,
		"a caller's error comes back unchanged": callersError,
		"more than fits into memory":            bigUpdate,
		"a row is claimed by one":               claims,
		"a lock is one transaction's":           locks,
		"functions run as if alone":             asIfAlone,
		"listeners are told":                    notifications,
	}
	names := make([]string, 0, len(tests))
	for name := range tests {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		t.Run(name, func(t *testing.T) { tests[name](t, open(t)) })
	}
}

var ctx = context.Background()

func update(t *testing.T, s store.Store, query string, args ...any) {
	t.Helper()
	if err := s.Update(ctx, func(tx store.Tx) error { _, err := tx.Exec(query, args...); return err }); err != nil {
		t.Fatal(err)
	}
}

func count(t *testing.T, s store.Store) (n int) {
	t.Helper()
	if err := s.View(ctx, func(tx store.Tx) error {
		return tx.Row("SELECT COUNT(*) FROM storetest_row", nil, &n)
	}); err != nil {
		t.Fatal(err)
	}
	return n
}

func insert(tx store.Tx, name string) error {
	_, err := tx.Exec("INSERT INTO storetest_row (name) VALUES (?)", name)
	return err
}

type word string
type id [4]byte

func roundTrip(t *testing.T, s store.Store) {
	at := time.Date(2025, 3, 1, 12, 0, 0, 123000, time.UTC)
	err := s.Update(ctx, func(tx store.Tx) error {
		n, err := tx.Exec("INSERT INTO storetest_row (id, name, data, at) VALUES (?, ?, ?, ?), (?, ?, ?, ?)",
			1, word("é\x00x"), id{1, 0, 3, 4}, at, uint8(2), "", []byte(nil), true)
		if n != 2 {
			t.Errorf("%d rows changed, want 2", n)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	err = s.View(ctx, func(tx store.Tx) error {
		var i uint32
		var name word
		var data id
		var when time.Time
		if err := tx.Row("SELECT id, name, data, at FROM storetest_row WHERE id = ?", []any{1}, &i, &name, &data, &when); err != nil {
			return err
		}
		if i != 1 || name != "é\x00x" || data != (id{1, 0, 3, 4}) || !when.Equal(at) {
			t.Errorf("got %d, %q, %v, %v", i, name, data, when)
		}
		var empty []byte
		var yes bool
		var none any
		if err := tx.Row("SELECT data, at, name FROM storetest_row WHERE id = 2", nil, &empty, &yes, &none); err != nil {
			return err
		}
		if empty == nil || len(empty) > 0 || !yes || none != "" {
			t.Errorf("got %v, %v, %v", empty, yes, none)
		}
		var small int8
		if err := tx.Row("SELECT 300", nil, &small); err == nil {
			t.Error("300 was scanned into an int8")
		}
		var text string
		if err := tx.Row("SELECT 7", nil, &text); err == nil {
			t.Error("an integer was scanned into a string")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func nulls(t *testing.T, s store.Store) {
	update(t, s, "INSERT INTO storetest_row (id, name, data) VALUES (1, ?, ?)", nil, nil)
	err := s.View(ctx, func(tx store.Tx) error {
		p, b, v := new(string), []byte{1}, sql.NullInt64{Valid: true}
		if err := tx.Row("SELECT name, data, at FROM storetest_row", nil, &p, &b, &v); err != nil {
			return err
		}
		if p != nil || b != nil || v.Valid {
			t.Errorf("got %v, %v, %v", p, b, v)
		}
		var str string
		if err := tx.Row("SELECT name FROM storetest_row", nil, &str); err == nil {
			t.Error("NULL was scanned into a string")
		}
		q := new(string)
		if err := tx.Row("SELECT 'x'", nil, &q); err != nil || *q != "x" {
			t.Errorf("got %v, %v", *q, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func noRow(t *testing.T, s store.Store) {
	err := s.View(ctx, func(tx store.Tx) error {
		var n int
		return tx.Row("SELECT id FROM storetest_row WHERE id = ?", []any{9}, &n)
	})
	if !errors.Is(err, store.ErrNoRow) {
		t.Errorf("got %v", err)
	}
}

func failingUpdate(t *testing.T, s store.Store) {
	want := errors.New("no")
	err := s.Update(ctx, func(tx store.Tx) error {
		if err := insert(tx, "a"); err != nil {
			return err
		}
		return want
	})
	if err != want || count(t, s) != 0 {
		t.Errorf("got %v, %d rows", err, count(t, s))
	}
	update(t, s, "INSERT INTO storetest_row (name) VALUES ('b')")
}

func panickingUpdate(t *testing.T, s store.Store) {
	func() {
		defer func() {
			if r := recover(); r != "oops" {
				t.Errorf("recovered %v", r)
			}
		}()
		s.Update(ctx, func(tx store.Tx) error { insert(tx, "a"); panic("oops") })
	}()
	func() {
		defer func() { recover() }()
		s.View(ctx, func(tx store.Tx) error { panic("oops") })
	}()
	if n := count(t, s); n != 0 {
		t.Errorf("%d rows", n)
	}
	update(t, s, "INSERT INTO storetest_row (name) VALUES ('b')")
}

func exitingUpdate(t *testing.T, s store.Store) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Update(ctx, func(tx store.Tx) error { insert(tx, "a"); runtime.Goexit(); return nil })
	}()
	<-done
	if n := count(t, s); n != 0 {
		t.Errorf("%d rows", n)
	}
	update(t, s, "INSERT INTO storetest_row (name) VALUES ('b')")
}

// together runs the functions so that they share a transaction where the store
// does that: the first holds on until the others wait.
func together(s store.Store, fs ...func(store.Tx) error) []error {
	errs := make([]error, len(fs))
	started := make(chan struct{})
	var once sync.Once
	var wg sync.WaitGroup
	for i, f := range fs {
		if i == 0 {
			inner := f
			f = func(tx store.Tx) error {
				once.Do(func() { close(started); time.Sleep(50 * time.Millisecond) })
				return inner(tx)
			}
		} else {
			<-started
		}
		wg.Go(func() { errs[i] = s.Update(ctx, f) })
		if i == 0 {
			<-started
		}
	}
	wg.Wait()
	return errs
}

func lostTransaction(t *testing.T, s store.Store) {
	runs := atomic.Int64{}
	errs := together(s,
		func(tx store.Tx) error { runs.Add(1); return insert(tx, "a") },
		func(tx store.Tx) error { tx.Exec("ROLLBACK"); return errors.New("mine") },
		func(tx store.Tx) error { return insert(tx, "c") })
	if errs[0] != nil || errs[1] == nil || errs[2] != nil || count(t, s) != 2 {
		t.Errorf("got %v, %d rows", errs, count(t, s))
	}
}

func failingCommit(t *testing.T, s store.Store) {
	errs := together(s,
		func(tx store.Tx) error { return insert(tx, "a") },
		func(tx store.Tx) error { // a deferred constraint fails only at the commit
			_, err := tx.Exec("INSERT INTO storetest_child (row_id) VALUES (99)")
			return err
		},
		func(tx store.Tx) error { return insert(tx, "c") })
	if errs[0] != nil || errs[1] == nil || errs[2] != nil || count(t, s) != 2 {
		t.Errorf("got %v, %d rows", errs, count(t, s))
	}
}

func concurrentUpdates(t *testing.T, s store.Store) {
	update(t, s, "INSERT INTO storetest_row (id, at) VALUES (1000000, 0)")
	want := atomic.Int64{}
	var wg sync.WaitGroup
	for g := range 16 {
		wg.Go(func() {
			for i := range 25 {
				err := s.Update(ctx, func(tx store.Tx) error {
					if _, err := tx.Exec("UPDATE storetest_row SET at = at + 1 WHERE id = 1000000"); err != nil {
						return err
					}
					if (g+i)%5 == 0 {
						return errors.New("undo")
					}
					return insert(tx, fmt.Sprint(g, "-", i))
				})
				if err == nil {
					want.Add(1)
				} else if (g+i)%5 != 0 {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	var n int64
	s.View(ctx, func(tx store.Tx) error { return tx.Row("SELECT at FROM storetest_row WHERE id = 1000000", nil, &n) })
	if n != want.Load() || int64(count(t, s)) != n+1 {
		t.Errorf("%d counted, %d rows, want %d", n, count(t, s)-1, want.Load())
	}
}

func readOnlyView(t *testing.T, s store.Store) {
	err := s.View(ctx, func(tx store.Tx) error { return insert(tx, "a") })
	if err == nil || count(t, s) != 0 {
		t.Errorf("error %v, %d rows", err, count(t, s))
	}
}

func snapshot(t *testing.T, s store.Store) {
	err := s.View(ctx, func(tx store.Tx) error {
		var before, after int
		if err := tx.Row("SELECT COUNT(*) FROM storetest_row", nil, &before); err != nil {
			return err
		}
		update(t, s, "INSERT INTO storetest_row (name) VALUES ('a')")
		if err := tx.Row("SELECT COUNT(*) FROM storetest_row", nil, &after); err != nil {
			return err
		}
		if before != after {
			t.Errorf("%d rows, then %d in the same view", before, after)
		}
		return nil
	})
	if err != nil || count(t, s) != 1 {
		t.Errorf("%v, %d rows", err, count(t, s))
	}
}

func updateInView(t *testing.T, s store.Store) {
	err := s.View(ctx, func(tx store.Tx) error {
		var n int
		if err := tx.Row("SELECT COUNT(*) FROM storetest_row", nil, &n); err != nil {
			return err
		}
		return s.Update(ctx, func(tx store.Tx) error { return insert(tx, "a") })
	})
	if err != nil || count(t, s) != 1 {
		t.Errorf("%v, %d rows", err, count(t, s))
	}
}

func nestedViews(t *testing.T, s store.Store) {
	var wg sync.WaitGroup
	for range 12 {
		wg.Go(func() {
			if err := s.View(ctx, func(store.Tx) error {
				time.Sleep(20 * time.Millisecond)
				return s.View(ctx, func(store.Tx) error { return nil })
			}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func cancelled(t *testing.T, s store.Store) {
	gone, cancel := context.WithCancel(ctx)
	err := s.Update(gone, func(tx store.Tx) error {
		if err := insert(tx, "a"); err != nil {
			return err
		}
		cancel()
		return insert(tx, "b")
	})
	if !errors.Is(err, context.Canceled) || count(t, s) != 0 {
		t.Errorf("update: %v, %d rows", err, count(t, s))
	}
	for _, do := range []func(context.Context, func(store.Tx) error) error{s.View, s.Update} {
		if err := do(gone, func(store.Tx) error { t.Error("ran"); return nil }); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	}
	soon, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	err = s.View(soon, func(tx store.Tx) error {
		var n int
		return tx.Row("WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c) SELECT COUNT(*) FROM c", nil, &n)
	})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("endless view: %v", err)
	}
}

func reentrant(t *testing.T, s store.Store) {
	update(t, s, "INSERT INTO storetest_row (id) VALUES (1), (2), (3)")
	const query = "SELECT id FROM storetest_row WHERE id > ? ORDER BY id"
	var got []int
	err := s.View(ctx, func(tx store.Tx) error {
		return tx.Rows(query, []any{0}, func(scan func(...any) error) error {
			var a int
			if err := scan(&a); err != nil {
				return err
			}
			return tx.Rows(query, []any{a}, func(scan func(...any) error) error {
				var b int
				err := scan(&b)
				got = append(got, 10*a+b)
				return err
			})
		})
	})
	if err != nil || !slices.Equal(got, []int{12, 13, 23}) {
		t.Errorf("got %v, %v", got, err)
	}
	got = nil
	err = s.View(ctx, func(tx store.Tx) error { // another statement before the row is scanned
		return tx.Rows(query, []any{0}, func(scan func(...any) error) error {
			var a, b int
			if err := tx.Row("SELECT 7777777 + COUNT(*) FROM storetest_row", nil, &b); err != nil {
				return err
			}
			err := scan(&a)
			got = append(got, a)
			return err
		})
	})
	if err != nil || !slices.Equal(got, []int{1, 2, 3}) {
		t.Errorf("got %v, %v", got, err)
	}
}

func txEnds(t *testing.T, s store.Store) {
	var kept store.Tx
	keep := func(tx store.Tx) error { kept = tx; return nil }
	for _, do := range []func(context.Context, func(store.Tx) error) error{s.View, s.Update} {
		if err := do(ctx, keep); err != nil {
			t.Fatal(err)
		}
		if _, err := kept.Exec("SELECT 1"); err == nil {
			t.Error("a transaction that has ended was used")
		}
	}
}

func wrongNumbers(t *testing.T, s store.Store) {
	err := s.View(ctx, func(tx store.Tx) error {
		var n int
		for _, err := range []error{
			tx.Row("SELECT ?", nil, &n),
			tx.Row("SELECT ?", []any{1, 2}, &n),
			tx.Row("SELECT 1, 2", nil, &n),
			tx.Row("SELECT 1; SELECT 2", nil, &n),
			tx.Row("SELECT ?", []any{struct{}{}}, &n),
			tx.Row("SELECT 1", nil, n),
		} {
			if err == nil {
				t.Error("no error")
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func macs(t *testing.T, s store.Store) {
	b := func(s string) []byte { return []byte(s) }
	all := [][]byte{
		s.MAC("a"), s.MAC("b"), s.MAC("a", nil), s.MAC("a", b("")[:0], nil), s.MAC("a", b("xy")),
		s.MAC("a", b("x"), b("y")), s.MAC("a", b("y"), b("x")), s.MAC("ax", b("y")),
	}
	for i := range all {
		for j := range i {
			if bytes.Equal(all[i], all[j]) {
				t.Errorf("MACs %d and %d are equal", i, j)
			}
		}
	}
	if !bytes.Equal(s.MAC("a", b("x")), s.MAC("a", b("x"))) {
		t.Error("a MAC differs from itself")
	}
	first, again := s.Key("a"), s.Key("a")
	if first == s.Key("b") || first != again {
		t.Error("keys of two purposes are equal, or of one differ")
	}
	if err := store.Verify(s, s.MAC("p", b("x")), "p", b("x")); err != nil {
		t.Error(err)
	}
	if err := store.Verify(s, s.MAC("p", b("x")), "p", b("z")); !errors.Is(err, store.ErrTampered) {
		t.Errorf("got %v", err)
	}
	if err := store.Verify(s, nil, "p"); !errors.Is(err, store.ErrTampered) {
		t.Errorf("got %v", err)
	}
}

func closed(t *testing.T, s store.Store) {
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for _, do := range []func(context.Context, func(store.Tx) error) error{s.View, s.Update} {
		if err := do(ctx, func(store.Tx) error { t.Error("ran"); return nil }); !errors.Is(err, store.ErrClosed) {
			t.Errorf("got %v", err)
		}
	}
}

func closeWaits(t *testing.T, s store.Store) {
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			err := s.Update(ctx, func(tx store.Tx) error { return insert(tx, fmt.Sprint(i)) })
			if err != nil && !errors.Is(err, store.ErrClosed) {
				t.Error(err)
			}
			err = s.View(ctx, func(tx store.Tx) error {
				var n int
				return tx.Row("SELECT COUNT(*) FROM storetest_row", nil, &n)
			})
			if err != nil && !errors.Is(err, store.ErrClosed) {
				t.Error(err)
			}
		})
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()
}

func manyStatements(t *testing.T, s store.Store) {
	err := s.View(ctx, func(tx store.Tx) error {
		for i := range 1000 {
			var n int
			if err := tx.Row(fmt.Sprintf("SELECT %d", i), nil, &n); err != nil || n != i {
				return fmt.Errorf("%d: got %d, %w", i, n, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func callersError(t *testing.T, s store.Store) {
	want := errors.New("mine")
	err := s.View(ctx, func(tx store.Tx) error {
		return tx.Rows("SELECT 1", nil, func(func(...any) error) error { return want })
	})
	if err != want {
		t.Errorf("got %v", err)
	}
}

// bigUpdate writes the same rows again and again in one transaction that is
// larger than what a store keeps in memory, once in vain.
func bigUpdate(t *testing.T, s store.Store) {
	const n, size = 300, 40_000
	undo := errors.New("undo")
	write := func(mark byte, end error) error {
		return s.Update(ctx, func(tx store.Tx) error {
			for round := range byte(2) {
				for i := range n {
					if _, err := tx.Exec("INSERT INTO storetest_row (id, data) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET data = excluded.data",
						i, bytes.Repeat([]byte{mark + round, byte(i)}, size/2)); err != nil {
						return err
					}
				}
			}
			return end
		})
	}
	for _, err := range []error{write(10, nil), write(20, undo), write(30, nil), write(40, undo)} {
		if err != nil && err != undo {
			t.Fatal(err)
		}
	}
	seen := 0
	err := s.View(ctx, func(tx store.Tx) error {
		return tx.Rows("SELECT id, data FROM storetest_row ORDER BY id", nil, func(scan func(...any) error) error {
			var i int
			var data []byte
			err := scan(&i, &data)
			if !bytes.Equal(data, bytes.Repeat([]byte{31, byte(seen)}, size/2)) || i != seen {
				t.Errorf("row %d is wrong", i)
			}
			seen++
			return err
		})
	})
	if err != nil || seen != n {
		t.Errorf("%d rows, %v", seen, err)
	}
}

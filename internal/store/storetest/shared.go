package storetest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/store"
)

// claims lets several claim rows at once: each row is claimed by one.
func claims(t *testing.T, s store.Store) {
	update(t, s, "INSERT INTO storetest_row (id, at) VALUES (1, 0), (2, 0), (3, 0), (4, 0), (5, 0), (6, 0), (7, 0), (8, 0)")
	var mu sync.Mutex
	var all []int
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for {
				got := 0
				err := s.Update(store.Relaxed(ctx), func(tx store.Tx) error {
					err := tx.Row("SELECT id FROM storetest_row WHERE at = 0 ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED", nil, &got)
					if err != nil {
						return err
					}
					_, err = tx.Exec("UPDATE storetest_row SET at = 1 WHERE id = ?", got)
					return err
				})
				if errors.Is(err, store.ErrNoRow) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				all = append(all, got)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	slices.Sort(all)
	if !slices.Equal(all, []int{1, 2, 3, 4, 5, 6, 7, 8}) {
		t.Errorf("claimed %v", all)
	}
}

// locks lets several count in a row that a lock protects.
func locks(t *testing.T, s store.Store) {
	update(t, s, "INSERT INTO storetest_row (id, at) VALUES (1, 0)")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 5 {
				err := s.Update(store.Relaxed(ctx), func(tx store.Tx) error {
					if err := tx.Lock("counter"); err != nil {
						return err
					}
					var n int
					if err := tx.Row("SELECT at FROM storetest_row WHERE id = 1", nil, &n); err != nil {
						return err
					}
					_, err := tx.Exec("UPDATE storetest_row SET at = ? WHERE id = 1", n+1)
					return err
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	err := s.View(ctx, func(tx store.Tx) error {
		var n int
		if err := tx.Row("SELECT at FROM storetest_row WHERE id = 1", nil, &n); err != nil || n != 40 {
			t.Errorf("counted %d, %v", n, err)
		}
		if tx.Lock("counter") == nil {
			t.Error("a view took a lock")
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// asIfAlone lets each of several functions write what none may after another:
// a row if there is none.
func asIfAlone(t *testing.T, s store.Store) {
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			err := s.Update(ctx, func(tx store.Tx) error {
				var n int
				if err := tx.Row("SELECT COUNT(*) FROM storetest_row", nil, &n); err != nil || n > 0 {
					return err
				}
				_, err := tx.Exec("INSERT INTO storetest_row (id) VALUES (?)", i)
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := count(t, s); n != 1 {
		t.Errorf("%d rows", n)
	}
}

func notifications(t *testing.T, s store.Store) {
	heard := make(chan string, 100)
	listening, stop := context.WithCancel(ctx)
	done := make(chan error)
	go func() { done <- s.Listen(listening, "news", func(p string) { heard <- p }) }()
	// hear does what should be heard until it is: a hint may get lost.
	hear := func(want string, again func()) {
		t.Helper()
		for range 60 {
			select {
			case got := <-heard:
				if got == want {
					return
				}
				if got == "x" {
					t.Fatal("heard another channel")
				}
			case <-time.After(500 * time.Millisecond):
				again()
			}
		}
		t.Fatalf("never heard %q", want)
	}
	hear("", func() {})
	for _, p := range []string{"a", "b'\"\\ü"} {
		notify := func() {
			for channel, payload := range map[string]string{"other": "x", "news": p} {
				if err := s.Notify(ctx, channel, payload); err != nil {
					t.Fatal(err)
				}
			}
		}
		notify()
		hear(p, notify)
	}
	for _, bad := range []string{"", "a b", "a;b", "A"} {
		if s.Notify(ctx, bad, "x") == nil {
			t.Errorf("channel %q was taken", bad)
		}
	}
	stop()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Listen ended with %v", err)
	}
	go func() { done <- s.Listen(ctx, "news", func(p string) { heard <- p }) }()
	hear("", func() {})
	s.Close()
	if err := <-done; !errors.Is(err, store.ErrClosed) {
		t.Errorf("Listen ended with %v after Close", err)
	}
}

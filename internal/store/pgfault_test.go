package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/mailtest/peer"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/internal/store/storetest"
)

// through is url with another address.
func through(t *testing.T, raw, addr string) string {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	u.Host = addr
	return u.String()
}

// numbers are the ids that a store holds.
func numbers(t *testing.T, s store.Store) map[int]bool {
	t.Helper()
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
		t.Fatal(err)
	}
	return found
}

func put(s store.Store, id int) error {
	return s.Update(ctx, func(tx store.Tx) error {
		_, err := tx.Exec("INSERT INTO storetest_row (id, data) VALUES (?, ?)", id, []byte("data"))
		return err
	})
}

// TestPostgresCrashes restarts PostgreSQL under two nodes that write. What was
// acknowledged is there; what failed is not, unless that was said to be unknown;
// and the nodes go on by themselves.
func TestPostgresCrashes(t *testing.T) {
	server := peer.Postgres(t)
	u := server.Fresh()
	nodes := []store.Store{openPostgres(t, u, 1, storetest.Schema), openPostgres(t, u, 1, storetest.Schema)}
	var mu sync.Mutex
	results := map[int]error{}
	var next, stop, ok atomic.Int64
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for stop.Load() == 0 {
				id := int(next.Add(1))
				err := put(nodes[i%2], id)
				mu.Lock()
				results[id] = err
				mu.Unlock()
				if err == nil {
					ok.Add(1)
				} else {
					time.Sleep(10 * time.Millisecond)
				}
			}
		})
	}
	wait := func(n int64) {
		for before, end := ok.Load(), time.Now().Add(3*time.Minute); ok.Load() < before+n && time.Now().Before(end); {
			time.Sleep(time.Millisecond)
		}
	}
	for range 3 {
		wait(50)
		server.Restart()
	}
	wait(50)
	stop.Store(1)
	wg.Wait()
	found := numbers(t, nodes[0])
	failed, unknown := 0, 0
	for id, err := range results {
		switch {
		case err == nil && !found[id]:
			t.Errorf("%d was acknowledged and is gone", id)
		case errors.Is(err, store.ErrUnsettled):
			unknown++
		case err != nil && found[id]:
			t.Errorf("%d failed and is there: %v", id, err)
		case err != nil:
			failed++
		}
	}
	t.Logf("%d acknowledged, %d failed, %d unknown", ok.Load(), failed, unknown)
	if ok.Load() < 200 {
		t.Error("the nodes did not go on")
	}
}

// TestLostCommitIsSettled swallows the answer to COMMIT, and the COMMIT itself:
// Update finds out which it was.
func TestLostCommitIsSettled(t *testing.T) {
	server := peer.Postgres(t)
	for _, lost := range []string{"the answer", "the commit"} {
		cable := server.Gateway()
		u := server.Fresh()
		var armed atomic.Bool
		cable.OnUp = func(piece []byte) {
			if bytes.Contains(piece, []byte("COMMIT")) && armed.CompareAndSwap(true, false) {
				cable.Down.Store(true)
				cable.Up.Store(lost == "the commit")
				time.AfterFunc(200*time.Millisecond, func() { cable.Cut(); cable.Mend() })
			}
		}
		s := openPostgres(t, through(t, u, cable.Addr), 1, storetest.Schema)
		armed.Store(true)
		err := put(s, 1)
		if armed.Load() {
			t.Fatal("no COMMIT went by")
		}
		if got := numbers(t, s)[1]; got != (lost == "the answer") || got != (err == nil) || errors.Is(err, store.ErrUnsettled) {
			t.Errorf("%s was lost: Update said %v, the row is there: %v", lost, err, got)
		}
	}
}

// TestCutOffNode silences the line to PostgreSQL: the node's callers get errors
// when their time is up, and it goes on when the line is back.
func TestCutOffNode(t *testing.T) {
	server := peer.Postgres(t)
	cable := server.Gateway()
	u := server.Fresh()
	s := openPostgres(t, through(t, u, cable.Addr), 1, storetest.Schema)
	heard := make(chan string, 100)
	listening, stop := context.WithCancel(ctx)
	defer stop()
	go s.Listen(listening, "news", func(p string) { heard <- p })
	if err := put(s, 1); err != nil {
		t.Fatal(err)
	}
	cable.Down.Store(true)
	short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	err := s.Update(short, func(tx store.Tx) error {
		_, err := tx.Exec("INSERT INTO storetest_row (id) VALUES (2)")
		return err
	})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	cable.Cut()
	short, cancel = context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := s.View(short, func(tx store.Tx) error { return nil }); err == nil {
		t.Error("a view ran without a line")
	}
	cable.Mend()
	if err := put(s, 3); err != nil {
		t.Error(err)
	}
	if got := fmt.Sprint(numbers(t, s)); got != "map[1:true 3:true]" {
		t.Errorf("got %s", got)
	}
	other := openPostgres(t, u, 1, storetest.Schema)
	for end := time.After(2 * time.Minute); ; {
		other.Notify(ctx, "news", "back")
		select {
		case p := <-heard:
			if p == "back" {
				return
			}
		case <-time.After(200 * time.Millisecond):
		case <-end:
			t.Fatal("the listener did not come back")
		}
	}
}

// TestNodeDiesInTransaction kills a connection's server process within a
// transaction that holds a lock and a claim: another node gets both, and nothing
// of it remains.
func TestNodeDiesInTransaction(t *testing.T) {
	server := peer.Postgres(t)
	cable := server.Gateway()
	u := server.Fresh()
	dying, living := openPostgres(t, through(t, u, cable.Addr), 1, storetest.Schema), openPostgres(t, u, 1, storetest.Schema)
	if err := put(living, 1); err != nil {
		t.Fatal(err)
	}
	err := dying.Update(ctx, func(tx store.Tx) error {
		var id int
		if err := tx.Row("SELECT id FROM storetest_row WHERE id = 1 FOR UPDATE SKIP LOCKED", nil, &id); err != nil {
			return err
		}
		if err := tx.Lock("work"); err != nil {
			return err
		}
		if _, err := tx.Exec("UPDATE storetest_row SET at = 9 WHERE id = 1"); err != nil {
			return err
		}
		if err := living.Update(store.Relaxed(ctx), func(tx store.Tx) error {
			return tx.Row("SELECT id FROM storetest_row WHERE id = 1 FOR UPDATE SKIP LOCKED", nil, &id)
		}); !errors.Is(err, store.ErrNoRow) {
			t.Errorf("a claimed row was claimed: %v", err)
		}
		cable.Cut()
		_, err := tx.Exec("UPDATE storetest_row SET at = 10 WHERE id = 1")
		return err
	})
	if err == nil {
		t.Error("the transaction survived")
	}
	err = living.Update(store.Relaxed(ctx), func(tx store.Tx) error {
		if err := tx.Lock("work"); err != nil {
			return err
		}
		at := new(int)
		if err := tx.Row("SELECT at FROM storetest_row WHERE id = 1 FOR UPDATE", nil, &at); err != nil || at != nil {
			t.Errorf("got %v, %v", at, err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

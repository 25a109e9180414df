package server_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/internal/store/storetest"
	"letterlock.org/letterlock/keydir/server"
	"letterlock.org/letterlock/pgp"
)

// Submissions on every store that there is.
func TestSubmissionsOnEveryStore(t *testing.T) {
	storetest.Each(t, []store.Schema{server.Schema}, func(t *testing.T, st store.Store) {
		one, two := reopened(st), reopened(st)
		now := today.Add(time.Hour)
		one.Now, two.Now = func() time.Time { return now }, func() time.Time { return now }
		a := addr(t, "joe.doe@example.org")
		old, next := key(t, "joe.doe@example.org"), key(t, "joe.doe@example.org")
		if err := one.Add(ctx, a, old.Certificate()); err != nil {
			t.Fatal(err)
		}
		token := begin(t, one, server.ByLink, next.Certificate())
		var won, lost atomic.Int32
		var wg sync.WaitGroup
		for i := range 10 {
			d := []*server.Directory{one, two}[i%2]
			wg.Go(func() {
				switch _, err := d.Confirm(ctx, token, server.ByLink, nil); {
				case err == nil:
					won.Add(1)
				case errors.Is(err, server.ErrToken):
					lost.Add(1)
				default:
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if won.Load() != 1 || lost.Load() != 9 {
			t.Errorf("%d confirmations counted, %d were late", won.Load(), lost.Load())
		}
		if known, err := two.Revoke(ctx, revoked(t, old)); err != nil || !known {
			t.Fatal(known, err)
		}
		if err := one.Refresh(ctx); err != nil {
			t.Fatal(err)
		}
		for _, d := range []*server.Directory{one, two} {
			if got := served(t, d); len(got) != 2 || got[0].Fingerprint() != next.Fingerprint() || !got[1].Revoked(now) {
				t.Errorf("%d certificates are served", len(got))
			}
		}
		for range 3 {
			begin(t, two, server.ByLink, next.Certificate())
		}
		if _, err := one.Begin(ctx, server.ByLink, a, next.Certificate()); !errors.Is(err, server.ErrLimited) {
			t.Errorf("a fourth request: %v", err)
		}
		now = now.Add(366 * 24 * time.Hour)
		if err := two.Tidy(ctx); err != nil {
			t.Fatal(err)
		}
		if got := served(t, two); len(got) != 1 || rows(t, st, "keydirserver_pending") != 0 {
			t.Errorf("a year later: %d certificates", len(got))
		}
	})
}

// A node hears of what another changed, and then answers it: additions,
// withdrawals and revocations.
func TestAnotherNodeHears(t *testing.T) {
	storetest.Each(t, []store.Schema{server.Schema}, func(t *testing.T, st store.Store) {
		if !st.Shared() {
			t.Skip("this store has one node")
		}
		one, two := reopened(st), reopened(st)
		heard := make(chan error, 100)
		listening, stop := context.WithCancel(ctx)
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = st.Listen(listening, server.Channel, func(string) { heard <- two.Refresh(ctx) })
		}()
		defer func() { stop(); <-done }()
		a, k := addr(t, "joe.doe@example.org"), key(t, "joe.doe@example.org")
		await := func(what string, ok func([]*pgp.Certificate) bool) {
			t.Helper()
			for late := time.After(time.Minute); !ok(served(t, two)); {
				select {
				case err := <-heard:
					if err != nil {
						t.Fatal(err)
					}
				case <-late:
					t.Fatalf("%s: the other node never heard of it", what)
				}
			}
		}
		if err := <-heard; err != nil { // once at first
			t.Fatal(err)
		}
		for _, step := range []struct {
			what string
			do   func() error
			ok   func([]*pgp.Certificate) bool
		}{
			{"added", func() error { return one.Add(ctx, a, k.Certificate()) }, func(c []*pgp.Certificate) bool { return len(c) == 1 }},
			{"revoked", func() error { _, err := one.Revoke(ctx, revoked(t, k)); return err }, func(c []*pgp.Certificate) bool { return len(c) == 1 && c[0].Revoked(today) }},
			{"withdrawn", func() error { return one.Remove(ctx, a) }, func(c []*pgp.Certificate) bool { return len(c) == 0 }},
		} {
			if err := step.do(); err != nil {
				t.Fatal(err)
			}
			await(step.what, step.ok)
		}
	})
}

package server_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/keydir/server"
)

func answers(d *server.Directory, local string) bool {
	return get(handler(d), "GET", advanced+"hu/"+keydir.WKDHash(local)).StatusCode == 200
}

// One address has one answer, however its letters beyond ASCII are spelled, which
// its file's name depends on.
func TestAnotherSpellingIsTheSameAddress(t *testing.T) {
	d, st := directory(t)
	other := reopened(st)
	add(t, d, "JÖRG@example.org")
	if err := other.Refresh(ctx); err != nil {
		t.Fatal(err)
	}
	for name, d := range map[string]*server.Directory{"": d, "another node: ": other} {
		if !answers(d, "JÖRG") || !answers(d, "jÖrg") {
			t.Errorf("%sit is not answered", name)
		}
	}
	add(t, d, "jörg@example.org") // takes its place
	if err := other.Refresh(ctx); err != nil {
		t.Fatal(err)
	}
	for name, d := range map[string]*server.Directory{"": d, "another node: ": other} {
		if answers(d, "JÖRG") || !answers(d, "jörg") {
			t.Errorf("%swhat was replaced is answered still", name)
		}
	}
	if err := d.Remove(ctx, addr(t, "Jo\u0308RG@example.org")); err != nil {
		t.Fatal(err)
	}
	if err := other.Refresh(ctx); err != nil {
		t.Fatal(err)
	}
	for name, d := range map[string]*server.Directory{"": d, "another node: ": other} {
		if answers(d, "jörg") || answers(d, "JÖRG") {
			t.Errorf("%swhat was withdrawn is answered still", name)
		}
	}
}

// breaking is a store whose reading breaks off behind some rows.
type breaking struct {
	store.Store
	after int // rows; 0 is never
}

func (b *breaking) View(ctx context.Context, f func(store.Tx) error) error {
	return b.Store.View(ctx, func(tx store.Tx) error { return f(breakingTx{tx, b}) })
}

type breakingTx struct {
	store.Tx
	b *breaking
}

func (x breakingTx) Rows(query string, args []any, each func(scan func(...any) error) error) error {
	n := 0
	return x.Tx.Rows(query, args, func(scan func(...any) error) error {
		if n++; x.b.after > 0 && n > x.b.after {
			return errors.New("the connection is gone")
		}
		return each(scan)
	})
}

// What others withdrew while a node could not read is not answered by it, however
// long that was.
func TestANodeThatWasCutOffForgetsWhatWasWithdrawn(t *testing.T) {
	d, st := directory(t)
	now := today
	clock := func() time.Time { return now }
	d.Now = clock
	for _, s := range []string{"joe.doe@example.org", "ann@example.org", "eve@example.org"} {
		add(t, d, s)
	}
	other := reopened(st)
	other.Now = clock
	if err := other.Refresh(ctx); err != nil {
		t.Fatal(err)
	}
	broken := &breaking{Store: st, after: 2}
	begins := server.NewDirectory(broken)
	begins.Now = clock
	if err := begins.Refresh(ctx); err == nil {
		t.Fatal("it read all")
	}
	for _, s := range []string{"joe.doe@example.org", "ann@example.org"} {
		if err := d.Remove(ctx, addr(t, s)); err != nil {
			t.Fatal(err)
		}
	}
	now = now.Add(30 * 24 * time.Hour)
	if err := d.Remove(ctx, addr(t, "eve@example.org")); err != nil { // which sweeps
		t.Fatal(err)
	}
	add(t, d, "kim@example.org")
	broken.after = 0
	for name, n := range map[string]*server.Directory{"cut off for a month": other, "that began to read before": begins} {
		if err := n.Refresh(ctx); err != nil {
			t.Fatal(err)
		}
		for local, want := range map[string]bool{"joe.doe": false, "ann": false, "eve": false, "kim": true} {
			if answers(n, local) != want {
				t.Errorf("a node %s answers for %s: %v", name, local, !want)
			}
		}
	}
}

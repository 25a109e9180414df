package keydir_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/pgp"
)

// heir is a new key of bob's that old names its successor.
func heir(t *testing.T, old *pgp.Key, now time.Time) *pgp.Key {
	t.Helper()
	k, err := pgp.GenerateKey(bob, pgp.DefaultProfile, now)
	if err != nil {
		t.Fatal(err)
	}
	if k, err = pgp.Replace(k, old, bob, now); err != nil {
		t.Fatal(err)
	}
	return k
}

func revoke(t *testing.T, k *pgp.Key, why pgp.Reason, now time.Time) *pgp.Key {
	t.Helper()
	gone, err := pgp.Revoke(k, why, now)
	if err != nil {
		t.Fatal(err)
	}
	return gone
}

func (w *world) show() keydir.Peer {
	w.t.Helper()
	p, _, err := w.Show(ctx, bob)
	w.must(err)
	return p
}

func TestSuccessionWithoutAPerson(t *testing.T) {
	t.Run("by the directory, though there is a history", func(t *testing.T) {
		w, k := newWorld(t), key(t, bob)
		d := w.directory()
		d.set(200, k)
		w.find(bob)
		w.signs(k, 3)
		next := heir(t, k, w.clock())
		d.set(200, next)
		f := w.finds("followed", bob, keydir.Found, "", pgp.Directory, next)
		if !strings.Contains(f.Detail, "takes its place") || len(w.show().Changes) != 1 {
			t.Errorf("the change is not told: %q, %+v", f.Detail, w.show().Changes)
		}
		if got := w.identity(k); got != pgp.Directory {
			t.Errorf("old mail is %q", got)
		}
		w.pass(2 * day)
		d.set(200, k, next)
		w.finds("both in the directory are no conflict", bob, keydir.Found, "", pgp.Directory, next)
		w.pass(2 * day)
		d.set(200, key(t, bob))
		w.finds("a third key contradicts what the old one was settled by", bob, keydir.Found, keydir.ProblemConflict, pgp.Conflict)
	})
	t.Run("by an Autocrypt header", func(t *testing.T) {
		w, k := newWorld(t), key(t, bob)
		w.sees(k)
		w.pass(day)
		next := heir(t, k, w.clock())
		w.sees(next)
		w.finds("followed", bob, keydir.Found, "", pgp.FirstSeen, next)
		w.pass(day)
		w.sees(k)
		w.finds("the old one doesn't come back", bob, keydir.Found, "", pgp.FirstSeen, next)
		third := heir(t, next, w.clock())
		w.pass(day)
		w.sees(third)
		w.finds("and so on", bob, keydir.Found, "", pgp.FirstSeen, third)
		w.pass(day)
		w.sees(next)
		w.finds("nor does the one between", bob, keydir.Found, "", pgp.FirstSeen, third)
	})
	t.Run("by import, also of what a person compared; nobody compared the new one", func(t *testing.T) {
		w, k := newWorld(t), key(t, bob)
		w.must(w.Import(ctx, []*pgp.Certificate{k.Certificate()}, bob, pgp.Confirmed))
		next := heir(t, k, w.clock())
		w.must(w.Import(ctx, []*pgp.Certificate{next.Certificate()}, bob, pgp.FirstSeen))
		w.finds("followed", bob, keydir.Found, "", pgp.Directory, next)
		w.must(w.Verify(ctx, bob, next.Fingerprint()))
		w.finds("compared", bob, keydir.Found, "", pgp.Confirmed, next)
	})
	t.Run("a conflict ends when the directory's key turns out to be the successor", func(t *testing.T) {
		w, k := newWorld(t), key(t, bob)
		d := w.directory()
		d.set(200, k)
		w.find(bob)
		w.signs(k, 3)
		bare, err := pgp.GenerateKey(bob, pgp.DefaultProfile, w.clock())
		w.must(err)
		d.set(200, bare)
		w.finds("unsigned", bob, keydir.Found, keydir.ProblemConflict, pgp.Conflict)
		next, err := pgp.Replace(bare, k, bob, w.clock())
		w.must(err)
		d.set(200, next)
		w.pass(2 * day)
		w.finds("signed", bob, keydir.Found, "", pgp.Directory, next)
	})
	t.Run("a superseded old key helps", func(t *testing.T) {
		w, k := newWorld(t), key(t, bob)
		d := w.directory()
		d.set(200, k)
		w.find(bob)
		w.signs(k, 3)
		next := heir(t, k, w.clock())
		w.pass(time.Hour)
		d.set(200, revoke(t, k, pgp.Superseded, w.clock()), next)
		w.pass(day)
		w.finds("followed", bob, keydir.Found, "", pgp.Directory, next)
	})
}

func TestNoSuccession(t *testing.T) {
	t.Run("a compromised key has no heirs", func(t *testing.T) {
		w, k := newWorld(t), key(t, bob)
		d := w.directory()
		d.set(200, k)
		w.find(bob)
		w.signs(k, 3)
		thiefs := heir(t, k, w.clock())
		d.set(200, revoke(t, k, pgp.Compromised, w.clock()))
		w.pass(day)
		w.find(bob)
		w.sees(thiefs)
		w.finds("nothing to encrypt to", bob, keydir.Found, keydir.ProblemRevoked, pgp.Directory)
	})
	t.Run("and those that it had fall with it", func(t *testing.T) {
		w, k := newWorld(t), key(t, bob)
		d := w.directory()
		d.set(200, k)
		w.find(bob)
		thiefs := heir(t, k, w.clock())
		w.pass(time.Hour)
		w.sees(thiefs)
		f := w.finds("taken", bob, keydir.Found, "", pgp.Directory, thiefs)
		if f.Source != "succession" {
			t.Errorf("source %q", f.Source)
		}
		d.set(200, revoke(t, k, pgp.Compromised, w.clock()))
		w.pass(2 * day)
		w.finds("held", bob, keydir.Found, keydir.ProblemConflict, pgp.Conflict)
		if got := w.identity(k); got == pgp.Directory {
			t.Errorf("the compromised key is still %q", got)
		}
		good := key(t, bob)
		w.must(w.Import(ctx, []*pgp.Certificate{good.Certificate()}, bob, pgp.Confirmed))
		w.finds("until a person settles it", bob, keydir.Found, "", pgp.Confirmed, good)
	})
	t.Run("a directory that stays with the old key holds after a month", func(t *testing.T) {
		w, k := newWorld(t), key(t, bob)
		d := w.directory()
		d.set(200, k)
		w.find(bob)
		next := heir(t, k, w.clock())
		w.pass(time.Hour)
		w.sees(next)
		for range 14 {
			w.pass(2 * day)
			w.finds("used meanwhile", bob, keydir.Found, "", pgp.Directory, next)
		}
		for range 3 {
			w.pass(2 * day)
			w.find(bob)
		}
		w.finds("held", bob, keydir.Found, keydir.ProblemGone, pgp.Directory)
		d.set(200, next)
		w.pass(2 * day)
		if f := w.finds("the directory followed", bob, keydir.Found, "", pgp.Directory, next); f.Source != "wkd" {
			t.Errorf("source %q", f.Source)
		}
	})
	t.Run("two heirs are none", func(t *testing.T) {
		w, k := newWorld(t), key(t, bob)
		d := w.directory()
		d.set(200, k)
		w.find(bob)
		w.signs(k, 3)
		d.set(200, heir(t, k, w.clock()), heir(t, k, w.clock()))
		w.finds("ambiguous", bob, keydir.Found, keydir.ProblemConflict, pgp.Conflict)
	})
	t.Run("a person goes back to the old key, and it stays so", func(t *testing.T) {
		w, k := newWorld(t), key(t, bob)
		d := w.directory()
		d.set(200, k)
		w.find(bob)
		next := heir(t, k, w.clock())
		w.pass(time.Hour)
		w.sees(next)
		w.must(w.Accept(ctx, bob, k.Fingerprint()))
		w.finds("accepted", bob, keydir.Found, "", pgp.Directory, k)
		w.pass(day)
		w.sees(next)
		w.finds("stays", bob, keydir.Found, "", pgp.Directory, k)
		if p := w.show(); len(p.Former) != 0 || !slices.ContainsFunc(p.Candidates, func(b keydir.Binding) bool { return b.Declined }) {
			t.Errorf("%+v", p)
		}
	})
	t.Run("an import that nothing vouches for is still a candidate", func(t *testing.T) {
		w, k := newWorld(t), key(t, bob)
		w.must(w.Import(ctx, []*pgp.Certificate{k.Certificate()}, bob, pgp.FirstSeen))
		if err := w.Import(ctx, []*pgp.Certificate{key(t, bob).Certificate()}, bob, pgp.FirstSeen); !errors.Is(err, keydir.ErrContradicts) {
			t.Errorf("got %v", err)
		}
	})
}

package keydir_test

import (
	"context"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/pgp"
)

// Whoever holds mail for an address is told when its certificate becomes known,
// however that comes, and not when nothing has changed.
func TestLearned(t *testing.T) {
	var told []address.Address
	w := newWorld(t, func(c *keydir.Config) {
		c.Learned = func(_ context.Context, a address.Address) { told = append(told, a) }
	})
	d, k := w.directory(), key(t, bob)
	expect := func(why string, want int) {
		t.Helper()
		if len(told) != want {
			t.Errorf("%s: told %v, want %d in all", why, told, want)
		}
	}
	d.set(404)
	w.finds("nothing yet", bob, keydir.Absent, "", "")
	expect("an absence", 0)
	d.set(200, k)
	w.pass(48 * time.Hour)
	w.finds("published", bob, keydir.Found, "", pgp.Directory, k)
	expect("a directory's certificate", 1)
	w.pass(48 * time.Hour)
	w.finds("the same again", bob, keydir.Found, "", pgp.Directory, k)
	expect("the same certificate", 1)
	w.must(w.Verify(ctx, bob, k.Fingerprint()))
	expect("a fingerprint that was compared", 2)
	w.must(w.Import(ctx, certs(key(t, carol)), carol, pgp.Confirmed))
	expect("an import", 3)
}

func TestReplace(t *testing.T) {
	w := newWorld(t)
	d, k := w.directory(), key(t, bob)
	d.set(200, k)
	w.must(w.Replace(keydir.Discovery{Sources: []string{"autocrypt"}}))
	if f := w.find(bob); f.Outcome != keydir.NoDirectory || d.requests() != 0 {
		t.Errorf("without wkd: %s after %d requests", f.Outcome, d.requests())
	}
	if err := w.Replace(keydir.Discovery{Sources: []string{"telepathy"}}); err == nil {
		t.Error("an unknown source is accepted")
	}
	if f := w.find(bob); f.Outcome != keydir.NoDirectory {
		t.Errorf("a replacement that failed changed something: %s", f.Outcome)
	}
	w.must(w.Replace(keydir.Discovery{Sources: []string{"wkd"}}))
	w.finds("asked again", bob, keydir.Found, "", pgp.Directory, k)
}

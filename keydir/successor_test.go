package keydir_test

import (
	"testing"
	"time"

	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/pgp"
)

// contradicted is a world in which bob's directory has another certificate than
// the one that has signed his mail.
func contradicted(t *testing.T) (w *world, d *directory, old, next *pgp.Key) {
	w, old, next = newWorld(t), key(t, bob), key(t, bob)
	d = w.directory()
	d.set(200, old)
	w.finds("first contact", bob, keydir.Found, "", pgp.Directory, old)
	w.signs(old, 3)
	d.set(200, next)
	w.held("at first")
	return w, d, old, next
}

// held is bob's finding while nobody knows which of his certificates is right.
func (w *world) held(why string) *keydir.Successor {
	w.t.Helper()
	return w.finds(why, bob, keydir.Found, keydir.ProblemConflict, pgp.Conflict).Successor
}

// served asks the directory now and then for that long, and tells for how long
// it is known to have served another certificate; -1 if there is no successor.
func (w *world) served(why string, span time.Duration) time.Duration {
	w.t.Helper()
	for ; span > 0; span -= 2 * time.Hour {
		w.pass(2 * time.Hour)
		w.held(why)
	}
	if s := w.held(why); s != nil {
		return s.Served
	}
	return -1
}

func TestSuccessorIsServedForAsLongAsWeSaw(t *testing.T) {
	w, d, _, next := contradicted(t)
	if s := w.held("at once"); s == nil || s.Served != 0 {
		t.Fatalf("at once: %+v, want a successor served for no time", s)
	}
	if got := w.served("later", 80*time.Hour); got != 80*time.Hour {
		t.Errorf("served for %s, want 80h", got)
	}
	s := w.held("it")
	if len(s.Certificates) != 1 || s.Certificates[0].Fingerprint() != next.Fingerprint() {
		t.Error("the successor is another certificate")
	}
	d.set(503)
	if got := w.served("an answer that doesn't come changes nothing", 10*time.Hour); got != 80*time.Hour {
		t.Errorf("served for %s while the directory is down, want 80h", got)
	}
	w.open()
	if s := w.held("after a restart"); s == nil || s.Served != 80*time.Hour {
		t.Errorf("after a restart: %+v", s)
	}
	if got := w.served("too long ago", 8*day); got != -1 {
		t.Errorf("a directory that was down for a week still vouches: served for %s", got)
	}
}

func TestAnyOtherAnswerBeginsItAnew(t *testing.T) {
	third := key(t, bob)
	for name, other := range map[string]func(d *directory, old, next *pgp.Key){
		"what we knew":  func(d *directory, old, _ *pgp.Key) { d.set(200, old) },
		"nothing":       func(d *directory, _, _ *pgp.Key) { d.set(404) },
		"a third":       func(d *directory, _, _ *pgp.Key) { d.set(200, third) },
		"both":          func(d *directory, old, next *pgp.Key) { d.set(200, old, next) },
		"two, both new": func(d *directory, _, next *pgp.Key) { d.set(200, next, third) },
	} {
		t.Run(name, func(t *testing.T) {
			w, d, old, next := contradicted(t)
			w.served("before", 30*time.Hour)
			other(d, old, next)
			w.pass(25 * time.Hour)
			w.find(bob)
			d.set(200, next)
			w.pass(25 * time.Hour)
			w.find(bob)
			if got := w.served("after", 4*time.Hour); got != 4*time.Hour {
				t.Errorf("served for %s, want 4h", got)
			}
		})
	}
}

func TestWhatAPersonVouchedForHasNoSuccessor(t *testing.T) {
	for name, vouch := range map[string]func(w *world, old *pgp.Key) error{
		"verified": func(w *world, old *pgp.Key) error { return w.Verify(ctx, bob, old.Fingerprint()) },
		"accepted": func(w *world, old *pgp.Key) error { return w.Accept(ctx, bob, old.Fingerprint()) },
	} {
		t.Run(name, func(t *testing.T) {
			w, old := newWorld(t), key(t, bob)
			d := w.directory()
			d.set(200, old)
			w.finds("first contact", bob, keydir.Found, "", pgp.Directory, old)
			if err := vouch(w, old); err != nil {
				t.Fatal(err)
			}
			d.set(200, key(t, bob))
			w.pass(8 * day)
			if got := w.served("held", 100*time.Hour); got != -1 {
				t.Errorf("a successor, served for %s", got)
			}
		})
	}
}

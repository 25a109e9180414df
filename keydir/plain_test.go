package keydir_test

import (
	"testing"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/pgp"
)

// TestTheAddressWithoutItsTagIsToldOf where its certificate is at hand; nobody is
// asked for it, and nothing is encrypted to it.
func TestTheAddressWithoutItsTagIsToldOf(t *testing.T) {
	w := newWorld(t)
	d, k := w.directory(), key(t, bob)
	d.set(404)
	tagged := address.Address{Local: bob.Local + "+shop", Domain: bob.Domain}
	plain := func(why string, want address.Address) {
		t.Helper()
		f := w.find(tagged)
		if f.Plain != want || f.Outcome != keydir.Absent || len(f.Certificates) > 0 || f.Known {
			t.Errorf("%s: %s, told of %q, want %q; %d certificates", why, f.Outcome, f.Plain, want, len(f.Certificates))
		}
	}
	plain("nothing is known", address.Address{})
	if n := d.requests(); n != 1 {
		t.Errorf("%d requests, one for the address was needed", n)
	}
	if f := w.finds("the plain address has none", bob, keydir.Absent, "", ""); !f.Plain.IsZero() {
		t.Errorf("%s is told of itself", f.Plain)
	}
	w.must(w.Import(ctx, certs(k), bob, pgp.Confirmed))
	asked := d.requests()
	w.pass(11 * time.Minute) // what is answered from memory holds for ten
	plain("a certificate was imported", bob)
	if d.requests() != asked {
		t.Error("somebody was asked")
	}
	w.must(w.Forget(ctx, bob))
	w.pass(11 * time.Minute)
	plain("it is forgotten", address.Address{})
	mine := key(t, tagged)
	w.must(w.Import(ctx, certs(k), bob, pgp.Confirmed))
	w.must(w.Import(ctx, certs(mine), tagged, pgp.Confirmed))
	if f := w.finds("it has its own", tagged, keydir.Found, "", pgp.Confirmed, mine); !f.Plain.IsZero() {
		t.Errorf("%s is told of all the same", f.Plain)
	}
}

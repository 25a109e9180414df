package server_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/internal/store/storetest"
	"letterlock.org/letterlock/keydir/server"
	"letterlock.org/letterlock/pgp"
)

// updating knows whether a transaction is open.
type updating struct {
	store.Store
	open atomic.Int32
}

func (u *updating) Update(ctx context.Context, f func(store.Tx) error) error {
	return u.Store.Update(ctx, func(tx store.Tx) error {
		u.open.Add(1)
		defer u.open.Add(-1)
		return f(tx)
	})
}

// Who is approved is looked up in the same store, whose connections are few: as
// many transactions as there are connections would wait for each other.
func TestApprovedIsNotAskedWithinATransaction(t *testing.T) {
	storetest.Each(t, []store.Schema{server.Schema}, func(t *testing.T, st store.Store) {
		u := &updating{Store: st}
		d := reopened(u)
		now := today.Add(time.Hour)
		d.Now = func() time.Time { return now }
		authority := key(t, "openpgp-ca@example.org")
		asked := 0
		d.Approved = func(address.Address) []*pgp.Certificate {
			asked++
			if n := u.open.Load(); n != 0 {
				t.Errorf("asked within %d transactions", n)
			}
			return []*pgp.Certificate{authority.Certificate()}
		}
		a := addr(t, "joe.doe@example.org")
		old, next := key(t, "joe.doe@example.org"), key(t, "joe.doe@example.org")
		certified := func(c *pgp.Certificate) *pgp.Certificate {
			c, err := pgp.Certify(authority, c, a, pgp.Certification{}, now)
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		kept := func(when string, n int) {
			t.Helper()
			got := served(t, d)
			if len(got) != n {
				t.Fatalf("%s: %d certificates are served, want %d", when, len(got), n)
			}
			if _, ok := got[0].CertifiedBy(authority.Certificate(), a, now); !ok {
				t.Errorf("%s: the authority's certification is lost", when)
			}
		}
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		must(d.Add(ctx, a, certified(old.Certificate())))
		kept("added", 1)
		_, err := d.Confirm(ctx, begin(t, d, server.ByLink, certified(next.Certificate())), server.ByLink, nil)
		must(err)
		kept("confirmed", 1)
		if known, err := d.Revoke(ctx, revoked(t, old)); err != nil || !known {
			t.Fatal(known, err)
		}
		kept("its predecessor revoked", 2)
		now = now.Add(366 * 24 * time.Hour)
		must(d.Tidy(ctx))
		kept("a year later", 1)
		asked = 0
		if known, err := d.Revoke(ctx, revoked(t, next)); err != nil || !known || asked == 0 {
			t.Fatal(known, err, asked)
		}
		if got := served(t, d); len(got) != 1 || !got[0].Revoked(now) {
			t.Errorf("the revoked certificate is not served as such")
		}
	})
}

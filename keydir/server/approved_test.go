package server_test

import (
	"bytes"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/keydir/server"
	"letterlock.org/letterlock/pgp"
)

func TestCertificationsThatAreKept(t *testing.T) {
	authority, stranger, former := key(t, "ca@example.org"), key(t, "mallory@example.org"), key(t, "joe.doe@example.org")
	a := addr(t, "joe.doe@example.org")
	now := today.Add(time.Hour)
	certify := func(by *pgp.Key, c *pgp.Certificate) *pgp.Certificate {
		t.Helper()
		out, err := pgp.Certify(by, c, a, pgp.Certification{}, now)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	next := cert(t, "joe.doe@example.org")
	for _, by := range []*pgp.Key{authority, stranger, former} {
		next = certify(by, next)
	}
	for _, tt := range []struct {
		name                         string
		approved, published          bool
		authority, former, strangers bool
	}{
		{"nobody is approved", false, false, false, false, false},
		{"the organisation's authority is", true, false, true, false, false},
		{"what is published vouches for its successor", true, true, true, true, false},
	} {
		d, _ := directory(t)
		d.Now = func() time.Time { return now }
		if tt.approved {
			d.Approved = func(address.Address) []*pgp.Certificate { return []*pgp.Certificate{authority.Certificate()} }
		}
		if tt.published {
			if err := d.Add(ctx, a, former.Certificate()); err != nil {
				t.Fatal(err)
			}
		}
		offers, err := d.Offers(next.Bytes(), ours)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.Confirm(ctx, begin(t, d, server.ByLink, offers[0].Certificate), server.ByLink, nil); err != nil {
			t.Fatal(err)
		}
		got := served(t, d)[0]
		for _, by := range []struct {
			who  string
			key  *pgp.Key
			want bool
		}{{"the authority's", authority, tt.authority}, {"a stranger's", stranger, tt.strangers}, {"the former key's", former, tt.former}} {
			if _, kept := got.CertifiedBy(by.key.Certificate(), a, now); kept != by.want {
				t.Errorf("%s: %s certification is served: %v, want %v", tt.name, by.who, kept, by.want)
			}
		}
	}
}

// What an authority took back isn't published again with an older copy of the
// certificate, which its owner's bridge still has.
func TestAWithdrawnCertificationStaysSo(t *testing.T) {
	d, _ := directory(t)
	a := addr(t, "joe.doe@example.org")
	now := today.Add(time.Hour)
	d.Now = func() time.Time { return now }
	authority, owner := key(t, "openpgp-ca@example.org"), key(t, "joe.doe@example.org")
	d.Approved = func(address.Address) []*pgp.Certificate { return []*pgp.Certificate{authority.Certificate()} }
	do := func(c *pgp.Certificate, err error) *pgp.Certificate {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	certified := do(pgp.Certify(authority, owner.Certificate(), a, pgp.Certification{}, today))
	for _, step := range []struct {
		name string
		add  *pgp.Certificate
		want bool
	}{
		{"certified", certified, true},
		{"withdrawn", do(pgp.Withdraw(authority, certified, a, today.Add(time.Minute))), false},
		{"published again by its owner", certified, false},
		{"certified anew", do(pgp.Certify(authority, certified, a, pgp.Certification{}, today.Add(2*time.Minute))), true},
	} {
		if err := d.Add(ctx, a, step.add); err != nil {
			t.Fatal(err)
		}
		got := served(t, d)
		if len(got) != 1 {
			t.Fatalf("%s: %d certificates are served", step.name, len(got))
		}
		// A reader joins it with what they have from before.
		for who, c := range map[string]*pgp.Certificate{"a stranger": got[0], "a reader who had it certified": do(pgp.Merge(certified, got[0]))} {
			if _, ok := c.CertifiedBy(authority.Certificate(), a, now); ok != step.want {
				t.Errorf("%s: %s sees it certified: %v", step.name, who, ok)
			}
		}
	}
}

// Nor with one that has no room for it.
func TestAWithdrawnCertificationIsNotCrowdedOut(t *testing.T) {
	d, _ := directory(t)
	a := addr(t, "joe.doe@example.org")
	d.Now = func() time.Time { return today.Add(time.Hour) }
	authority, owner := key(t, "openpgp-ca@example.org"), key(t, "joe.doe@example.org")
	d.Approved = func(address.Address) []*pgp.Certificate { return []*pgp.Certificate{authority.Certificate()} }
	certified, err := pgp.Certify(authority, owner.Certificate(), a, pgp.Certification{}, today)
	if err != nil {
		t.Fatal(err)
	}
	withdrawn, err := pgp.Withdraw(authority, certified, a, today.Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	full := certified // as many packets as a certificate may have
	for step := 2000; step > 0; {
		junk := bytes.Clone(full.Bytes())
		for i := range step { // no two of them alike
			junk = append(junk, 0xc2, 5, 4, 0x18, byte(step>>8), byte(i>>8), byte(i))
		}
		more, err := pgp.ParseCertificates(junk)
		if err != nil || len(more) != 1 {
			step /= 2
			continue
		}
		full = more[0]
	}
	if err := d.Add(ctx, a, withdrawn); err != nil {
		t.Fatal(err)
	}
	if err := d.Add(ctx, a, full); err != nil {
		t.Errorf("an older copy without room: %v", err)
	}
	if len(served(t, d)) != 1 {
		t.Error("it is not served")
	}
	for _, c := range served(t, d) {
		if _, ok := c.CertifiedBy(authority.Certificate(), a, today.Add(time.Hour)); ok {
			t.Error("it is served as certified")
		}
	}
}

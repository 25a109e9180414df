package server_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/keydir/server"
	"letterlock.org/letterlock/pgp"
)

func key(t testing.TB, s string) *pgp.Key {
	t.Helper()
	k, err := pgp.GenerateKey(addr(t, s), pgp.DefaultProfile, today)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func revoked(t testing.TB, k *pgp.Key) *pgp.Certificate {
	t.Helper()
	r, err := pgp.Revoke(k, pgp.Superseded, today)
	if err != nil {
		t.Fatal(err)
	}
	return r.Certificate()
}

func ours(domain string) bool { return domain == "example.org" }

// served is what is answered for joe.doe@example.org.
func served(t testing.TB, d *server.Directory) []*pgp.Certificate {
	t.Helper()
	r := get(handler(d), "GET", advanced+"hu/"+joe)
	if r.StatusCode == 404 {
		return nil
	}
	certs, err := pgp.ParseCertificates(body(t, r))
	if err != nil {
		t.Fatal(err)
	}
	return certs
}

// begin makes a token for joe.doe@example.org.
func begin(t testing.TB, d *server.Directory, way server.Way, c *pgp.Certificate) string {
	t.Helper()
	token, err := d.Begin(ctx, way, addr(t, "Joe.Doe@example.org"), c)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestATokenPublishesOnce(t *testing.T) {
	d, st := directory(t)
	now := today
	d.Now = func() time.Time { return now }
	c := cert(t, "Joe.Doe@example.org")
	token := begin(t, d, server.ByLink, c)
	other := begin(t, d, server.ByLink, cert(t, "joe.doe@example.org"))
	if len(token) != 32 || token == other {
		t.Fatalf("tokens %q and %q", token, other)
	}
	err := st.View(ctx, func(tx store.Tx) error {
		return tx.Rows("SELECT token FROM keydirserver_pending", nil, func(scan func(...any) error) error {
			var b []byte
			err := scan(&b)
			if bytes.Contains(b, []byte(token)) || len(b) != 32 {
				t.Error("the token itself is stored")
			}
			return err
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, token string
		way         server.Way
	}{
		{"another way", token, server.ByWKS},
		{"one letter changed", strings.Map(func(r rune) rune { return map[bool]rune{true: 'y', false: 'b'}[r == 'b'] }, token), server.ByLink},
		{"upper case", strings.ToUpper(token), server.ByLink},
		{"nothing", "", server.ByLink},
	} {
		if _, err := d.Confirm(ctx, tt.token, tt.way, nil); !errors.Is(err, server.ErrToken) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	if served(t, d) != nil {
		t.Fatal("published unconfirmed")
	}
	p, err := d.Confirm(ctx, token, server.ByLink, nil)
	if err != nil || p.Address.String() != "Joe.Doe@example.org" || p.Certificate.Fingerprint() != c.Fingerprint() {
		t.Fatal(p, err)
	}
	if got := served(t, d); len(got) != 1 || got[0].Fingerprint() != c.Fingerprint() {
		t.Error("not published")
	}
	if _, err := d.Confirm(ctx, token, server.ByLink, nil); !errors.Is(err, server.ErrToken) {
		t.Errorf("again: %v", err)
	}
	now = now.Add(3 * 24 * time.Hour)
	if _, err := d.Confirm(ctx, other, server.ByLink, nil); !errors.Is(err, server.ErrToken) {
		t.Errorf("after three days: %v", err)
	}
	if err := d.Tidy(ctx); err != nil {
		t.Fatal(err)
	}
	if n := rows(t, st, "keydirserver_pending"); n != 0 {
		t.Errorf("%d rows are kept", n)
	}
}

func rows(t testing.TB, st store.Store, table string) (n int) {
	t.Helper()
	if err := st.View(ctx, func(tx store.Tx) error { return tx.Row("SELECT COUNT(*) FROM "+table, nil, &n) }); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestOfManyConfirmationsOneCounts(t *testing.T) {
	d, _ := directory(t)
	token := begin(t, d, server.ByLink, cert(t, "joe.doe@example.org"))
	var won atomic.Int32
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			switch _, err := d.Confirm(ctx, token, server.ByLink, nil); {
			case err == nil:
				won.Add(1)
			case !errors.Is(err, server.ErrToken):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Errorf("%d confirmations counted", won.Load())
	}
}

func TestARefusedConfirmationMayBeRepeated(t *testing.T) {
	d, _ := directory(t)
	token := begin(t, d, server.ByWKS, cert(t, "joe.doe@example.org"))
	no := errors.New("another sender")
	if _, err := d.Confirm(ctx, token, server.ByWKS, func(server.Pending) error { return no }); !errors.Is(err, no) {
		t.Fatal(err)
	}
	if _, err := d.Confirm(ctx, token, server.ByWKS, nil); err != nil {
		t.Error(err)
	}
}

func TestPendingRowsCannotBeForged(t *testing.T) {
	for _, change := range []string{
		"UPDATE keydirserver_pending SET spelling = 'eve@example.org', address = 'eve@example.org'",
		"UPDATE keydirserver_pending SET ends = ends + 1",
		"UPDATE keydirserver_pending SET way = 'invite'",
		"UPDATE keydirserver_pending SET used = 0",
	} {
		d, st := directory(t)
		token := begin(t, d, server.ByLink, cert(t, "joe.doe@example.org"))
		if strings.Contains(change, "used") {
			if _, err := d.Confirm(ctx, token, server.ByLink, nil); err != nil {
				t.Fatal(err)
			}
		}
		if err := st.Update(ctx, func(tx store.Tx) error { _, err := tx.Exec(change); return err }); err != nil {
			t.Fatal(err)
		}
		if _, err := d.Confirm(ctx, token, server.ByLink, nil); !errors.Is(err, store.ErrTampered) {
			t.Errorf("%s: %v", change, err)
		}
	}
}

func TestAnAddressGetsAFewMailsADay(t *testing.T) {
	d, _ := directory(t)
	now := today
	d.Now = func() time.Time { return now }
	c := cert(t, "joe.doe@example.org")
	limited := func(way server.Way) bool {
		_, err := d.Begin(ctx, way, addr(t, "JOE.DOE@example.org"), c)
		if err != nil && !errors.Is(err, server.ErrLimited) {
			t.Fatal(err)
		}
		return err != nil
	}
	var tokens []string
	for range 3 {
		tokens = append(tokens, begin(t, d, server.ByLink, c))
	}
	if !limited(server.ByLink) {
		t.Error("a fourth mail with a link")
	}
	for _, way := range []server.Way{server.ByWKS, server.ByRemoval, server.ByInvite} {
		if limited(way) {
			t.Errorf("links leave nothing to %s", way)
		}
	}
	if _, err := d.Begin(ctx, server.ByLink, addr(t, "bob@example.org"), c); err != nil {
		t.Errorf("somebody else: %v", err)
	}
	// What the owner of the mailbox did counts for nothing.
	if _, err := d.Confirm(ctx, tokens[0], server.ByLink, nil); err != nil {
		t.Fatal(err)
	}
	if limited(server.ByLink) {
		t.Error("after one was confirmed")
	}
	if _, err := d.Refuse(ctx, tokens[1], server.ByLink); err != nil {
		t.Fatal(err)
	}
	for _, used := range []func() error{
		func() error { _, err := d.Refuse(ctx, tokens[1], server.ByLink); return err },
		func() error { _, err := d.Confirm(ctx, tokens[1], server.ByLink, nil); return err },
		func() error { _, err := d.Refuse(ctx, tokens[2], server.ByRemoval); return err },
	} {
		if err := used(); !errors.Is(err, server.ErrToken) {
			t.Errorf("a token that was refused, or is for another way: %v", err)
		}
	}
	if limited(server.ByLink) {
		t.Error("after one was refused")
	}
	if !limited(server.ByLink) {
		t.Error("beyond three again")
	}
	now = now.Add(24 * time.Hour)
	begin(t, d, server.ByLink, c)
}

func TestUploadsThatWaitAreBounded(t *testing.T) {
	d, st := directory(t)
	c := cert(t, "joe.doe@example.org")
	begin(t, d, server.ByUpload, c)
	err := st.Update(ctx, func(tx store.Tx) error {
		for i := range 4999 {
			_, err := tx.Exec(`INSERT INTO keydirserver_pending (token, way, address, spelling, fingerprint, certificate, made, ends, used, mac)
				SELECT ?, way, address, spelling, fingerprint, certificate, made, ends, used, mac FROM keydirserver_pending LIMIT 1`, []byte(fmt.Sprint(i)))
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Begin(ctx, server.ByUpload, addr(t, "joe.doe@example.org"), c); !errors.Is(err, server.ErrLimited) {
		t.Errorf("one more upload: %v", err)
	}
	begin(t, d, server.ByLink, c) // what was asked for goes on
	now := today.Add(time.Hour)
	d.Now = func() time.Time { return now }
	begin(t, d, server.ByUpload, c)
	if n := rows(t, st, "keydirserver_pending"); n != 2 {
		t.Errorf("an hour later %d rows are kept", n)
	}
}

func TestOffers(t *testing.T) {
	d, _ := directory(t)
	k := key(t, "joe.doe@example.org")
	ok := k.Certificate()
	secret := k.Marshal()
	expired, err := pgp.GenerateKey(addr(t, "joe.doe@example.org"), pgp.DefaultProfile, today.Add(-3*365*24*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		b    []byte
		want error
	}{
		{"binary", ok.Bytes(), nil},
		{"armored", []byte(ok.Armored()), nil},
		{"a secret key", secret, pgp.ErrSecretKey},
		{"a secret key behind a certificate", append(bytes.Clone(ok.Bytes()), secret...), pgp.ErrSecretKey},
		{"of another domain", cert(t, "joe@elsewhere.example").Bytes(), server.ErrForeign},
		{"expired", expired.Certificate().Bytes(), pgp.ErrExpired},
		{"no OpenPGP", []byte("hello"), pgp.ErrMalformed},
		{"nothing", nil, pgp.ErrMalformed},
		{"five at once", bytes.Repeat(ok.Bytes(), 5), server.ErrTooLarge},
	} {
		offers, err := d.Offers(tt.b, ours)
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
		}
		if err != nil && len(offers) > 0 || err == nil && len(offers) != 1 {
			t.Errorf("%s: %d offers", tt.name, len(offers))
		}
	}
}

// flooded is a certificate with n signatures that somebody forged, under its user
// ID, as key servers were flooded with in 2019.
func flooded(c *pgp.Certificate, n int) []byte {
	b := c.Bytes()
	at := 0
	for range 3 { // behind primary key, user ID, self-signature
		if n := int(b[at+1]); n < 192 {
			at += 2 + n
		} else {
			at += 3 + (n-192)<<8 + int(b[at+2]) + 192
		}
	}
	forged := []byte{4, 0x10, 22, 8, 0, 6, 5, 2, 0x65, 0, 0, 0, 0, 10, 9, 0x10, 1, 2, 3, 4, 5, 6, 7, 8, 0xab, 0xcd, 0, 8, 0xff, 0, 16, 0xff, 0xee}
	forged = append([]byte{0xc2, byte(len(forged))}, forged...)
	out := append([]byte{}, b[:at]...)
	for range n {
		out = append(out, forged...)
	}
	return append(out, b[at:]...)
}

func TestAFloodedCertificate(t *testing.T) {
	d, _ := directory(t)
	c := cert(t, "joe.doe@example.org")
	offers, err := d.Offers(flooded(c, 1000), ours)
	if err != nil || len(offers) != 1 || !bytes.Equal(offers[0].Certificate.Bytes(), c.Bytes()) {
		t.Errorf("1,000 forged signatures: %v; what is kept is not minimal", err)
	}
	offers, err = d.Offers(flooded(c, 150_000), ours)
	if err == nil || offers != nil {
		t.Error("150,000 forged signatures were taken")
	}
}

func TestWhatIsKeptIsMinimal(t *testing.T) {
	d, _ := directory(t)
	k := key(t, "joe.doe@example.org")
	later, err := pgp.Extend(k, today.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	d.Now = func() time.Time { return today.Add(2 * time.Hour) }
	offers, err := d.Offers(later.Certificate().Bytes(), ours)
	if err != nil {
		t.Fatal(err)
	}
	if got, all := len(offers[0].Certificate.Bytes()), len(later.Certificate().Bytes()); got >= all {
		t.Errorf("%d of %d bytes are kept, old self-signatures too", got, all)
	}
	if !offers[0].Certificate.Expires().Equal(later.Certificate().Expires()) {
		t.Error("the newest self-signature was dropped")
	}
}

func TestWhatNeedsNoMail(t *testing.T) {
	d, _ := directory(t)
	k := key(t, "Joe.Doe@example.org")
	a := addr(t, "joe.doe@example.org")
	take := func(c *pgp.Certificate) int {
		t.Helper()
		offers, err := d.Offers(c.Bytes(), ours)
		if err != nil {
			t.Fatal(err)
		}
		done, err := d.Take(ctx, offers[0])
		if err != nil {
			t.Fatal(err)
		}
		return len(done)
	}
	if n := take(k.Certificate()); n != 0 || served(t, d) != nil {
		t.Fatal("a stranger's certificate was published unconfirmed")
	}
	take(revoked(t, key(t, "joe.doe@example.org")))
	if served(t, d) != nil {
		t.Fatal("a revoked stranger was published")
	}
	if err := d.Add(ctx, a, k.Certificate()); err != nil {
		t.Fatal(err)
	}
	if n := take(cert(t, "joe.doe@example.org")); n != 0 || served(t, d)[0].Fingerprint() != k.Fingerprint() {
		t.Fatal("another primary key took the place of the published one")
	}
	extended, err := pgp.Extend(k, today.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	d.Now = func() time.Time { return today.Add(2 * time.Hour) }
	if n := take(extended.Certificate()); n != 1 || !served(t, d)[0].Expires().Equal(extended.Certificate().Expires()) {
		t.Error("a newer state of what is published was not taken")
	}
	if take(k.Certificate()); !served(t, d)[0].Expires().Equal(extended.Certificate().Expires()) {
		t.Error("an older state turned it back")
	}
	take(revoked(t, k))
	if got := served(t, d); !got[0].Revoked(today.Add(2 * time.Hour)) {
		t.Error("the revocation of what is published was not taken")
	}
	if err := d.Add(ctx, a, k.Certificate()); err != nil || !served(t, d)[0].Revoked(today.Add(2*time.Hour)) {
		t.Errorf("publishing an older state takes a revocation back (%v)", err)
	}
}

func TestARevokedPredecessorStaysForAYear(t *testing.T) {
	for _, tt := range []struct {
		name  string
		first bool // revoked before it is replaced
	}{
		{"revoked, then replaced", true},
		{"replaced, then revoked", false},
	} {
		d, st := directory(t)
		now := today.Add(time.Hour)
		d.Now = func() time.Time { return now }
		a := addr(t, "joe.doe@example.org")
		old, next := key(t, "joe.doe@example.org"), cert(t, "joe.doe@example.org")
		publish := func(c *pgp.Certificate) {
			t.Helper()
			if err := d.Add(ctx, a, c); err != nil {
				t.Fatal(err)
			}
		}
		tell := func() {
			t.Helper()
			if known, err := d.Revoke(ctx, revoked(t, old)); err != nil || !known {
				t.Fatalf("%s: known %v, %v", tt.name, known, err)
			}
		}
		publish(old.Certificate())
		if tt.first {
			tell()
		}
		publish(next)
		if !tt.first {
			if got := served(t, d); len(got) != 1 {
				t.Errorf("%s: %d certificates though nothing is revoked", tt.name, len(got))
			}
			tell()
		}
		check := func(when string, d *server.Directory, want int) {
			t.Helper()
			got := served(t, d)
			if len(got) != want || got[0].Fingerprint() != next.Fingerprint() || want > 1 && (got[1].Fingerprint() != old.Fingerprint() || !got[1].Revoked(now)) {
				t.Errorf("%s, %s: %d certificates, want %d", tt.name, when, len(got), want)
			}
			if c, err := d.Certificate(ctx, a); err != nil || c.Fingerprint() != next.Fingerprint() {
				t.Errorf("%s, %s: the directory has %v", tt.name, when, err)
			}
		}
		check("at once", d, 2)
		again := server.NewDirectory(st)
		again.Now = d.Now
		check("after a restart", again, 2)
		if known, err := d.ByFingerprint(ctx, old.Fingerprint()); err != nil || len(known) != 1 || !known[0].Revoked(now) {
			t.Errorf("%s: by fingerprint: %v, %v", tt.name, known, err)
		}
		publish(next)
		check("published again", d, 2)
		now = now.Add(364 * 24 * time.Hour)
		if err := d.Tidy(ctx); err != nil {
			t.Fatal(err)
		}
		check("after 364 days", d, 2)
		now = now.Add(2 * 24 * time.Hour)
		if err := d.Tidy(ctx); err != nil {
			t.Fatal(err)
		}
		check("after a year", d, 1)
	}
}

func TestAWithdrawnKeyCanBeRevoked(t *testing.T) {
	d, _ := directory(t)
	k := key(t, "joe.doe@example.org")
	a := addr(t, "joe.doe@example.org")
	if err := d.Add(ctx, a, k.Certificate()); err != nil {
		t.Fatal(err)
	}
	if err := d.Remove(ctx, a); err != nil {
		t.Fatal(err)
	}
	if known, err := d.Revoke(ctx, revoked(t, k)); err != nil || !known {
		t.Fatal(known, err)
	}
	if got, err := d.ByFingerprint(ctx, k.Fingerprint()); err != nil || len(got) != 1 || !got[0].Revoked(today.Add(time.Second)) {
		t.Errorf("by fingerprint: %v, %v", got, err)
	}
	if served(t, d) != nil {
		t.Error("its address is answered again")
	}
}

func TestOddUserIDsAreNotPublished(t *testing.T) {
	// Nothing in a user ID gets into an answer's header or an index line.
	d, _ := directory(t)
	c := cert(t, "joe.doe@example.org")
	for _, odd := range []string{"\r\nX: y", "\x00", "\n"} {
		b := bytes.Replace(c.Bytes(), []byte("joe.doe"), []byte("joe" + odd + strings.Repeat("x", max(0, 4-len(odd))))[:7], 1)
		if _, err := d.Offers(b, ours); err == nil {
			t.Errorf("%q in a user ID was taken", odd)
		}
	}
	if fmt.Sprint(keydir.WKDHash("joe.doe")) != joe {
		t.Error("another hash")
	}
}

// A newer state of what was published, which anybody may bring, neither takes the
// place of what was confirmed meanwhile nor brings back what was removed.
func TestARenewalReplacesNothingElse(t *testing.T) {
	a := addr(t, "joe.doe@example.org")
	for _, tt := range []struct {
		name      string
		meanwhile func(d *server.Directory, next *pgp.Certificate) error
		want      int
	}{
		{"another key is confirmed meanwhile", func(d *server.Directory, next *pgp.Certificate) error { return d.Add(ctx, a, next) }, 1},
		{"it is removed meanwhile", func(d *server.Directory, _ *pgp.Certificate) error { return d.Remove(ctx, a) }, 0},
		{"nothing happens", func(*server.Directory, *pgp.Certificate) error { return nil }, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d, _ := directory(t)
			now := today.Add(time.Hour)
			d.Now = func() time.Time { return now }
			k, next := key(t, "joe.doe@example.org"), cert(t, "joe.doe@example.org")
			if err := d.Add(ctx, a, k.Certificate()); err != nil {
				t.Fatal(err)
			}
			longer, err := pgp.Extend(k, now)
			if err != nil {
				t.Fatal(err)
			}
			offers, err := d.Offers(longer.Certificate().Bytes(), ours)
			if err != nil {
				t.Fatal(err)
			}
			asked := 0
			d.Approved = func(address.Address) []*pgp.Certificate {
				if asked++; asked == 1 { // after the last look, before the transaction
					if err := tt.meanwhile(d, next); err != nil {
						t.Error(err)
					}
				}
				return nil
			}
			done, err := d.Take(ctx, offers[0])
			if err != nil {
				t.Fatal(err)
			}
			got := served(t, d)
			if len(got) != tt.want {
				t.Fatalf("%d certificates are served, want %d", len(got), tt.want)
			}
			switch renewed := tt.want == 1 && got[0].Fingerprint() == k.Fingerprint(); {
			case tt.name == "nothing happens" && (!renewed || len(done) != 1 || !got[0].Expires().Equal(longer.Certificate().Expires())):
				t.Errorf("it was not renewed: %v, until %s", done, got[0].Expires())
			case tt.name != "nothing happens" && (renewed || len(done) != 0):
				t.Errorf("renewed %v", done)
			}
		})
	}
}

// Nor does it lose what came to the same certificate meanwhile.
func TestRenewalsAtOneTimeAllCount(t *testing.T) {
	d, _ := directory(t)
	now := today.Add(time.Hour)
	d.Now = func() time.Time { return now }
	a, k := addr(t, "joe.doe@example.org"), key(t, "joe.doe@example.org")
	if err := d.Add(ctx, a, k.Certificate()); err != nil {
		t.Fatal(err)
	}
	offer := func(at time.Time) server.Offer {
		t.Helper()
		longer, err := pgp.Extend(k, at)
		if err != nil {
			t.Fatal(err)
		}
		offers, err := d.Offers(longer.Certificate().Bytes(), ours)
		if err != nil {
			t.Fatal(err)
		}
		return offers[0]
	}
	earlier, later := offer(now.Add(-time.Minute)), offer(now)
	asked := false
	d.Approved = func(address.Address) []*pgp.Certificate {
		if !asked {
			asked = true
			if done, err := d.Take(ctx, later); err != nil || len(done) != 1 {
				t.Errorf("the later one: %v, %v", done, err)
			}
		}
		return nil
	}
	if done, err := d.Take(ctx, earlier); err != nil || len(done) != 1 {
		t.Errorf("the earlier one: %v, %v", done, err)
	}
	if got := served(t, d); len(got) != 1 || !got[0].Expires().Equal(later.Certificate.Expires()) {
		t.Errorf("it is served until %v, want %s", got[0].Expires(), later.Certificate.Expires())
	}
}

// A row that was changed outside loses no revocation.
func TestARevocationOutlivesATamperedRow(t *testing.T) {
	d, st := directory(t)
	k := key(t, "joe.doe@example.org")
	if err := d.Add(ctx, addr(t, "joe.doe@example.org"), k.Certificate()); err != nil {
		t.Fatal(err)
	}
	err := st.Update(ctx, func(tx store.Tx) error {
		_, err := tx.Exec("UPDATE keydirserver_cert SET added = added + 1")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if known, err := d.Revoke(ctx, revoked(t, k)); err != nil || !known {
		t.Fatal(known, err)
	}
	got, err := d.ByFingerprint(ctx, k.Fingerprint())
	if err != nil || len(got) != 1 || !got[0].Revoked(today) {
		t.Errorf("%d certificates, %v", len(got), err)
	}
}

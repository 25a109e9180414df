package keydir_test

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/pgp"
)

// Who says what in Authentication-Results, and what only looks so.
func TestVouched(t *testing.T) {
	const pass, fail = true, false
	tests := []struct {
		name string
		want bool
		all  []string
	}{
		{"DMARC passes for the domain", pass, []string{"mx.us.example; dmarc=pass header.from=example.org"}},
		{"DKIM by the domain", pass, []string{"mx.us.example 1; spf=fail; dkim=pass (good key) header.d=Example.ORG header.b=abc="}},
		{"DKIM by the domain, told by header.i", pass, []string{"mx.us.example; dkim=pass header.i=@example.org"}},
		{"DKIM version and folding", pass, []string{"mx.us.example;\r\n\tdkim/1 = pass\r\n header.d = example.org"}},
		{"one of several DKIM results", pass, []string{"mx.us.example; dkim=fail header.d=example.org; dkim=pass header.d=example.org; dkim=pass header.d=list.example"}},
		{"the name in capitals", pass, []string{"MX.Us.Example; dmarc=pass header.from=example.org"}},
		{"beneath other servers' results", pass, []string{"mx.else.example; dmarc=fail", "mx.us.example; dmarc=pass header.from=example.org"}},

		{"nothing", fail, nil},
		{"none", fail, []string{"mx.us.example; none"}},
		{"another server", fail, []string{"mx.else.example; dmarc=pass header.from=example.org"}},
		{"our name beneath our name", fail, []string{"mx.us.example; dmarc=fail header.from=example.org", "mx.us.example; dmarc=pass header.from=example.org"}},
		{"DMARC fails", fail, []string{"mx.us.example; dmarc=fail header.from=example.org"}},
		{"DMARC of another domain", fail, []string{"mx.us.example; dmarc=pass header.from=example.net"}},
		{"DKIM of another domain", fail, []string{"mx.us.example; dkim=pass header.d=list.example"}},
		{"DKIM of a domain with a similar end", fail, []string{"mx.us.example; dkim=pass header.d=ple.org"}},
		{"DKIM of the whole top level", fail, []string{"mx.us.example; dkim=pass header.d=org"}},
		{"DKIM of a subdomain", fail, []string{"mx.us.example; dkim=pass header.d=users.example.org"}},
		{"SPF alone", fail, []string{"mx.us.example; spf=pass smtp.mailfrom=example.org"}},
		{"in a comment", fail, []string{"mx.us.example; dkim=fail (; dmarc=pass header.from=example.org)"}},
		{"in a nested comment", fail, []string{`mx.us.example; dkim=fail (a \) (b) ; dmarc=pass header.from=example.org)`}},
		{"in a quoted text", fail, []string{`mx.us.example; spf=fail smtp.mailfrom="x; dmarc=pass header.from=example.org"@evil.example`}},
		{"in a quoted text with an escaped quote", fail, []string{`mx.us.example; spf=fail reason="x\"; dmarc=pass header.from=example.org"`}},
		{"a quoted equals sign", fail, []string{`mx.us.example; dmarc "=" pass header.from=example.org`}},
		{"a comment that doesn't end", fail, []string{"mx.us.example; dmarc=pass header.from=example.org (x"}},
		{"a version of the future", fail, []string{"mx.us.example 2; dmarc=pass header.from=example.org"}},
		{"words out of step", fail, []string{"mx.us.example; dmarc=pass x header.from=example.org"}},
		{"pass is a property only", fail, []string{"mx.us.example; dmarc=fail dmarc=pass header.from=example.org"}},
		{"too long", fail, []string{"mx.us.example; dmarc=pass header.from=example.org" + strings.Repeat(" ", 9<<10)}},
	}
	for _, tt := range tests {
		if got := keydir.Vouched("mx.us.example", bob, tt.all...); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
	// RFC 8601, Section 2.2: in an internationalized message names may be U-labels.
	if !keydir.Vouched("mx.us.example", address.Address{Local: "bob", Domain: "xn--bcher-kva.example"}, "mx.us.example; dmarc=pass header.from=bücher.example") {
		t.Error("a domain in its own letters doesn't vouch")
	}
	sub := bob
	sub.Domain = "users.example.org"
	if !keydir.Vouched("mx.us.example", sub, "mx.us.example; dkim=pass header.d=example.org") {
		t.Error("a domain doesn't vouch for one beneath it")
	}
	if !keydir.Vouched("", bob) {
		t.Error("where no name is configured")
	}
}

// Whatever stands in the field, nothing passes without the words.
func FuzzVouched(f *testing.F) {
	f.Add("mx.us.example; dmarc=pass header.from=example.org")
	f.Add(`mx.us.example 1; dkim=pass (x) reason="y" header.d=example.org`)
	f.Fuzz(func(t *testing.T, s string) {
		if keydir.Vouched("mx.us.example", bob, s) {
			low := strings.ToLower(s)
			for _, word := range []string{"mx.us.example", "example.org", "pass", "="} {
				if !strings.Contains(low, word) && !strings.ContainsRune(s, '\\') && !strings.ContainsRune(s, '"') {
					t.Errorf("%q passes without %q", s, word)
				}
			}
		}
	})
}

// The first contact by Autocrypt counts only where our mail server vouches; what
// is pinned may be brought up to date by any message.
func TestFirstContactIsVouchedFor(t *testing.T) {
	k, other := key(t, bob), key(t, bob)
	w := newWorld(t)
	sees := func(k *pgp.Key, results ...string) {
		t.Helper()
		w.pass(time.Minute)
		w.must(w.Observe(ctx, keydir.Observation{From: bob, Autocrypt: []string{header(bob, k)}, Date: w.clock(), Authserv: "mx.us.example", Results: results}))
	}
	const well, ill = "mx.us.example; dmarc=pass header.from=example.org", "mx.us.example; dmarc=fail header.from=example.org"
	sees(k)
	sees(k, ill)
	w.finds("not vouched for", bob, keydir.Absent, "", pgp.Unknown)
	sees(k, well)
	w.pass(2 * time.Hour)
	w.finds("vouched for", bob, keydir.Found, "", pgp.FirstSeen, k)
	sees(other, ill)
	if p, _, _ := w.Show(ctx, bob); len(p.Candidates) != 0 {
		t.Error("a candidate of a message that nobody vouches for")
	}
	sees(other, well)
	if p, _, _ := w.Show(ctx, bob); len(p.Candidates) != 1 {
		t.Error("no candidate")
	}
}

// dave's message is encrypted to carol and us, signed by his pinned key, and has
// others' certificates in it.
var dave = address.Address{Local: "dave", Domain: "example.org"}

func (w *world) hears(k *pgp.Key, recipients []address.Address, gossip ...string) {
	w.t.Helper()
	w.pass(time.Minute)
	o := keydir.Observation{From: dave, Autocrypt: []string{header(dave, k)}, Date: w.clock(), Signer: k.Fingerprint(), Gossip: gossip, Recipients: recipients}
	w.must(w.Observe(ctx, o))
}

func gossipOf(a address.Address, k *pgp.Key) string {
	return "addr=" + a.String() + "; keydata=" + base64.StdEncoding.EncodeToString(k.Certificate().Bytes())
}

func TestGossip(t *testing.T) {
	d, c, c2 := key(t, dave), key(t, carol), key(t, carol)
	to := []address.Address{carol, bob}
	none := func(w *world, why string) {
		t.Helper()
		f := w.finds(why, carol, keydir.Absent, "", pgp.Unknown)
		if f.Introduction != nil || f.Known {
			t.Errorf("%s: introduced %v, known %v", why, f.Introduction, f.Known)
		}
	}

	w := newWorld(t)
	w.hears(d, to, gossipOf(carol, c))
	f := w.finds("introduced", carol, keydir.Absent, "", pgp.Unknown)
	if f.Introduction == nil || f.Introduction.Certificate.Fingerprint() != c.Fingerprint() || f.Introduction.By != dave.Key() || f.Known {
		t.Fatalf("%+v, known %v", f.Introduction, f.Known)
	}
	if !strings.Contains(f.Detail, "letterlock cert accept carol@example.org") || strings.Contains(f.Detail, "dave") {
		t.Errorf("detail %q", f.Detail)
	}
	w.must(w.Accept(ctx, carol, ""))
	w.finds("accepted", carol, keydir.Found, "", pgp.FirstSeen, c)
	w.hears(d, to, gossipOf(carol, c2))
	w.finds("gossip replaces nothing", carol, keydir.Found, "", pgp.FirstSeen, c)
	if p, _, _ := w.Show(ctx, carol); len(p.Candidates) != 0 {
		t.Error("gossip beside what is pinned")
	}

	w = newWorld(t)
	w.hears(d, to, gossipOf(carol, c))
	w.must(w.Observe(ctx, keydir.Observation{From: carol, Autocrypt: []string{header(carol, c2)}, Date: w.clock()}))
	w.finds("carol's own word", carol, keydir.Found, "", pgp.FirstSeen, c2)

	w = newWorld(t)
	w.hears(d, []address.Address{bob}, gossipOf(carol, c))
	none(w, "carol isn't among the recipients")

	w = newWorld(t)
	w.hears(d, to, gossipOf(carol, key(t, bob)))
	none(w, "the certificate isn't carol's")

	w = newWorld(t)
	w.hears(d, to, gossipOf(carol, c), gossipOf(carol, c2))
	none(w, "one message, two certificates")

	w = newWorld(t)
	w.hears(d, to, gossipOf(carol, c))
	w.hears(d, to, gossipOf(carol, c2))
	none(w, "two that contradict each other")
	if err := w.Accept(ctx, carol, ""); err == nil {
		t.Error("which one is meant is guessed")
	}
	w.must(w.Accept(ctx, carol, c2.Fingerprint()))
	w.finds("named", carol, keydir.Found, "", pgp.FirstSeen, c2)

	w = newWorld(t)
	w.hears(d, to)
	w.must(w.Observe(ctx, keydir.Observation{From: dave, Date: w.clock(), Signer: key(t, dave).Fingerprint(), Gossip: []string{gossipOf(carol, c)}, Recipients: to}))
	w.must(w.Observe(ctx, keydir.Observation{From: dave, Date: w.clock(), Gossip: []string{gossipOf(carol, c)}, Recipients: to}))
	none(w, "not signed by what is pinned for who says it")
	w.must(w.Replace(keydir.Discovery{Sources: []string{"wkd"}}))
	w.hears(d, to, gossipOf(carol, c))
	none(w, "autocrypt is no source")
}

// A domain's answer goes before any introduction.
func TestDirectoryEndsGossip(t *testing.T) {
	d, c, c2 := key(t, dave), key(t, carol), key(t, carol)
	w := newWorld(t)
	w.hears(d, []address.Address{carol}, gossipOf(carol, c))
	w.directory().set(200, c2)
	f := w.finds("the domain's", carol, keydir.Found, "", pgp.Directory, c2)
	if f.Introduction != nil {
		t.Error("still introduced")
	}
}

// Gossip about ourselves that names another key is an alarm, and kept for nothing
// else.
func TestGossipAboutUs(t *testing.T) {
	ours, d := key(t, bob), key(t, dave)
	w := newWorld(t, func(c *keydir.Config) { c.Own = func() []*pgp.Certificate { return certs(ours) } })
	w.hears(d, []address.Address{bob}, gossipOf(bob, ours))
	if all, err := w.Alarms(ctx); err != nil || len(all) != 0 {
		t.Errorf("alarms %v, %v about our own key", all, err)
	}
	w.hears(d, []address.Address{bob}, gossipOf(bob, key(t, bob)))
	all, err := w.Alarms(ctx)
	if err != nil || len(all) != 1 || all[0].Kind != keydir.KindGossip {
		t.Errorf("alarms %v, %v", all, err)
	}
	w.finds("ours", bob, keydir.Found, "", pgp.Confirmed, ours)
}

// Whoever writes to us makes a row; those that were never written to are bounded,
// and the rest stays.
func TestRowsOfStrangersAreBounded(t *testing.T) {
	w := newWorld(t, func(c *keydir.Config) { c.Sources = []string{"autocrypt"} })
	w.KeepUnused(10)
	stranger := func(i int) address.Address { return address.Address{Local: fmt.Sprint("s", i), Domain: "example.org"} }
	observe := func(a address.Address, signer pgp.Fingerprint, k *pgp.Key) {
		t.Helper()
		w.pass(time.Minute)
		o := keydir.Observation{From: a, Date: w.clock(), Signer: signer}
		if k != nil {
			o.Autocrypt = []string{header(a, k)}
		}
		w.must(w.Observe(ctx, o))
	}
	used, signed, vouched := key(t, bob), key(t, carol), key(t, dave)
	observe(bob, "", used)
	w.find(bob) // who is written to, though nobody is asked about him
	observe(carol, "", signed)
	observe(carol, signed.Fingerprint(), nil)
	observe(dave, "", vouched)
	w.must(w.Verify(ctx, dave, vouched.Fingerprint()))
	var first *pgp.Key
	for i := range 40 {
		k := key(t, stranger(i))
		if i == 0 {
			first = k
		}
		observe(stranger(i), "", k)
	}
	all, err := w.List(ctx)
	if err != nil || len(all) > 13 || len(all) < 11 {
		t.Errorf("%d rows, %v; want about 12", len(all), err)
	}
	for a, k := range map[address.Address]*pgp.Key{bob: used, carol: signed, dave: vouched} {
		if _, got, err := w.Show(ctx, a); err != nil || got[0].Fingerprint() != k.Fingerprint() {
			t.Errorf("%s: %v", a, err)
		}
	}
	if _, _, err := w.Show(ctx, stranger(39)); err != nil {
		t.Errorf("the newest stranger: %v", err)
	}
	if got, err := w.Issuer(ctx, first.Certificate().KeyIDs()[0]); err != nil || len(got) != 0 {
		t.Errorf("the certificate of the oldest stranger is kept: %d, %v", len(got), err)
	}
}

// A certificate that another row names stays when a stranger's goes.
func TestPruningKeepsSharedCertificates(t *testing.T) {
	w := newWorld(t)
	w.KeepUnused(1)
	k := key(t, bob)
	w.must(w.Import(ctx, certs(k), bob, pgp.Confirmed))
	both := entity(t, k)
	if err := both.AddUserId("", "", carol.String(), at(start)); err != nil {
		t.Fatal(err)
	}
	field := "addr=" + carol.String() + "; keydata=" + base64.StdEncoding.EncodeToString(public(t, both))
	w.must(w.Observe(ctx, keydir.Observation{From: carol, Autocrypt: []string{field}, Date: w.clock()}))
	for i := range 3 {
		a := address.Address{Local: fmt.Sprint("s", i), Domain: "example.org"}
		w.pass(time.Minute)
		w.must(w.Observe(ctx, keydir.Observation{From: a, Autocrypt: []string{header(a, key(t, a))}, Date: w.clock()}))
	}
	if _, _, err := w.Show(ctx, carol); err == nil {
		t.Fatal("carol's row has not gone")
	}
	w.open()
	w.finds("bob's certificate", bob, keydir.Found, "", pgp.Confirmed, k)
}

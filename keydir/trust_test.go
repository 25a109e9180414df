package keydir_test

import (
	"context"
	"encoding/base64"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/pgp"
)

const day = 24 * time.Hour

func header(a address.Address, k *pgp.Key) string {
	return "addr=" + a.String() + "; prefer-encrypt=mutual; keydata=" + base64.StdEncoding.EncodeToString(k.Certificate().Bytes())
}

// sees has the world receive a message of bob's with an Autocrypt header.
func (w *world) sees(k *pgp.Key) {
	w.t.Helper()
	if err := w.Observe(context.Background(), keydir.Observation{From: bob, Autocrypt: []string{header(bob, k)}, Date: w.clock()}); err != nil {
		w.t.Fatal(err)
	}
}

// signs has it receive messages signed by k on that many days.
func (w *world) signs(k *pgp.Key, days int) {
	w.t.Helper()
	for range days {
		if err := w.Observe(context.Background(), keydir.Observation{From: bob, Date: w.clock(), Signer: k.Fingerprint()}); err != nil {
			w.t.Fatal(err)
		}
		w.pass(day)
	}
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) identity(k *pgp.Key) pgp.Identity {
	w.t.Helper()
	id, err := w.Identity(context.Background(), bob, k.Fingerprint())
	w.must(err)
	return id
}

var ctx = context.Background()

func TestStoredUntilItIsOld(t *testing.T) {
	w, k := newWorld(t), key(t, bob)
	d := w.directory()
	d.set(200, k)
	w.finds("first contact", bob, keydir.Found, "", pgp.Directory, k)
	w.pass(23 * time.Hour)
	for range 3 {
		w.finds("fresh", bob, keydir.Found, "", pgp.Directory, k)
	}
	w.open()
	f := w.finds("fresh after a restart", bob, keydir.Found, "", pgp.Directory, k)
	if d.requests() != 1 || f.Stale || !f.Known || f.Source != "wkd" {
		t.Errorf("%d requests, %+v: want one, and not stale", d.requests(), f)
	}
	w.pass(2 * time.Hour)
	w.finds("refetched after a day", bob, keydir.Found, "", pgp.Directory, k)
	if d.requests() != 2 {
		t.Errorf("%d requests, want 2", d.requests())
	}
}

func TestStaleWhileUnreachable(t *testing.T) {
	w, k := newWorld(t), key(t, bob)
	d := w.directory()
	d.set(200, k)
	w.find(bob)
	d.set(503)
	w.pass(25 * time.Hour)
	if f := w.finds("used while the directory is down", bob, keydir.Found, "", pgp.Directory, k); !f.Stale {
		t.Error("not told as stale")
	}
	n := d.requests()
	w.find(bob)
	if d.requests() != n {
		t.Error("a failure is not remembered for a minute")
	}
	w.pass(5 * day)
	w.finds("still", bob, keydir.Found, "", pgp.Directory, k)
	w.pass(day)
	if f := w.finds("not beyond a week", bob, keydir.Unavailable, "", pgp.Directory); !f.Known {
		t.Error("not known")
	}
	d.set(200, k)
	w.pass(time.Hour)
	if f := w.finds("good again", bob, keydir.Found, "", pgp.Directory, k); f.Stale {
		t.Error("stale")
	}
}

func TestWaitsOnlyBrieflyForNews(t *testing.T) {
	w, k := newWorld(t, func(c *keydir.Config) { c.Network.Timeout, c.Network.Refetch = time.Hour, 300*time.Millisecond }), key(t, bob)
	d := w.directory()
	d.set(200, k)
	w.find(bob)
	silent := make(chan struct{})
	w.listen("openpgpkey.example.org", raw(func(net.Conn) { <-silent }))
	defer close(silent)
	w.pass(2 * day)
	began := time.Now()
	f := w.finds("what is stored is used", bob, keydir.Found, "", pgp.Directory, k)
	if took := time.Since(began); took > 10*time.Minute {
		t.Errorf("waited %s, want about 300 ms", took)
	}
	if last := f.Attempts[len(f.Attempts)-1]; last.Outcome != keydir.Unavailable || !f.Stale {
		t.Errorf("last attempt %+v, stale %v", last, f.Stale)
	}
	short, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	if f, err := w.Find(short, carol); err != nil || f.Outcome != keydir.Unavailable {
		t.Errorf("a sender who hangs up: %q, %v; want unavailable", f.Outcome, err)
	}
}

func TestGoneIsUsedAMonthThenHeld(t *testing.T) {
	w, k := newWorld(t), key(t, bob)
	d := w.directory()
	d.set(200, k)
	w.find(bob)
	d.set(404)
	w.pass(2 * day)
	if f := w.finds("gone", bob, keydir.Found, "", pgp.Directory, k); !strings.Contains(f.Detail, "not had the certificate since 2026-03-03") || !f.Stale {
		t.Errorf("detail %q, stale %v", f.Detail, f.Stale)
	}
	w.pass(29 * day)
	w.finds("gone for a while", bob, keydir.Found, "", pgp.Directory, k)
	w.pass(2 * day)
	w.finds("gone for long", bob, keydir.Found, keydir.ProblemGone, pgp.Directory)
	stranger, err := pgp.GenerateKey(bob, pgp.DefaultProfile, start)
	w.must(err)
	w.sees(stranger)
	if err := w.Accept(ctx, bob, ""); !errors.Is(err, keydir.ErrSeveral) {
		t.Errorf("accept beside a candidate: %v; whoever sent that one must not gain by it", err)
	}
	w.must(w.Accept(ctx, bob, k.Fingerprint()))
	w.finds("accepted", bob, keydir.Found, "", pgp.Directory, k)
	w.pass(60 * day)
	w.finds("accepted for good", bob, keydir.Found, "", pgp.Directory, k)
	w.must(w.Forget(ctx, bob))
	if f := w.finds("forgotten", bob, keydir.Absent, "", pgp.Unknown); f.Known {
		t.Error("still known")
	}
}

func TestDirectorySwitchedOff(t *testing.T) {
	w, k := newWorld(t), key(t, bob)
	w.directory().set(200, k)
	w.find(bob)
	w.conf.Sources = []string{"autocrypt"}
	w.open()
	w.pass(2 * day)
	w.finds("still used", bob, keydir.Found, "", pgp.Directory, k)
	w.pass(10 * day)
	w.finds("not for ever", bob, keydir.Found, keydir.ProblemGone, pgp.Directory)
	w.must(w.Accept(ctx, bob, ""))
	w.pass(10 * day)
	w.finds("accepted", bob, keydir.Found, "", pgp.Directory, k)
}

func TestGoneAndBack(t *testing.T) {
	w, k := newWorld(t), key(t, bob)
	d := w.directory()
	d.set(200, k)
	w.find(bob)
	d.set(404)
	w.pass(40 * day)
	w.find(bob)
	w.pass(31 * day)
	w.finds("gone for long", bob, keydir.Found, keydir.ProblemGone, pgp.Directory)
	d.set(200, k)
	w.pass(day)
	w.finds("back", bob, keydir.Found, "", pgp.Directory, k)
}

func TestAbsenceIsRemembered(t *testing.T) {
	w, k := newWorld(t), key(t, bob)
	d := w.directory()
	d.set(404)
	w.find(bob)
	w.pass(40 * time.Minute)
	w.find(bob)
	w.open()
	w.finds("remembered", bob, keydir.Absent, "", pgp.Unknown)
	if d.requests() != 1 {
		t.Errorf("%d requests, want 1", d.requests())
	}
	d.set(200, k)
	w.pass(time.Hour)
	w.finds("asked again", bob, keydir.Found, "", pgp.Directory, k)
}

func TestChangedPrimaryKey(t *testing.T) {
	old, next := key(t, bob), key(t, bob)
	setup := func(t *testing.T, before func(w *world)) (*world, *directory) {
		w := newWorld(t)
		d := w.directory()
		d.set(200, old)
		w.finds("first", bob, keydir.Found, "", pgp.Directory, old)
		before(w)
		d.set(200, next)
		w.pass(2 * day)
		return w, d
	}
	held := func(w *world) {
		w.t.Helper()
		for range 2 {
			w.finds("held", bob, keydir.Found, keydir.ProblemConflict, pgp.Conflict)
			w.open()
		}
		if a, b := w.identity(old), w.identity(next); a != pgp.Conflict || b != pgp.Conflict {
			w.t.Errorf("identities %q and %q, want conflict for both", a, b)
		}
	}

	t.Run("without history the directory wins, and it is told", func(t *testing.T) {
		w, _ := setup(t, func(w *world) { w.signs(old, 1) })
		if f := w.finds("changed", bob, keydir.Found, "", pgp.Directory, next); !strings.Contains(f.Detail, "changed on 2026-03-04") {
			t.Errorf("detail %q", f.Detail)
		}
		p, _, err := w.Show(ctx, bob)
		if err != nil || len(p.Changes) != 1 || p.Changes[0].From[0] != old.Fingerprint() || p.Changes[0].To[0] != next.Fingerprint() {
			t.Errorf("changes %+v, %v", p.Changes, err)
		}
		if w.identity(old) != pgp.Unknown {
			t.Error("the old one still counts")
		}
		if strings.Contains(w.logged.String(), "WARN") && strings.Contains(w.logged.String(), "level=WARN msg=\"a contact's certificate changed; `letterlock cert list` tells more\" held=false") == false {
			t.Errorf("log %s", w.logged.String())
		}
	})
	t.Run("with a history of signatures it is a conflict, until accepted", func(t *testing.T) {
		w, _ := setup(t, func(w *world) { w.signs(old, 2) })
		held(w)
		w.must(w.Accept(ctx, bob, ""))
		w.finds("accepted", bob, keydir.Found, "", pgp.Directory, next)
	})
	t.Run("or until the old one is accepted, against this one for good", func(t *testing.T) {
		w, d := setup(t, func(w *world) { w.signs(old, 2) })
		held(w)
		w.must(w.Accept(ctx, bob, old.Fingerprint()))
		for range 3 {
			w.finds("kept", bob, keydir.Found, "", pgp.Directory, old)
			w.pass(10 * day)
		}
		d.set(200, key(t, bob))
		w.pass(10 * day)
		w.finds("a third is a new conflict", bob, keydir.Found, keydir.ProblemConflict, pgp.Conflict)
	})
	t.Run("or until the directory goes back", func(t *testing.T) {
		w, d := setup(t, func(w *world) { w.signs(old, 2) })
		held(w)
		d.set(200, old)
		w.pass(2 * time.Hour)
		w.finds("back", bob, keydir.Found, "", pgp.Directory, old)
		if w.identity(next) != pgp.Unknown {
			t.Error("the false one counts")
		}
	})
	t.Run("an absent directory doesn't end a conflict", func(t *testing.T) {
		w, d := setup(t, func(w *world) { w.signs(old, 2) })
		held(w)
		d.set(404)
		w.pass(2 * time.Hour)
		held(w)
	})
	t.Run("a confirmed one is never replaced", func(t *testing.T) {
		w, _ := setup(t, func(w *world) { w.must(w.Verify(ctx, bob, old.Fingerprint())) })
		w.finds("pinned, not asked for a week", bob, keydir.Found, "", pgp.Confirmed, old)
		w.pass(8 * day)
		held(w)
		typed := strings.ToLower(string(next.Fingerprint()[:20])) + " " + strings.ToLower(string(next.Fingerprint()[20:]))
		w.must(w.Verify(ctx, bob, pgp.Fingerprint("0x"+typed)))
		w.finds("compared", bob, keydir.Found, "", pgp.Confirmed, next)
		if w.identity(old) != pgp.Unknown {
			t.Error("the old one still counts")
		}
	})
	t.Run("a signature by another key is no history", func(t *testing.T) {
		w, _ := setup(t, func(w *world) { w.signs(next, 3) })
		w.finds("changed", bob, keydir.Found, "", pgp.Directory, next)
	})
	t.Run("a mailbox read newest first has history all the same", func(t *testing.T) {
		w, _ := setup(t, func(w *world) {
			for age := range 3 {
				w.must(w.Observe(ctx, keydir.Observation{From: bob, Date: start.Add(-time.Duration(age) * 30 * day), Signer: old.Fingerprint()}))
			}
		})
		held(w)
	})
	t.Run("dates of the future are today", func(t *testing.T) {
		w, _ := setup(t, func(w *world) {
			for ahead := range 3 {
				w.must(w.Observe(ctx, keydir.Observation{From: bob, Date: start.Add(time.Duration(ahead) * 30 * day), Signer: old.Fingerprint()}))
			}
		})
		w.finds("changed", bob, keydir.Found, "", pgp.Directory, next)
	})
	t.Run("many signatures in a day are one", func(t *testing.T) {
		w, _ := setup(t, func(w *world) {
			for range 5 {
				w.must(w.Observe(ctx, keydir.Observation{From: bob, Date: w.clock(), Signer: old.Fingerprint()}))
				w.pass(time.Hour)
			}
		})
		w.finds("changed", bob, keydir.Found, "", pgp.Directory, next)
	})
}

func TestTwoUsableOfOneVersionAreAConflict(t *testing.T) {
	w, a, b := newWorld(t), key(t, bob), key(t, bob)
	d := w.directory()
	d.set(200, a, b)
	w.finds("neither is chosen", bob, keydir.Found, keydir.ProblemConflict, pgp.Conflict)
	d.set(200, b)
	w.pass(2 * time.Hour)
	w.finds("settled by the directory", bob, keydir.Found, "", pgp.Directory, b)
	d.set(200, b, a)
	w.pass(2 * day)
	w.finds("neither beside a pin", bob, keydir.Found, keydir.ProblemConflict, pgp.Conflict)
	if err := w.Accept(ctx, bob, "ABCD"); !errors.Is(err, keydir.ErrFingerprint) {
		t.Errorf("accepting what isn't there: %v", err)
	}
	w.must(w.Accept(ctx, bob, b.Fingerprint()))
	w.finds("accepted", bob, keydir.Found, "", pgp.Directory, b)
	w.must(w.Verify(ctx, bob, b.Fingerprint()))
	w.pass(8 * day)
	w.finds("a person's word is enough", bob, keydir.Found, "", pgp.Confirmed, b)
}

func TestExpired(t *testing.T) {
	w, k := newWorld(t), key(t, bob)
	d := w.directory()
	d.set(200, k)
	w.find(bob)
	w.pass(3 * 365 * day)
	f := w.finds("expired is known, and not used", bob, keydir.Found, keydir.ProblemExpired, pgp.Directory)
	if !f.Known {
		t.Error("not known")
	}
	n := d.requests()
	w.find(bob)
	if d.requests() != n {
		t.Error("asked for each message")
	}
	d.set(503)
	w.pass(2 * day)
	w.finds("a renewed one may be waiting", bob, keydir.Unavailable, keydir.ProblemExpired, pgp.Directory)
	d.set(404)
	w.pass(2 * day)
	w.finds("expired and withdrawn is not absent", bob, keydir.Found, keydir.ProblemExpired, pgp.Directory)

	fresh, err := pgp.GenerateKey(bob, pgp.DefaultProfile, w.clock().Add(-time.Hour))
	w.must(err)
	d.set(200, k, fresh)
	w.pass(2 * day)
	w.finds("a new one beside the expired one, without history", bob, keydir.Found, "", pgp.Directory, fresh)

	stranger := newWorld(t)
	stranger.pass(3 * 365 * day)
	d = stranger.directory()
	d.set(200, k)
	if f := stranger.finds("expired at first contact", bob, keydir.Found, keydir.ProblemExpired, pgp.Directory); !f.Known {
		t.Error("not known")
	}
}

func TestAutocrypt(t *testing.T) {
	first, second := key(t, bob), key(t, bob)
	t.Run("is believed at first sight", func(t *testing.T) {
		w := newWorld(t)
		w.sees(first)
		f := w.finds("seen", bob, keydir.Found, "", pgp.FirstSeen, first)
		if f.Source != "autocrypt" || w.identity(first) != pgp.FirstSeen {
			t.Errorf("source %q, identity %q", f.Source, w.identity(first))
		}
	})
	t.Run("stays though the directory has none", func(t *testing.T) {
		w := newWorld(t)
		w.directory().set(404)
		w.sees(first)
		w.finds("seen", bob, keydir.Found, "", pgp.FirstSeen, first)
		w.pass(60 * day)
		w.finds("seen", bob, keydir.Found, "", pgp.FirstSeen, first)
	})
	t.Run("rises by the directory's word", func(t *testing.T) {
		w := newWorld(t)
		w.directory().set(200, first)
		w.sees(first)
		w.finds("seen and published", bob, keydir.Found, "", pgp.Directory, first)
	})
	t.Run("gives way to the directory's", func(t *testing.T) {
		w := newWorld(t)
		w.directory().set(200, second)
		w.sees(first)
		w.finds("another is published", bob, keydir.Found, "", pgp.Directory, second)
	})
	t.Run("never replaces, even signed by the old one, until accepted", func(t *testing.T) {
		w := newWorld(t)
		w.sees(first)
		w.pass(day)
		w.must(w.Observe(ctx, keydir.Observation{From: bob, Autocrypt: []string{header(bob, second)}, Date: w.clock(), Signer: first.Fingerprint()}))
		w.finds("candidate", bob, keydir.Found, "", pgp.FirstSeen, first)
		if w.identity(second) != pgp.Unknown {
			t.Errorf("candidate's identity %q", w.identity(second))
		}
		w.must(w.Accept(ctx, bob, ""))
		w.finds("accepted", bob, keydir.Found, "", pgp.FirstSeen, second)
	})
	t.Run("makes no conflict with the directory's", func(t *testing.T) {
		w := newWorld(t)
		w.directory().set(200, first)
		w.find(bob)
		w.sees(second)
		w.finds("candidate", bob, keydir.Found, "", pgp.Directory, first)
	})
	t.Run("is told where the old one expired", func(t *testing.T) {
		w := newWorld(t)
		w.sees(first)
		w.pass(3 * 365 * day)
		fresh, err := pgp.GenerateKey(bob, pgp.DefaultProfile, w.clock().Add(-time.Hour))
		w.must(err)
		w.sees(fresh)
		f := w.finds("expired", bob, keydir.Found, keydir.ProblemExpired, pgp.FirstSeen)
		if !strings.Contains(f.Detail, string(fresh.Fingerprint())) || !strings.Contains(f.Detail, "letterlock cert accept bob@example.org") {
			t.Errorf("detail %q", f.Detail)
		}
	})
	other := header(carol, key(t, carol))
	for name, o := range map[string]keydir.Observation{
		"of another address":         {From: bob, Autocrypt: []string{other}, Date: start},
		"naming another address":     {From: bob, Autocrypt: []string{header(bob, key(t, carol))}, Date: start},
		"two valid ones":             {From: bob, Autocrypt: []string{header(bob, first), header(bob, second)}, Date: start},
		"of the future":              {From: bob, Autocrypt: []string{header(bob, first)}, Date: start.Add(2 * time.Hour)},
		"without a date":             {From: bob, Autocrypt: []string{header(bob, first)}},
		"with an unknown attribute":  {From: bob, Autocrypt: []string{"urgent=1; " + header(bob, first)}, Date: start},
		"with an attribute twice":    {From: bob, Autocrypt: []string{"addr=bob@example.org; " + header(bob, first)}, Date: start},
		"with a word":                {From: bob, Autocrypt: []string{"now; " + header(bob, first)}, Date: start},
		"longer than allowed":        {From: bob, Autocrypt: []string{header(bob, first) + strings.Repeat(" ", 10<<10)}, Date: start},
		"without addr":               {From: bob, Autocrypt: []string{strings.TrimPrefix(header(bob, first), "addr=bob@example.org;")}, Date: start},
		"that is no base64":          {From: bob, Autocrypt: []string{"addr=bob@example.org; keydata=%%%"}, Date: start},
		"that is no certificate":     {From: bob, Autocrypt: []string{"addr=bob@example.org; keydata=AAAA"}, Date: start},
		"from nobody":                {Autocrypt: []string{header(bob, first)}, Date: start},
		"among a flood of fields":    {From: bob, Autocrypt: append(make([]string, 20), header(bob, first)), Date: start},
		"of a certificate to expire": {From: bob, Autocrypt: []string{header(bob, expired(t))}, Date: start},
	} {
		t.Run("a header "+name+" is ignored", func(t *testing.T) {
			w := newWorld(t)
			w.must(w.Observe(ctx, o))
			if f := w.finds("nothing", bob, keydir.Absent, "", pgp.Unknown); f.Known {
				t.Error("known")
			}
		})
	}
	for name, o := range map[string]keydir.Observation{
		"beside an invalid one":      {From: bob, Autocrypt: []string{"addr=bob@example.org", other, header(bob, first)}, Date: start},
		"with a harmless attribute":  {From: bob, Autocrypt: []string{"_note=x; " + header(bob, first) + ";"}, Date: start},
		"folded, in another case":    {From: bob, Autocrypt: []string{strings.Replace(header(address.Address{Local: "BOB", Domain: "example.org"}, first), "keydata=", "keydata=\r\n ", 1)}, Date: start},
		"of a clock a little ahead":  {From: bob, Autocrypt: []string{header(bob, first)}, Date: start.Add(30 * time.Minute)},
		"with nothing of prefer-...": {From: bob, Autocrypt: []string{strings.Replace(header(bob, first), "prefer-encrypt=mutual;", "", 1)}, Date: start},
	} {
		t.Run("a header "+name+" is taken", func(t *testing.T) {
			w := newWorld(t)
			w.must(w.Observe(ctx, o))
			w.finds("taken", bob, keydir.Found, "", pgp.FirstSeen, first)
		})
	}
	t.Run("an older message doesn't go back", func(t *testing.T) {
		w := newWorld(t)
		w.sees(first)
		w.must(w.Observe(ctx, keydir.Observation{From: bob, Autocrypt: []string{header(bob, second)}, Date: start.Add(-day)}))
		p, _, err := w.Show(ctx, bob)
		if err != nil || len(p.Candidates) != 0 {
			t.Errorf("%+v %v", p.Candidates, err)
		}
	})
	t.Run("costs no write where it says nothing new", func(t *testing.T) {
		w := newWorld(t)
		w.sees(first)
		for range 5 {
			w.pass(time.Hour)
			w.sees(first)
		}
		if p, _, err := w.Show(ctx, bob); err != nil || !p.Autocrypt.Equal(start) {
			t.Errorf("stored as of %s, %v; want %s", p.Autocrypt, err, start)
		}
		w.pass(day)
		w.sees(first)
		if p, _, err := w.Show(ctx, bob); err != nil || !p.Autocrypt.Equal(w.clock()) {
			t.Errorf("a day later stored as of %s, %v", p.Autocrypt, err)
		}
	})
	t.Run("is off where it is no source", func(t *testing.T) {
		w := newWorld(t, func(c *keydir.Config) { c.Sources = []string{} })
		w.sees(first)
		if f := w.finds("nobody is asked", bob, keydir.NoDirectory, "", pgp.Unknown); f.Known || len(w.lookedUp()) > 0 {
			t.Errorf("%+v", f)
		}
	})
	t.Run("candidates are bounded", func(t *testing.T) {
		w := newWorld(t)
		w.sees(first)
		for range 12 {
			w.pass(time.Minute)
			w.sees(key(t, bob))
		}
		if p, certs, err := w.Show(ctx, bob); err != nil || len(p.Candidates) != 8 || len(certs) != 9 {
			t.Errorf("%d candidates, %d certificates, %v", len(p.Candidates), len(certs), err)
		}
		if err := w.Accept(ctx, bob, ""); !errors.Is(err, keydir.ErrSeveral) {
			t.Errorf("accepting one of several: %v", err)
		}
	})
}

// expired is a key that has ended when the world begins.
func expired(t *testing.T) *pgp.Key {
	k, err := pgp.GenerateKey(bob, pgp.DefaultProfile, start.Add(-3*365*day))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

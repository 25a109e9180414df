package keydir_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/pgp"
)

// owning has the world hold the key of bob's as its own.
func owning(keys ...*pgp.Key) func(*keydir.Config) {
	return func(c *keydir.Config) {
		c.Own = func() (out []*pgp.Certificate) {
			for _, k := range keys {
				out = append(out, k.Certificate())
			}
			return out
		}
	}
}

func (w *world) alarms() []keydir.Alarm {
	w.t.Helper()
	all, err := w.Alarms(ctx)
	w.must(err)
	return all
}

func TestFalseKeyForOurselvesIsNoticed(t *testing.T) {
	mine, older, false1 := key(t, bob), key(t, bob), key(t, bob)
	w := newWorld(t, owning(mine, older))
	d := w.directory()
	check := func(status int, keys ...*pgp.Key) keydir.Own {
		t.Helper()
		d.set(status, keys...)
		o, err := w.CheckOwn(ctx, bob)
		w.must(err)
		w.pass(day)
		return o
	}
	check(404)
	check(503)
	check(200, older)
	if o := check(200, mine); len(w.alarms()) != 0 || len(o.Sources) != 1 || len(o.Sources[0].Ours) != 1 {
		t.Fatalf("what is well raised an alarm: %+v, %+v", w.alarms(), o)
	}
	check(200, false1)
	all := w.alarms()
	if len(all) != 1 || all[0].Kind != keydir.KindServed || all[0].Fingerprint != false1.Fingerprint() || all[0].Source != "wkd" || !all[0].Over.IsZero() {
		t.Fatalf("got %+v", all)
	}
	if !strings.Contains(all[0].Text(), string(false1.Fingerprint())) {
		t.Errorf("the text doesn't name the key: %s", all[0].Text())
	}
	w.must(w.TellAlarms(ctx, all...))
	w.pass(day)
	check(200, mine, false1)
	if all = w.alarms(); len(all) != 1 || !all[0].Told || !all[0].Over.IsZero() {
		t.Errorf("the same key again: %+v", all)
	}
	check(503)
	if all = w.alarms(); !all[0].Over.IsZero() {
		t.Error("an alarm ended though nobody could be asked")
	}
	check(200, mine)
	if all = w.alarms(); all[0].Over.IsZero() {
		t.Error("the alarm didn't end")
	}
	if o, ok, err := w.OwnServed(ctx, bob); err != nil || !ok || len(o.Sources[0].Ours) != 1 {
		t.Errorf("what was served: %+v, %v, %v", o, ok, err)
	}
	if n, err := w.Dismiss(ctx, bob); err != nil || n != 1 || len(w.alarms()) != 0 {
		t.Errorf("dismissed %d, %v", n, err)
	}
	w.mu.Lock()
	n := strings.Count(w.logged.String(), "level=ERROR")
	w.mu.Unlock()
	if n != 1 {
		t.Errorf("%d errors in the log, want one", n)
	}
}

func TestMailForOtherKeysIsNoticed(t *testing.T) {
	mine, theirs := key(t, bob), key(t, carol)
	w := newWorld(t, owning(mine))
	see := func(o keydir.Observation) {
		t.Helper()
		o.From, o.Account, o.Date = carol, bob, w.clock()
		w.must(w.Observe(ctx, o))
	}
	see(keydir.Observation{Signer: theirs.Fingerprint()})
	see(keydir.Observation{NotForUs: true})
	see(keydir.Observation{NotForUs: true, Signer: mine.Fingerprint()})
	if all := w.alarms(); len(all) != 0 {
		t.Fatalf("no cause, but %+v", all)
	}
	for range 3 {
		see(keydir.Observation{NotForUs: true, Signer: theirs.Fingerprint()})
	}
	if all := w.alarms(); len(all) != 1 || all[0].Kind != keydir.KindNotForUs || all[0].Source != carol.String() || !all[0].Address.Equal(bob) {
		t.Fatalf("got %+v", all)
	}
	w.pass(31 * day)
	if all := w.alarms(); len(all) != 0 {
		t.Errorf("shown for ever: %+v", all)
	}
	// Whoever writes to us can't fill the store, nor keep a later alarm away for long.
	for i := range 100 {
		o := keydir.Observation{From: address.Address{Local: fmt.Sprint("x", i), Domain: "example.net"}, Account: bob, Date: w.clock(), NotForUs: true, Signer: theirs.Fingerprint()}
		w.must(w.Observe(ctx, o))
	}
	if n := len(w.alarms()); n != 64 {
		t.Errorf("%d alarms are kept, want 64", n)
	}
	w.pass(31 * day)
	see(keydir.Observation{NotForUs: true, Signer: theirs.Fingerprint()})
	if n := len(w.alarms()); n != 1 {
		t.Errorf("%d alarms", n)
	}
}

func TestGossipAboutOurselvesIsNoticed(t *testing.T) {
	mine, other := key(t, bob), key(t, bob)
	w := newWorld(t, owning(mine))
	o := keydir.Observation{From: carol, Date: w.clock()}
	w.must(w.SuspectGossip(ctx, bob, mine.Certificate(), o))
	w.must(w.SuspectGossip(ctx, carol, key(t, carol).Certificate(), o))
	if all := w.alarms(); len(all) != 0 {
		t.Fatalf("no cause, but %+v", all)
	}
	w.must(w.SuspectGossip(ctx, bob, other.Certificate(), o))
	if all := w.alarms(); len(all) != 1 || all[0].Kind != keydir.KindGossip || all[0].Fingerprint != other.Fingerprint() {
		t.Fatalf("got %+v", all)
	}
}

func TestNoticesOfEachStageOnce(t *testing.T) {
	k, mine := key(t, bob), key(t, carol)
	w := newWorld(t, owning(mine))
	d := w.directory()
	d.set(200, k)
	own := map[address.Address]*pgp.Certificate{carol: mine.Certificate()}
	stages := func() (out string) {
		t.Helper()
		all, err := w.Notices(ctx, own)
		w.must(err)
		for _, n := range all {
			told, err := w.Told(ctx, n)
			w.must(err)
			if told {
				continue
			}
			if n.Own {
				out += "own "
			}
			out += string(n.Stage) + " "
			if !strings.Contains(n.Text, n.Address.String()) || !strings.Contains(n.Text, "letterlock ") {
				t.Errorf("the text doesn't say of whom, or what to do: %s", n.Text)
			}
			w.must(w.Tell(ctx, n))
		}
		return out
	}
	want := func(why, want string) {
		t.Helper()
		w.find(bob)
		if got := stages(); got != want {
			t.Errorf("%s: got %q, want %q", why, got, want)
		}
	}
	want("all is well", "")
	d.set(404)
	w.pass(2 * day)
	want("gone", "gone ")
	w.pass(day)
	want("told already", "")
	w.pass(30 * day)
	want("and held", "held ")
	d.set(200, k)
	w.pass(2 * day)
	want("back", "")
	w.pass(k.Certificate().Expires().Sub(w.clock()) - 31*day)
	want("31 days before the end", "")
	w.pass(2 * day)
	want("29 days before", "own expiring expiring ")
	want("told already", "")
	next := heir(t, k, w.clock())
	d.set(200, next)
	w.pass(2 * day)
	want("a successor", "changed ")
	w.pass(40 * day)
	want("own end", "own expired ")
	d.set(200, revoke(t, next, pgp.Retired, w.clock()))
	w.pass(2 * day)
	want("revoked", "revoked ")
	d.set(200, key2(t, w.clock()))
	w.signs(next, 3)
	w.pass(2 * day)
	want("a contradiction", "conflict ")
	w.pass(61 * day)
	if got := stages(); got != "" {
		t.Errorf("contacts that nobody writes to: %q", got)
	}
}

// Whoever writes to us can make as many suspicions as are kept, and keeps no word
// of a directory's false key away by that.
func TestSuspicionsKeepNoFalseKeyBack(t *testing.T) {
	mine, theirs, false1 := key(t, bob), key(t, carol), key(t, bob)
	w := newWorld(t, unhurried, owning(mine))
	for i := range 100 {
		o := keydir.Observation{From: address.Address{Local: fmt.Sprint("x", i), Domain: "example.net"}, Account: bob, Date: w.clock(), NotForUs: true, Signer: theirs.Fingerprint()}
		w.must(w.Observe(ctx, o))
	}
	served := func() (out []keydir.Alarm) {
		for _, a := range w.alarms() {
			if a.Kind == keydir.KindServed {
				out = append(out, a)
			}
		}
		return out
	}
	w.directory().set(200, false1)
	if _, err := w.CheckOwn(ctx, bob); err != nil {
		t.Fatal(err)
	}
	if all := served(); len(all) != 1 || all[0].Fingerprint != false1.Fingerprint() {
		t.Fatalf("of the false key %+v is told", all)
	}
	gone := keydir.Alarm{Address: carol, Kind: keydir.KindGossip} // dismissed meanwhile
	w.must(w.TellAlarms(ctx, append([]keydir.Alarm{gone}, served()...)...))
	if all := served(); !all[0].Told {
		t.Error("it is told again")
	}
}

// What happens again, to the same certificate, is told again.
func TestNoticesOfWhatHappensAgain(t *testing.T) {
	k := key(t, bob)
	w := newWorld(t, unhurried)
	d := w.directory()
	d.set(200, k)
	want := func(why string, want ...keydir.Stage) {
		t.Helper()
		w.find(bob)
		all, err := w.Notices(ctx, nil)
		w.must(err)
		var got []keydir.Stage
		for _, n := range all {
			told, err := w.Told(ctx, n)
			w.must(err)
			if !told {
				got = append(got, n.Stage)
				w.must(w.Tell(ctx, n))
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", why, got, want)
		}
	}
	want("all is well")
	for range 2 {
		d.set(404)
		w.pass(2 * day)
		want("gone", keydir.StageGone)
		d.set(200, k)
		w.pass(2 * day)
		want("back")
	}
	for range 2 {
		w.pass(k.Certificate().Expires().Sub(w.clock()) - 20*day)
		want("before the end", keydir.StageExpiring)
		var err error
		if k, err = pgp.Extend(k, w.clock()); err != nil {
			t.Fatal(err)
		}
		d.set(200, k)
		w.pass(2 * day)
		want("extended")
	}
	other := key2(t, w.clock())
	for range 2 {
		d.set(200, other)
		w.pass(2 * day)
		want("another", keydir.StageChanged)
		d.set(200, k)
		w.pass(2 * day)
		want("and the first", keydir.StageChanged)
	}
}

func key2(t *testing.T, at time.Time) *pgp.Key {
	t.Helper()
	k, err := pgp.GenerateKey(bob, pgp.DefaultProfile, at)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

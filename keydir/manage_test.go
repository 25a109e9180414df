package keydir_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/keydir/server"
	"letterlock.org/letterlock/pgp"
)

func certs(keys ...*pgp.Key) (out []*pgp.Certificate) {
	for _, k := range keys {
		out = append(out, k.Certificate())
	}
	return out
}

func TestImport(t *testing.T) {
	w, first, second, other := newWorld(t), key(t, bob), key(t, bob), key(t, carol)
	if err := w.Import(ctx, certs(other), bob, pgp.FirstSeen); !errors.Is(err, keydir.ErrAddress) {
		t.Errorf("a certificate of another address: %v", err)
	}
	w.must(w.Import(ctx, certs(first), bob, pgp.FirstSeen))
	if f := w.finds("imported", bob, keydir.Found, "", pgp.FirstSeen, first); f.Source != "import" {
		t.Errorf("source %q", f.Source)
	}
	if err := w.Import(ctx, certs(second), bob, pgp.FirstSeen); !errors.Is(err, keydir.ErrContradicts) {
		t.Errorf("another certificate: %v", err)
	}
	w.finds("the first stays", bob, keydir.Found, "", pgp.FirstSeen, first)
	w.must(w.Import(ctx, certs(first), bob, pgp.Organisation))
	w.finds("vouched for", bob, keydir.Found, "", pgp.Organisation, first)
	w.must(w.Import(ctx, certs(first), bob, pgp.FirstSeen))
	w.finds("trust doesn't sink by importing again", bob, keydir.Found, "", pgp.Organisation, first)
	w.must(w.Import(ctx, certs(second), bob, pgp.Confirmed))
	w.finds("confirmed replaces", bob, keydir.Found, "", pgp.Confirmed, second)
	w.must(w.Import(ctx, certs(other), address.Address{}, pgp.Unknown))
	peers, err := w.List(ctx)
	if err != nil || len(peers) != 1 || peers[0].Address != bob || peers[0].Pins[0].Identity != pgp.Confirmed {
		t.Errorf("List: %+v, %v", peers, err)
	}
	w.open()
	w.finds("after a restart", bob, keydir.Found, "", pgp.Confirmed, second)
}

func TestWhatAPersonMayAsk(t *testing.T) {
	w, k := newWorld(t), key(t, bob)
	for name, err := range map[string]error{
		"accept": w.Accept(ctx, bob, ""), "verify": w.Verify(ctx, bob, k.Fingerprint()), "forget": w.Forget(ctx, bob),
	} {
		if !errors.Is(err, keydir.ErrUnknown) {
			t.Errorf("%s of a stranger: %v", name, err)
		}
	}
	if _, _, err := w.Show(ctx, bob); !errors.Is(err, keydir.ErrUnknown) {
		t.Errorf("show of a stranger: %v", err)
	}
	w.sees(k)
	if err := w.Accept(ctx, bob, ""); !errors.Is(err, keydir.ErrNothing) {
		t.Errorf("accept without a candidate: %v", err)
	}
	for _, f := range []pgp.Fingerprint{"", "0123", key(t, bob).Fingerprint(), k.Fingerprint()[:39]} {
		if err := w.Verify(ctx, bob, f); !errors.Is(err, keydir.ErrFingerprint) {
			t.Errorf("verify with %q: %v", f, err)
		}
	}
	w.finds("nothing was verified", bob, keydir.Found, "", pgp.FirstSeen, k)
}

func TestIssuer(t *testing.T) {
	own := key(t, carol)
	w := newWorld(t, func(c *keydir.Config) { c.Own = func() []*pgp.Certificate { return certs(own) } })
	k := key(t, bob)
	w.must(w.Import(ctx, certs(k), bob, pgp.FirstSeen))
	w.must(w.Import(ctx, certs(own), carol, pgp.FirstSeen))
	for _, want := range []*pgp.Key{k, own} {
		signers := want.Certificate().SignerIDs()
		for _, id := range want.Certificate().KeyIDs() {
			got, err := w.Issuer(ctx, id)
			if !slices.Contains(signers, id) && want == k { // it can't be whose signature it is
				if err != nil || len(got) != 0 {
					t.Errorf("Issuer(%X) of a key to encrypt to: %d certificates, %v", id, len(got), err)
				}
				continue
			}
			if err != nil || len(got) != 1 || got[0].Fingerprint() != want.Fingerprint() {
				t.Errorf("Issuer(%X): %d certificates, %v", id, len(got), err)
				continue
			}
			if again, err := w.Issuer(ctx, id); err != nil || again[0] != got[0] {
				t.Errorf("Issuer(%X) parses again: %v", id, err)
			}
		}
	}
	if got, err := w.Issuer(ctx, 1); len(got) != 0 || err != nil {
		t.Errorf("Issuer of nobody: %d, %v", len(got), err)
	}
	if f := w.finds("our own is found without asking", carol, keydir.Found, "", pgp.Confirmed, own); f.Source != "own" || len(w.lookedUp()) > 0 {
		t.Errorf("source %q, looked up %s", f.Source, w.lookedUp())
	}
	if id, _ := w.Identity(ctx, carol, own.Fingerprint()); id != pgp.Confirmed {
		t.Errorf("our own: %q", id)
	}
	if id, _ := w.Identity(ctx, bob, own.Fingerprint()); id != pgp.Unknown {
		t.Errorf("our own for another address: %q", id)
	}
	w.must(w.Forget(ctx, bob))
	if got, err := w.Issuer(ctx, k.Certificate().KeyIDs()[0]); len(got) != 1 || err != nil {
		t.Errorf("forgotten, old mail must still verify: %d, %v", len(got), err)
	}
	if id, _ := w.Identity(ctx, bob, k.Fingerprint()); id != pgp.Unknown {
		t.Errorf("forgotten: %q", id)
	}
}

func TestReadingTouchesNoNetwork(t *testing.T) {
	w, k := newWorld(t), key(t, bob)
	w.directory().set(200, key(t, bob))
	f, err := w.Stored(ctx, bob)
	if err != nil || f.Outcome != keydir.Unavailable || f.Known {
		t.Errorf("a stranger: %q known %v, %v", f.Outcome, f.Known, err)
	}
	w.sees(k)
	w.pass(365 * day / 2)
	w.signs(k, 3)
	w.identity(k)
	w.Issuer(ctx, 1)
	if f, err := w.Stored(ctx, bob); err != nil || f.Outcome != keydir.Found {
		t.Errorf("%q, %v", f.Outcome, err)
	}
	w.List(ctx)
	w.Show(ctx, bob)
	if len(w.lookedUp())+len(w.connectedTo()) != 0 {
		t.Errorf("resolved %s, dialed %s", w.lookedUp(), w.connectedTo())
	}
}

// A row that was changed behind our back is no ground to send anything.
func TestTampered(t *testing.T) {
	evil := key(t, bob)
	for name, query := range map[string]struct {
		sql  string
		args []any
	}{
		"the pin":                       {`UPDATE keydir_peer SET state = CAST(replace(CAST(state AS TEXT), 'directory', 'confirmed') AS BLOB)`, nil},
		"the pin's MAC":                 {`UPDATE keydir_peer SET mac = x'00'`, nil},
		"another's pin":                 {`UPDATE keydir_peer SET addr = CASE addr WHEN 'bob@example.org' THEN 'x' ELSE 'bob@example.org' END`, nil},
		"the certificate":               {`UPDATE keydir_cert SET bytes = ?`, []any{evil.Certificate().Bytes()}},
		"a certificate that is missing": {`DELETE FROM keydir_cert`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			w, k := newWorld(t), key(t, bob)
			d := w.directory()
			d.set(200, k)
			w.find(bob)
			d.set(200, key(t, carol))
			w.find(carol)
			w.must(w.store.Update(ctx, func(tx store.Tx) error { _, err := tx.Exec(query.sql, query.args...); return err }))
			w.open()
			d.set(404)
			f, err := w.Find(ctx, bob)
			if !errors.Is(err, store.ErrTampered) || f.Outcome != keydir.Unavailable || f.Problem != keydir.ProblemTampered || len(f.Certificates) > 0 || !f.Known {
				t.Errorf("Find: %+v, %v; want unavailable and tampered", f, err)
			}
			if _, err := w.Identity(ctx, bob, k.Fingerprint()); !errors.Is(err, store.ErrTampered) {
				t.Errorf("Identity: %v", err)
			}
			if err := w.Observe(ctx, keydir.Observation{From: bob, Signer: k.Fingerprint(), Date: start}); !errors.Is(err, store.ErrTampered) {
				t.Errorf("Observe: %v", err)
			}
			if _, err := w.List(ctx); !errors.Is(err, store.ErrTampered) {
				t.Errorf("List: %v", err)
			}
			w.must(w.Forget(ctx, bob)) // the way out
			w.finds("forgotten", bob, keydir.Absent, "", pgp.Unknown)
		})
	}
	t.Run("the domain", func(t *testing.T) {
		w := newWorld(t)
		w.directory().set(404)
		w.find(bob)
		w.must(w.store.Update(ctx, func(tx store.Tx) error { _, err := tx.Exec(`UPDATE keydir_domain SET seen = 1`); return err }))
		if f, err := w.Find(ctx, carol); !errors.Is(err, store.ErrTampered) || f.Outcome != keydir.Unavailable {
			t.Errorf("%q, %v", f.Outcome, err)
		}
	})
}

func TestStoreFailing(t *testing.T) {
	w := newWorld(t)
	w.directory().set(404)
	w.store.Close()
	if f, err := w.Find(ctx, bob); err == nil || f.Outcome != keydir.Unavailable {
		t.Errorf("%q, %v: want unavailable and an error", f.Outcome, err)
	}
	if _, err := w.Issuer(ctx, 1); err == nil {
		t.Error("Issuer: no error")
	}
}

// Our own server is found by both methods.
func TestAgainstOurServer(t *testing.T) {
	for _, host := range []string{advanced, direct} {
		t.Run(host, func(t *testing.T) {
			st, err := store.OpenMemory(server.Schema)
			if err != nil {
				t.Fatal(err)
			}
			defer st.Close()
			joe := address.Address{Local: "Joe.Doe+tag", Domain: "example.org"}
			w, k := newWorld(t), key(t, joe)
			d := server.NewDirectory(st)
			d.Now = w.clock
			w.must(d.Add(ctx, joe, k.Certificate()))
			h := server.New(server.Config{Directory: d, Domains: []string{"example.org"}, Now: w.clock})
			w.web(host, host, h.ServeHTTP)
			w.finds("published", joe, keydir.Found, "", pgp.Directory, k)
			w.finds("not published", bob, keydir.Absent, "", pgp.Unknown)
		})
	}
}

func TestCache(t *testing.T) {
	if keydir.SlowReader(func(forget func()) { forget() }) {
		t.Error("what was read before a write is kept after it")
	}
	if !keydir.SlowReader(func(func()) {}) {
		t.Error("nothing is kept")
	}
	if n := keydir.CacheSize(5); n != 2 {
		t.Errorf("a cache for two keeps %d", n)
	}
}

func TestOneLookupPerAddressAtATime(t *testing.T) {
	w, k := newWorld(t), key(t, bob)
	arrived, leave := make(chan struct{}, 100), make(chan struct{})
	w.web(advanced, advanced, func(rw http.ResponseWriter, _ *http.Request) {
		arrived <- struct{}{}
		<-leave
		rw.Write(k.Certificate().Bytes())
	})
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			f, err := w.Find(ctx, bob)
			if err != nil || f.Outcome != keydir.Found {
				t.Errorf("%q, %v", f.Outcome, err)
			}
		})
	}
	<-arrived
	short, cancel := context.WithTimeout(ctx, time.Millisecond)
	if f, _ := w.Find(short, bob); f.Outcome != keydir.Unavailable {
		t.Errorf("who can't wait: %q", f.Outcome)
	}
	cancel()
	close(leave)
	all.Wait()
	if n := len(arrived); n != 0 {
		t.Errorf("%d more requests", n)
	}
}

// lingering is a store whose reader is held back, once it has read.
type lingering struct {
	store.Store
	hold chan chan struct{} // a reader takes what it waits for
}

func (l *lingering) View(ctx context.Context, f func(store.Tx) error) error {
	err := l.Store.View(ctx, f)
	select {
	case c := <-l.hold:
		c <- struct{}{}
		<-c
	default:
	}
	return err
}

// Who read that nothing is known, and then was slow, doesn't ask what somebody else
// has asked meanwhile.
func TestALookupThatJustEndedIsNotRepeated(t *testing.T) {
	l := &lingering{hold: make(chan chan struct{}, 1)}
	w, k := newWorld(t, func(c *keydir.Config) { l.Store, c.Store = c.Store, l }), key(t, bob)
	w.directory().set(200, k)
	c := make(chan struct{})
	l.hold <- c
	late := make(chan keydir.Finding)
	go func() {
		f, _ := w.Find(ctx, bob)
		late <- f
	}()
	<-c // it has read
	w.finds("meanwhile", bob, keydir.Found, "", pgp.Directory, k)
	n := len(w.requests())
	c <- struct{}{}
	if f := <-late; f.Outcome != keydir.Found {
		t.Errorf("who was late: %q", f.Outcome)
	}
	if more := len(w.requests()) - n; more != 0 {
		t.Errorf("%d more requests", more)
	}
}

func TestBoundedLookups(t *testing.T) {
	w := newWorld(t)
	arrived, leave := make(chan struct{}, 100), make(chan struct{})
	w.web(advanced, advanced, func(rw http.ResponseWriter, _ *http.Request) {
		arrived <- struct{}{}
		<-leave
		rw.WriteHeader(404)
	})
	var all sync.WaitGroup
	for i := range 60 {
		all.Go(func() { w.Find(ctx, address.Address{Local: fmt.Sprint("u", i), Domain: "example.org"}) })
	}
	for range 16 {
		<-arrived
	}
	select {
	case <-arrived:
		t.Error("more than 16 at a time")
	case <-time.After(50 * time.Millisecond):
	}
	close(leave)
	all.Wait()
}

func TestRefresh(t *testing.T) {
	w, k := newWorld(t), key(t, bob)
	d := w.directory()
	d.set(200, k)
	w.find(bob)
	w.must(w.Import(ctx, certs(key(t, carol)), carol, pgp.FirstSeen)) // never written to
	due := func(want int) {
		t.Helper()
		got, err := w.Due(ctx)
		if err != nil || len(got) != want {
			t.Fatalf("%d due at %s, %v; want %d", len(got), w.clock(), err, want)
		}
	}
	w.pass(5 * day)
	due(0)
	w.pass(4 * day)
	due(1)
	peers, _ := w.Due(ctx)
	if f := w.RefreshOne(ctx, peers[0]); f.Outcome != keydir.Found || f.Stale {
		t.Errorf("refreshed: %+v", f)
	}
	due(0)
	if d.requests() != 2 {
		t.Errorf("%d requests, want 2", d.requests())
	}
	w.pass(70 * day)
	due(0) // not active anymore; refreshing is no use of it

	w.find(bob)
	w.pass(10 * day)
	stop, cancel := context.WithCancel(ctx)
	d.set(404)
	done := make(chan error)
	came := d.next()
	go func() { done <- w.Refresh(stop) }()
	<-came
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Refresh: %v", err)
	}
}

// Neither the log at info level, nor errors, say who is written to.
func TestLogsNameNobodyAboveDebug(t *testing.T) {
	w, a, b := newWorld(t), key(t, bob), key(t, bob)
	d := w.directory()
	d.set(200, a)
	w.find(bob)
	d.set(200, b)
	w.pass(2 * day)
	w.find(bob)
	w.mu.Lock()
	defer w.mu.Unlock()
	if !bytes.Contains(w.logged.Bytes(), []byte("level=WARN")) {
		t.Error("a changed certificate is not logged")
	}
	for line := range strings.Lines(w.logged.String()) {
		if strings.Contains(line, "bob") && !strings.Contains(line, "level=DEBUG") {
			t.Errorf("%s", line)
		}
	}
}

func BenchmarkFind(b *testing.B) {
	s, err := store.OpenMemory(keydir.Schema)
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	r, err := keydir.New(keydir.Config{Store: s, Now: func() time.Time { return start }, Discovery: keydir.Discovery{Sources: []string{}}})
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	if err := r.Import(ctx, certs(key(b, bob)), bob, pgp.Confirmed); err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	for range b.N {
		if f, err := r.Find(ctx, bob); err != nil || len(f.Certificates) != 1 {
			b.Fatal(f, err)
		}
	}
}

// Goal: a cold look-up over a loopback Web Key Directory in at most 5 ms; a cached
// one (BenchmarkFind) in at most 20 µs.
func BenchmarkFindCold(b *testing.B) {
	cert := key(b, bob).Certificate().Bytes()
	base := loopbackServer(b, func(rw http.ResponseWriter, _ *http.Request) { rw.Write(cert) })
	for name, d := range map[string]keydir.Discovery{
		"wkd":           {Sources: []string{"wkd"}, Override: map[string]string{"example.org": base}},
		"wkd, vks, hkp": {Sources: []string{"wkd", "vks", "hkp"}, Override: map[string]string{"example.org": base}, VKS: []string{base}, HKP: []string{base}},
	} {
		b.Run(name, func(b *testing.B) {
			s, err := store.OpenMemory(keydir.Schema)
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			r, err := keydir.New(keydir.Config{Store: s, Now: func() time.Time { return start }, Discovery: d})
			if err != nil {
				b.Fatal(err)
			}
			defer r.Close()
			for b.Loop() {
				if f, err := r.Find(ctx, bob); err != nil || len(f.Certificates) != 1 {
					b.Fatal(f, err)
				}
				b.StopTimer()
				if err := r.Forget(ctx, bob); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
	}
}

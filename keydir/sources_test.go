package keydir_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/keydir/server"
	"letterlock.org/letterlock/pgp"
)

const vksHost, hkpHost = "vks.example", "hkp.example"

// thirdParties has the world ask key servers too, beside the sources named.
func thirdParties(sources ...string) func(*keydir.Config) {
	return func(c *keydir.Config) {
		c.Sources = append([]string{"vks", "hkp"}, sources...)
		c.VKS, c.HKP = []string{"https://" + vksHost}, []string{"hkps://" + hkpHost}
		c.Network.Grace = time.Minute // who is slow is waited for
	}
}

// server gives a key server what it has.
func (w *world) server(host string, keys ...*pgp.Key) *directory {
	d := &directory{}
	if d.set(200, keys...); len(keys) == 0 {
		d.set(404)
	}
	w.web(host, host, d.ServeHTTP)
	return d
}

// The table of the package's documentation, row by row.
func TestWhoseWordCounts(t *testing.T) {
	k, other := key(t, bob), key(t, bob)
	type set = func(w *world)
	wkd := map[string]set{
		"found":        func(w *world) { w.web(advanced, advanced, body("", k.Certificate().Bytes())) },
		"absent":       func(w *world) { w.web(advanced, advanced, status(404)) },
		"no-directory": func(w *world) { w.refuse(advanced) },
		"unavailable":  func(w *world) { w.web(advanced, advanced, status(503)) },
		"no name":      func(w *world) {}, // neither of the two exists
		"web server":   func(w *world) { w.web("example.org", "example.org", status(404)) },
		"not asked":    func(w *world) {},
	}
	third := map[string]func(w *world, host string){
		"found":   func(w *world, host string) { w.server(host, other) },
		"several": func(w *world, host string) { w.server(host, other, k) },
		"absent":  func(w *world, host string) { w.server(host) },
		"unavailable": func(w *world, host string) {
			if host == hkpHost {
				w.refuse(host) // nothing that a server which we chose may do is absence
				return
			}
			w.web(host, host, status(503))
		},
	}
	type want struct {
		outcome  keydir.Outcome
		problem  string
		identity pgp.Identity
		keys     []*pgp.Key
	}
	found := want{keydir.Found, "", pgp.Directory, []*pgp.Key{k}}
	firstSeen := want{keydir.Found, "", pgp.FirstSeen, []*pgp.Key{other}}
	conflict := want{keydir.Found, keydir.ProblemConflict, pgp.Conflict, nil}
	is := func(o keydir.Outcome) want { return want{outcome: o} }
	tests := []struct {
		domain, vks, hkp string
		want             want
	}{
		{"found", "found", "found", found},
		{"found", "several", "several", found},
		{"found", "absent", "absent", found},
		{"found", "unavailable", "unavailable", found},

		{"unavailable", "found", "found", is(keydir.Unavailable)},
		{"unavailable", "several", "several", is(keydir.Unavailable)},
		{"unavailable", "absent", "absent", is(keydir.Unavailable)},
		{"unavailable", "unavailable", "unavailable", is(keydir.Unavailable)},

		{"absent", "found", "found", firstSeen},
		{"absent", "found", "several", firstSeen}, // the surer one is believed
		{"absent", "found", "unavailable", firstSeen},
		{"absent", "absent", "found", firstSeen},
		{"absent", "unavailable", "found", firstSeen},
		{"absent", "several", "found", conflict},
		{"absent", "absent", "several", conflict},
		{"absent", "absent", "absent", is(keydir.Absent)},
		{"absent", "unavailable", "unavailable", is(keydir.Absent)},

		{"no-directory", "found", "absent", firstSeen},
		{"no-directory", "absent", "several", conflict},
		{"no-directory", "absent", "absent", is(keydir.NoDirectory)},
		{"no-directory", "absent", "unavailable", is(keydir.Unavailable)},
		{"no-directory", "unavailable", "absent", is(keydir.Unavailable)},
		{"no-directory", "unavailable", "found", firstSeen},

		// A missing name and a web server's 404 are not a directory's word.
		{"no name", "absent", "absent", is(keydir.Absent)},
		{"no name", "found", "unavailable", firstSeen},
		{"no name", "unavailable", "absent", is(keydir.Unavailable)},
		{"no name", "absent", "unavailable", is(keydir.Unavailable)},
		{"web server", "absent", "absent", is(keydir.Absent)},
		{"web server", "unavailable", "absent", is(keydir.Unavailable)},

		{"not asked", "found", "absent", firstSeen},
		{"not asked", "several", "absent", conflict},
		{"not asked", "absent", "absent", is(keydir.NoDirectory)},
		{"not asked", "unavailable", "absent", is(keydir.Unavailable)},
		{"not asked", "unavailable", "found", firstSeen},
	}
	for _, tt := range tests {
		t.Run("domain "+tt.domain+", vks "+tt.vks+", hkp "+tt.hkp, func(t *testing.T) {
			t.Parallel()
			sources := []string{"wkd"}
			if tt.domain == "not asked" {
				sources = nil
			}
			w := newWorld(t, thirdParties(sources...))
			wkd[tt.domain](w)
			third[tt.vks](w, vksHost)
			third[tt.hkp](w, hkpHost)
			for range 2 { // also from memory
				f := w.finds("", bob, tt.want.outcome, tt.want.problem, tt.want.identity, tt.want.keys...)
				if f.Known != (tt.want.outcome == keydir.Found) {
					t.Errorf("known: %v", f.Known)
				}
			}
			w.open()
			f := w.finds("after a restart", bob, tt.want.outcome, tt.want.problem, tt.want.identity, tt.want.keys...)
			if byDomain := f.Source == "wkd"; byDomain != (tt.domain == "found") {
				t.Errorf("source %q", f.Source)
			}
		})
	}
}

// Each source is told on its own, whoever settled it.
func TestEachSourceIsTold(t *testing.T) {
	w := newWorld(t, thirdParties("wkd"))
	w.web(advanced, advanced, status(404))
	w.server(vksHost)
	w.web(hkpHost, hkpHost, status(500))
	var got []string
	for _, a := range w.find(bob).Attempts {
		got = append(got, a.Source+" "+string(a.Outcome)+" "+a.Detail)
	}
	want := []string{"hkp unavailable hkp.example answered 500", "vks absent vks.example answered 404", "wkd-advanced absent its directory answered 404"}
	for _, s := range want {
		if !slices.Contains(got, s) {
			t.Errorf("attempts %q: no %q", got, s)
		}
	}
}

// What third parties say of somebody whose certificate is known changes nothing
// but its states.
func TestThirdPartiesOnlyBringStatesOfWhatIsPinned(t *testing.T) {
	k, other := key(t, bob), key(t, bob)
	gone := revoked(t, k, start)

	w := newWorld(t, thirdParties("wkd"))
	d, v := w.directory(), w.server(vksHost, other)
	w.server(hkpHost, other)
	d.set(200, k)
	w.find(bob)
	w.pass(2 * day)
	w.finds("another at third parties", bob, keydir.Found, "", pgp.Directory, k)
	if p, _, _ := w.Show(ctx, bob); len(p.Candidates) > 0 {
		t.Errorf("candidates of third parties beside a pin: %v", p.Candidates)
	}
	d.set(404)
	w.pass(2 * day)
	w.finds("another at third parties, and gone from the directory", bob, keydir.Found, "", pgp.Directory, k)
	v.setBody(gone)
	w.pass(2 * day)
	w.finds("revoked at a third party", bob, keydir.Found, keydir.ProblemRevoked, pgp.Directory)
	v.set(200, other)
	w.pass(2 * day)
	f := w.finds("a verified one beside what is revoked", bob, keydir.Found, keydir.ProblemRevoked, pgp.Directory)
	if !strings.Contains(f.Detail, string(other.Fingerprint())) {
		t.Errorf("detail %q does not name the candidate", f.Detail)
	}
	w.must(w.Accept(ctx, bob, other.Fingerprint()))
	w.finds("accepted", bob, keydir.Found, "", pgp.FirstSeen, other)
}

func TestThirdPartiesAskedByFingerprint(t *testing.T) {
	w := newWorld(t, thirdParties("wkd"))
	k := key(t, bob)
	w.directory().set(404)
	v, h := w.server(vksHost, k), w.server(hkpHost)
	w.finds("found", bob, keydir.Found, "", pgp.FirstSeen, k)
	asked := func() (paths []string) {
		for _, req := range w.requests() {
			if req.Host != advanced {
				paths = append(paths, req.Host+req.URL.String())
			}
		}
		slices.Sort(paths)
		return paths
	}
	want := []string{
		hkpHost + "/pks/lookup?exact=on&op=get&options=mr&search=bob%40example.org",
		vksHost + "/vks/v1/by-email/bob@example.org",
	}
	if got := asked(); !slices.Equal(got, want) {
		t.Errorf("first contact asked %q, want %q", got, want)
	}
	w.pass(2 * day)
	w.finds("kept", bob, keydir.Found, "", pgp.FirstSeen, k)
	want = append(want, hkpHost+"/pks/lookup?exact=on&op=get&options=mr&search=0x"+string(k.Fingerprint()), vksHost+"/vks/v1/by-fingerprint/"+string(k.Fingerprint()))
	slices.Sort(want)
	v.set(200, key(t, bob), k)
	h.set(200, key(t, bob))
	w.pass(2 * day)
	var outcomes []keydir.Outcome
	for _, a := range w.finds("others than were asked for", bob, keydir.Found, "", pgp.FirstSeen, k).Attempts {
		if a.Source == "vks" || a.Source == "hkp" {
			outcomes = append(outcomes, a.Outcome)
		}
	}
	if slices.Sort(outcomes); !slices.Equal(outcomes, []keydir.Outcome{keydir.Found, keydir.Unavailable}) {
		t.Errorf("by fingerprint: %v", outcomes)
	}
	if got := slices.Compact(asked()); !slices.Equal(got, want) {
		t.Errorf("a refresh asked %q, want %q", got, want)
	}
}

// patient waits for an answer however busy the machine is, where what is stored would
// do.
func patient(c *keydir.Config) { c.Network.Refetch = time.Minute }

// The domain's word takes the place of a third party's, and settles its conflict.
func TestDomainOutranksThirdParties(t *testing.T) {
	k, wrong, wronger := key(t, bob), key(t, bob), key(t, bob)
	w := newWorld(t, thirdParties("wkd"), patient)
	d := w.directory()
	w.server(vksHost, wrong)
	w.server(hkpHost)
	d.set(404)
	w.finds("a third party's", bob, keydir.Found, "", pgp.FirstSeen, wrong)
	d.set(200, k)
	w.pass(2 * day)
	w.finds("the domain's", bob, keydir.Found, "", pgp.Directory, k)

	w = newWorld(t, thirdParties("wkd"), patient)
	d = w.directory()
	v := w.server(vksHost, wrong, wronger)
	w.server(hkpHost)
	d.set(404)
	w.finds("third parties' conflict", bob, keydir.Found, keydir.ProblemConflict, pgp.Conflict)
	v.set(200, wrong)
	w.pass(2 * day)
	w.finds("no third party ends it", bob, keydir.Found, keydir.ProblemConflict, pgp.Conflict)
	if p, _, _ := w.Show(ctx, bob); len(p.Pins) != 0 || len(p.Candidates) != 2 {
		t.Errorf("%d pins, %d candidates while third parties contradict each other", len(p.Pins), len(p.Candidates))
	}
	d.set(200, k)
	w.pass(2 * day)
	w.finds("the domain does", bob, keydir.Found, "", pgp.Directory, k)
}

// A conflict that the domain's directory made is not ended by a third party.
func TestThirdPartyEndsNoConflict(t *testing.T) {
	k, next := key(t, bob), key(t, bob)
	w := newWorld(t, thirdParties("wkd"))
	d := w.directory()
	w.server(vksHost, next)
	w.server(hkpHost, k)
	d.set(200, k)
	w.find(bob)
	w.signs(k, 2)
	d.set(200, next)
	w.finds("contradicted", bob, keydir.Found, keydir.ProblemConflict, pgp.Conflict)
	d.set(404)
	w.pass(2 * day)
	w.finds("gone", bob, keydir.Found, keydir.ProblemConflict, pgp.Conflict)
}

// What key servers may answer.
func TestKeyServerAnswers(t *testing.T) {
	k := key(t, bob)
	cert := k.Certificate().Bytes()
	stranger := key(t, carol).Certificate().Bytes()
	tests := []struct {
		name   string
		answer http.HandlerFunc
		want   keydir.Outcome // of the attempt
		says   string
	}{
		{"armored", body("application/pgp-keys", []byte(k.Certificate().Armored())), keydir.Found, "1 certificate"},
		{"binary", body("", cert), keydir.Found, "1 certificate"},
		{"among others'", body("", append(slices.Clone(stranger), cert...)), keydir.Found, "1 certificate"},
		{"of others only", body("", stranger), keydir.Absent, "other addresses only"},
		{"flooded", body("", many(t, 17)), keydir.Unavailable, "17 certificates"},
		{"too long", body("", make([]byte, 257<<10)), keydir.Unavailable, "256 KiB"},
		{"a secret key", body("", k.Marshal()), keydir.Unavailable, "secret key"},
		{"rate limited", status(429), keydir.Unavailable, "429"},
		{"a web page", body("text/html", []byte("<html>no keys")), keydir.Unavailable, "web page"},
		{"a redirect away", redirect("https://else.example/"), keydir.Unavailable, "redirects"},
		{"nothing", body("", nil), keydir.Unavailable, "empty"},
	}
	for _, kind := range []string{"vks", "hkp"} {
		for _, tt := range tests {
			t.Run(kind+" answers "+tt.name, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, thirdParties("wkd"))
				w.web(advanced, advanced, status(404))
				w.web(vksHost, vksHost, status(404))
				w.web(kind+".example", kind+".example", tt.answer)
				if kind != "hkp" {
					w.server(hkpHost)
				}
				f := w.find(bob)
				i := slices.IndexFunc(f.Attempts, func(a keydir.Attempt) bool { return a.Source == kind })
				if i < 0 || f.Attempts[i].Outcome != tt.want || !strings.Contains(f.Attempts[i].Detail, tt.says) {
					t.Fatalf("attempts %+v, want %s %s", f.Attempts, tt.want, tt.says)
				}
				want := keydir.Absent
				if tt.want == keydir.Found {
					want = keydir.Found
				}
				if f.Outcome != want {
					t.Errorf("%q, want %q: the domain has said that it has none", f.Outcome, want)
				}
			})
		}
	}
}

// A key server whose name leads into our own network is not asked; one that the
// configuration names by number is.
func TestKeyServersOfOurOwnNetwork(t *testing.T) {
	k := key(t, bob)
	w := newWorld(t, thirdParties("wkd"))
	w.web(advanced, advanced, status(404))
	w.resolve(vksHost, "10.0.0.1")
	w.resolve(hkpHost, "127.0.0.1")
	f := w.finds("private addresses", bob, keydir.Absent, "", pgp.Unknown)
	if n := len(f.Attempts); n != 3 || len(w.connectedTo()) != 1 {
		t.Errorf("%+v; dialed %s", f.Attempts, w.connectedTo())
	}
	var d directory
	d.set(200, k)
	base := loopbackServer(t, d.ServeHTTP)
	w = newWorld(t, func(c *keydir.Config) {
		c.Sources, c.HKP = []string{"hkp"}, []string{strings.Replace(base, "http://", "hkp://", 1)}
	})
	w.finds("by number", bob, keydir.Found, "", pgp.FirstSeen, k)
}

// Slow third parties delay nobody whose directory has answered.
func TestSlowThirdParties(t *testing.T) {
	k := key(t, bob)
	w := newWorld(t, thirdParties("wkd"), func(c *keydir.Config) { c.Network.Timeout, c.Network.Grace = 10*time.Minute, 100*time.Millisecond })
	leave := make(chan struct{})
	defer close(leave)
	slow := func(http.ResponseWriter, *http.Request) { <-leave }
	w.web(advanced, advanced, body("", k.Certificate().Bytes()))
	w.web(vksHost, vksHost, slow)
	w.web(hkpHost, hkpHost, slow)
	began := time.Now()
	f := w.finds("found", bob, keydir.Found, "", pgp.Directory, k)
	if took := time.Since(began); took > 5*time.Minute {
		t.Errorf("waited %s", took)
	}
	for _, a := range f.Attempts {
		if a.Source == "vks" && (a.Outcome != keydir.Unavailable || !strings.Contains(a.Detail, "not waited")) {
			t.Errorf("%+v", a)
		}
	}
}

func TestSourcesNeedServers(t *testing.T) {
	for _, tt := range []struct {
		name string
		d    keydir.Discovery
		says string
	}{
		{"vks without one", keydir.Discovery{Sources: []string{"vks"}}, `"vks" has no server`},
		{"hkp without one", keydir.Discovery{Sources: []string{"hkp"}, VKS: []string{"https://x"}}, `"hkp" has no server`},
		{"in clear", keydir.Discovery{Sources: []string{"vks"}, VKS: []string{"http://keys.example"}}, "write https://"},
		{"hkp is no scheme of vks", keydir.Discovery{Sources: []string{"vks"}, VKS: []string{"hkp://keys.example"}}, "write https://"},
		{"a password", keydir.Discovery{Sources: []string{"hkp"}, HKP: []string{"https://u:hunter2@keys.example"}}, "no server"},
		{"too many", keydir.Discovery{Sources: []string{"hkp"}, HKP: make([]string, 9)}, "at most 8"},
	} {
		w := newWorld(t)
		if err := w.Replace(tt.d); err == nil || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// Third parties that are configured, but not named as sources, are not asked.
func TestSourcesAreOptedInto(t *testing.T) {
	w := newWorld(t, thirdParties(), func(c *keydir.Config) { c.Sources = nil })
	v := w.server(vksHost, key(t, bob))
	w.finds("not asked", bob, keydir.Absent, "", pgp.Unknown)
	if v.requests() > 0 {
		t.Error("asked")
	}
}

// Our own server is found as a key server, by address and by fingerprint, and
// what it tells of a revocation holds.
func TestKeyServerAgainstOurServer(t *testing.T) {
	for _, kind := range []string{"vks", "hkp"} {
		t.Run(kind, func(t *testing.T) {
			st, err := store.OpenMemory(server.Schema)
			if err != nil {
				t.Fatal(err)
			}
			defer st.Close()
			w, k := newWorld(t), key(t, bob)
			d := server.NewDirectory(st)
			d.Now = w.clock
			w.must(d.Add(ctx, bob, k.Certificate()))
			base := loopbackServer(t, server.New(server.Config{Directory: d, Domains: []string{"example.org"}, Now: w.clock}).ServeHTTP)
			w.must(w.Replace(keydir.Discovery{Sources: []string{kind}, VKS: []string{base}, HKP: []string{base}}))
			w.finds("published", bob, keydir.Found, "", pgp.FirstSeen, k)
			w.finds("not published", carol, keydir.NoDirectory, "", pgp.Unknown)
			gone, err := pgp.ParseCertificates(revoked(t, k, w.clock()))
			w.must(err)
			w.must(d.Add(ctx, bob, gone[0]))
			w.pass(2 * day)
			w.finds("revoked", bob, keydir.Found, keydir.ProblemRevoked, pgp.FirstSeen)
		})
	}
}

// Reading asks no key server either, of whom nothing is known least of all.
func TestReadingAsksNoKeyServer(t *testing.T) {
	w := newWorld(t, thirdParties("wkd"))
	v, h, k := w.server(vksHost, key(t, bob)), w.server(hkpHost, key(t, bob)), key(t, carol)
	if _, err := w.Issuer(ctx, k.Certificate().KeyIDs()[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Stored(ctx, bob); err != nil {
		t.Fatal(err)
	}
	w.identity(k)
	w.sees(k)
	w.signs(k, 2)
	w.hears(key(t, dave), []address.Address{carol}, gossipOf(carol, k))
	if n := v.requests() + h.requests(); n > 0 || len(w.lookedUp()) > 0 {
		t.Errorf("%d requests, looked up %s", n, w.lookedUp())
	}
}

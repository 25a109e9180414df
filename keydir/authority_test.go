package keydir_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/pgp"
)

var ca = keydir.AuthorityAddress("example.org")

// trusting names the authority of example.org in the configuration.
func trusting(k *pgp.Key) func(*keydir.Config) {
	return func(c *keydir.Config) {
		c.Authorities = map[string]pgp.Fingerprint{"example.org": pgp.Fingerprint(strings.ToLower(string(k.Fingerprint())))}
	}
}

func certified(t *testing.T, by *pgp.Key, k *pgp.Key, a address.Address, s pgp.Certification, now time.Time) *pgp.Certificate {
	t.Helper()
	c, err := pgp.Certify(by, k.Certificate(), a, s, now)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// people serves certificates by local part, as a directory does.
func (w *world) people(byLocal map[string]*pgp.Certificate) {
	w.t.Helper()
	w.resolve("openpgpkey.example.org", "203.0.113.1")
	w.web("openpgpkey.example.org", "openpgpkey.example.org", func(rw http.ResponseWriter, req *http.Request) {
		if c := byLocal[req.URL.Query().Get("l")]; c != nil {
			_, _ = rw.Write(c.Bytes())
			return
		}
		http.NotFound(rw, req)
	})
}

func TestAuthorityOfADomain(t *testing.T) {
	k, authority, stranger := key(t, bob), key(t, ca), key(t, ca)
	year := pgp.Certification{Expires: start.Add(365 * day)}
	for _, tt := range []struct {
		name   string
		by     *pgp.Key
		says   pgp.Certification
		trust  []func(*keydir.Config)
		accept bool
		want   pgp.Identity
	}{
		{"what the configured authority certified is the organisation's", authority, year, []func(*keydir.Config){trusting(authority)}, false, pgp.Organisation},
		{"and of one that a person accepted", authority, year, nil, true, pgp.Organisation},
		{"an authority that nobody accepted is a stranger, though the directory has it", authority, year, nil, false, pgp.Directory},
		{"another's word doesn't count", stranger, year, []func(*keydir.Config){trusting(authority)}, true, pgp.Directory},
		{"a certification that has expired neither", authority, pgp.Certification{Expires: start.Add(-time.Hour)}, []func(*keydir.Config){trusting(authority)}, false, pgp.Directory},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, tt.trust...)
			w.people(map[string]*pgp.Certificate{"bob": certified(t, tt.by, k, bob, tt.says, start.Add(-2*time.Hour)), ca.Local: authority.Certificate()})
			if tt.accept {
				w.find(ca)
				w.must(w.Accept(ctx, ca, authority.Fingerprint()))
			}
			w.finds("first contact", bob, keydir.Found, "", tt.want, k)
		})
	}
}

func TestAuthorityCountsForItsOwnDomainAlone(t *testing.T) {
	authority := key(t, ca)
	dave := address.Address{Local: "dave", Domain: "example.net"}
	k := key(t, dave)
	w := newWorld(t, trusting(authority))
	w.must(w.Import(ctx, []*pgp.Certificate{authority.Certificate()}, ca, pgp.FirstSeen))
	w.must(w.Import(ctx, []*pgp.Certificate{certified(t, authority, k, dave, pgp.Certification{}, start.Add(-time.Hour))}, dave, pgp.FirstSeen))
	if id, err := w.Identity(ctx, dave, k.Fingerprint()); err != nil || id != pgp.FirstSeen {
		t.Errorf("got %q, %v", id, err)
	}
	// Nor does it make itself surer, or what it certified authorities.
	if id, err := w.Identity(ctx, ca, authority.Fingerprint()); err != nil || id != pgp.FirstSeen {
		t.Errorf("itself: %q, %v", id, err)
	}
	middle := key(t, bob)
	w.must(w.Import(ctx, []*pgp.Certificate{certified(t, authority, middle, bob, pgp.Certification{Depth: 1, Scope: "example.org"}, start.Add(-time.Hour))}, bob, pgp.FirstSeen))
	end := key(t, carol)
	w.must(w.Import(ctx, []*pgp.Certificate{certified(t, middle, end, carol, pgp.Certification{}, start.Add(-time.Hour))}, carol, pgp.FirstSeen))
	if id, err := w.Identity(ctx, carol, end.Fingerprint()); err != nil || id != pgp.FirstSeen {
		t.Errorf("two steps away: %q, %v", id, err)
	}
}

func TestAuthoritysWordEnds(t *testing.T) {
	k, authority := key(t, bob), key(t, ca)
	w := newWorld(t, trusting(authority))
	people := map[string]*pgp.Certificate{"bob": certified(t, authority, k, bob, pgp.Certification{Expires: start.Add(30 * day)}, start.Add(-time.Hour)), ca.Local: authority.Certificate()}
	w.people(people)
	w.finds("certified", bob, keydir.Found, "", pgp.Organisation, k)
	w.pass(31 * day)
	w.finds("no longer", bob, keydir.Found, "", pgp.Directory, k)
	w.Settle()
	people["bob"] = certified(t, authority, k, bob, pgp.Certification{}, w.clock())
	w.pass(2 * day)
	w.finds("again", bob, keydir.Found, "", pgp.Organisation, k)
	w.Settle()
	w.must(w.Verify(ctx, bob, k.Fingerprint()))
	people[ca.Local] = revoke(t, authority, pgp.Compromised, w.clock()).Certificate()
	w.pass(8 * day)
	w.find(bob) // the authority is asked beside it, and nobody waits
	w.Settle()
	w.pass(8 * day)
	w.finds("what a person compared stays so without the authority", bob, keydir.Found, "", pgp.Confirmed, k)
	w.must(w.Forget(ctx, bob))
	w.finds("a stranger again", bob, keydir.Found, "", pgp.Directory, k)
}

// Who left the organisation loses its word, wherever an older copy comes from.
func TestAuthorityTakesItsWordBack(t *testing.T) {
	k, authority := key(t, bob), key(t, ca)
	w := newWorld(t, trusting(authority))
	before := certified(t, authority, k, bob, pgp.Certification{}, start.Add(-time.Hour))
	people := map[string]*pgp.Certificate{"bob": before, ca.Local: authority.Certificate()}
	w.people(people)
	w.finds("certified", bob, keydir.Found, "", pgp.Organisation, k)
	w.pass(2 * day)
	withdrawn, err := pgp.Withdraw(authority, k.Certificate(), bob, w.clock())
	if err != nil {
		t.Fatal(err)
	}
	w.Settle()
	people["bob"] = withdrawn
	w.finds("withdrawn", bob, keydir.Found, "", pgp.Directory, k)
	w.Settle()
	people["bob"] = before
	w.pass(2 * day)
	w.finds("an older copy is served", bob, keydir.Found, "", pgp.Directory, k)
	w.must(w.Import(ctx, []*pgp.Certificate{before}, bob, pgp.FirstSeen))
	w.finds("and imported", bob, keydir.Found, "", pgp.Directory, k)
	w.Settle()
	people["bob"] = certified(t, authority, k, bob, pgp.Certification{}, w.clock())
	w.pass(2 * day)
	w.finds("certified anew", bob, keydir.Found, "", pgp.Organisation, k)
}

func TestAuthoritiesThatAreNone(t *testing.T) {
	for _, bad := range []map[string]pgp.Fingerprint{{"example.org": "ABC"}, {"not a domain": "0123456789ABCDEF0123456789ABCDEF01234567"}, {"example.org": "G123456789ABCDEF0123456789ABCDEF01234567"}} {
		w := newWorld(t)
		if err := w.Replace(keydir.Discovery{Authorities: bad}); err == nil {
			t.Errorf("%v was taken", bad)
		}
	}
}

// The authority's own address, in another spelling, doesn't wait for itself, nor
// does an authority raise itself.
func TestTheAuthorityItselfIsNobodysPeople(t *testing.T) {
	authority := key(t, ca)
	w := newWorld(t, trusting(authority), func(c *keydir.Config) { c.Network.Timeout, c.Network.Refetch = time.Minute, time.Minute })
	w.people(map[string]*pgp.Certificate{"OpenPGP-CA": authority.Certificate()})
	w.finds("in another spelling", address.Address{Local: "OpenPGP-CA", Domain: "example.org"}, keydir.Found, "", pgp.Directory, authority)
}

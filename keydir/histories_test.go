package keydir_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/pgp"
)

// history is a random life of one contact, and what must hold at every step.
type history struct {
	*world
	d     *directory
	rand  *rand.Rand
	steps []string
	pool  []*pgp.Key // bob's keys: two strangers to each other, and heirs
	state map[pgp.Fingerprint]*pgp.Key
}

func newHistory(t *testing.T, seed uint64) *history {
	w := newWorld(t)
	h := &history{world: w, d: w.directory(), rand: rand.New(rand.NewPCG(seed, 1)), state: map[pgp.Fingerprint]*pgp.Key{}}
	a, b := key(t, bob), key(t, bob)
	h.pool = []*pgp.Key{a, b, heir(t, a, start), heir(t, b, start)}
	h.pool = append(h.pool, heir(t, h.pool[2], start))
	for _, k := range h.pool {
		h.state[k.Fingerprint()] = k
	}
	return h
}

func (h *history) name(f pgp.Fingerprint) string {
	return fmt.Sprintf("k%d", slices.IndexFunc(h.pool, func(k *pgp.Key) bool { return k.Fingerprint() == f }))
}

// any is a key in its latest state.
func (h *history) any() *pgp.Key { return h.state[h.pool[h.rand.IntN(len(h.pool))].Fingerprint()] }

// step does something, and tells whether a person did.
func (h *history) step() (person bool) {
	k := h.any()
	f, what := k.Fingerprint(), ""
	seen := keydir.Observation{From: bob, Date: h.clock()}
	var err error
	switch n := h.rand.IntN(20); {
	case n < 3:
		what = "serves " + h.name(f)
		h.d.set(200, k)
	case n == 3:
		other := h.any()
		what = "serves " + h.name(f) + " " + h.name(other.Fingerprint())
		h.d.set(200, k, other)
	case n == 4:
		status := []int{404, 503}[h.rand.IntN(2)]
		what = fmt.Sprint("answers ", status)
		h.d.set(status)
	case n < 8:
		what = "autocrypt " + h.name(f)
		seen.Autocrypt = []string{header(bob, k)}
		err = h.Observe(ctx, seen)
	case n < 12:
		what = "signed by " + h.name(f)
		seen.Signer = f
		err = h.Observe(ctx, seen)
	case n == 12:
		what = "import " + h.name(f)
		err = h.Import(ctx, []*pgp.Certificate{k.Certificate()}, bob, pgp.FirstSeen)
		person = true
	case n == 13:
		what, person = "accept "+h.name(f), true
		err = h.Accept(ctx, bob, f)
	case n == 14:
		what, person = "verify "+h.name(f), true
		err = h.Verify(ctx, bob, f)
	case n == 15:
		why := []pgp.Reason{pgp.Compromised, pgp.Superseded}[h.rand.IntN(2)]
		if k.Certificate().Revoked(h.clock().Add(time.Second)) {
			break
		}
		what = fmt.Sprint("revoked as ", why, " ", h.name(f))
		gone, errRevoke := pgp.Revoke(k, why, h.clock())
		h.must(errRevoke)
		h.state[f] = gone
	default:
		d := []time.Duration{time.Hour, 25 * time.Hour, 8 * day, 31 * day}[h.rand.IntN(4)]
		what = fmt.Sprint("passes ", d)
		h.pass(d)
	}
	for _, allowed := range []error{keydir.ErrUnknown, keydir.ErrNothing, keydir.ErrSeveral, keydir.ErrFingerprint, keydir.ErrContradicts, keydir.ErrAddress} {
		if errors.Is(err, allowed) {
			err = nil
		}
	}
	h.must(err)
	h.steps = append(h.steps, what)
	return person
}

func (h *history) peer() keydir.Peer {
	p, _, err := h.Show(ctx, bob)
	if err != nil && !errors.Is(err, keydir.ErrUnknown) {
		h.t.Fatal(err)
	}
	return p
}

func pinned(p keydir.Peer, f pgp.Fingerprint) *keydir.Binding {
	for i := range p.Pins {
		if p.Pins[i].Fingerprint == f {
			return &p.Pins[i]
		}
	}
	return nil
}

// settled: contradicting the pin needs a person.
func settled(b keydir.Binding) bool {
	return b.Signed.Sub(b.SignedFrom) >= day || b.Identity.AtLeast(pgp.Organisation) || b.Source == "accepted"
}

// check holds a step against the rules: before and after it, and what a send finds.
func (h *history) check(person bool, before, after keydir.Peer, f keydir.Finding, wasKnown bool) error {
	now := h.clock()
	for _, old := range before.Pins {
		b := pinned(after, old.Fingerprint)
		if b != nil && !b.Identity.AtLeast(old.Identity) {
			return fmt.Errorf("the identity of %s fell from %s to %s", h.name(old.Fingerprint), old.Identity, b.Identity)
		}
		if b != nil || person {
			continue
		}
		// It was replaced: told in any case, and by its own word if it was settled.
		told := slices.ContainsFunc(after.Changes, func(c keydir.Change) bool { return slices.Contains(c.From, old.Fingerprint) })
		if !told {
			return fmt.Errorf("%s was replaced in silence", h.name(old.Fingerprint))
		}
		if !settled(old) {
			continue
		}
		named := slices.ContainsFunc(after.Pins, func(b keydir.Binding) bool {
			return h.state[b.Fingerprint].Certificate().Succeeds(h.pool0(old.Fingerprint), bob, now) && b.After == old.Fingerprint && !b.Identity.AtLeast(pgp.Organisation)
		})
		if !named {
			return fmt.Errorf("%s (%s, %s) was replaced without a person or its own word", h.name(old.Fingerprint), old.Identity, old.Source)
		}
	}
	switch {
	case f.Problem != "" && len(f.Certificates) > 0:
		return fmt.Errorf("encrypts though there is %s", f.Problem)
	case wasKnown && !f.Known:
		return errors.New("forgot that there was a certificate")
	case wasKnown && f.Outcome != keydir.Found && f.Outcome != keydir.Unavailable:
		return fmt.Errorf("a contact with a certificate became %s", f.Outcome)
	}
	for _, c := range f.Certificates {
		b := pinned(after, c.Fingerprint())
		switch {
		case b == nil:
			return fmt.Errorf("encrypts to %s, which is not pinned", h.name(c.Fingerprint()))
		case c.CheckEncrypt(now) != nil:
			return fmt.Errorf("encrypts to %s: %w", h.name(c.Fingerprint()), c.CheckEncrypt(now))
		case !b.Identity.AtLeast(f.Identity):
			return fmt.Errorf("says %s of what is %s", f.Identity, b.Identity)
		case b.Identity == pgp.Confirmed && !slices.Contains(h.steps, "verify "+h.name(c.Fingerprint())):
			return errors.New("confirmed without a person")
		}
	}
	return nil
}

// pool0 is a key's certificate before it was revoked.
func (h *history) pool0(f pgp.Fingerprint) *pgp.Certificate {
	i := slices.IndexFunc(h.pool, func(k *pgp.Key) bool { return k.Fingerprint() == f })
	return h.pool[i].Certificate()
}

// TestTrustInRandomHistories: trust only rises by evidence; nothing that is
// settled is replaced without a person or its own word, and nothing in silence;
// a conflict holds until a person, the domain's own return or a successor ends it.
func TestTrustInRandomHistories(t *testing.T) {
	for seed := range uint64(60) {
		h := newHistory(t, seed)
		known := false
		for range 30 {
			before := h.peer()
			person := h.step()
			middle := h.peer()
			f := h.find(bob)
			after := h.peer()
			err := h.check(person, before, middle, keydir.Finding{}, false)
			if err == nil {
				err = h.check(false, middle, after, f, known)
			}
			if err == nil && before.Problem != "" && after.Problem == "" && !person {
				ended := after.Outcome == keydir.Found && slices.ContainsFunc(after.Pins, func(b keydir.Binding) bool { return b.Confirmed.Equal(after.Checked) })
				if !ended {
					err = errors.New("a conflict ended by itself")
				}
			}
			known = known || len(after.Pins) > 0
			if err != nil {
				t.Fatalf("seed %d: %v\nafter %q\nbefore %+v\nafter %+v\nfinding %+v", seed, err, h.steps, before, after, f)
			}
		}
	}
}

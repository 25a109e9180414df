package keydir

import (
	"context"
	"errors"
	"hash/fnv"
	"slices"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/pgp"
)

// findingFor bounds how long a finding is answered from memory alone.
const findingFor = 10 * time.Minute

// Find asks pinned, stored, then all sources. It is for sending: it may touch
// the network, and waits for it for at most 10 s, or 3 s where something is
// stored that can be used; an end of ctx is as a directory that didn't answer.
//
// An error is a fault of our own, a store that fails or was tampered with; the
// Finding is then Unavailable. What directories did is in the Finding.
func (r *Resolver) Find(ctx context.Context, a address.Address) (Finding, error) {
	now := r.now()
	if f, ok := r.cache.finding(a, a.Key(), now); ok {
		return f, nil
	}
	f, ask, err := r.stored(ctx, a, now)
	if err != nil || !ask {
		return f, err
	}
	d := r.asked()
	if !d.asks(a) {
		if !f.Known {
			f.Outcome, f.Detail = NoDirectory, "no directory is asked (discovery.sources)"
			return f, nil
		}
		return d.waitsFor(f), r.used(ctx, a, now)
	}
	budget := r.timeout
	if len(f.Certificates) > 0 {
		budget = r.refetch
	}
	got, ok := r.ask(ctx, a, budget, true)
	if !ok {
		late := Attempt{Source: d.sources[0].name(), Outcome: Unavailable, Detail: "its directory did not answer in time", Took: budget}
		f.Attempts = append(f.Attempts, late)
		if len(f.Certificates) == 0 {
			f.Outcome, f.Detail = Unavailable, late.Detail
		}
		return d.waitsFor(f), nil
	}
	if got.err != nil {
		return unavailable(a, got.err), got.err
	}
	var before []Attempt
	if f.Known {
		before = f.Attempts
	}
	f, _, err = r.stored(ctx, a, r.now())
	f.Attempts = append(before, got.attempts...) // what is stored by now was nobody's answer
	return d.waitsFor(f), err
}

// used notes that somebody is written to, once a day, where no look-up does.
func (r *Resolver) used(ctx context.Context, a address.Address, now time.Time) error {
	p, _, err := r.load(ctx, a)
	if err != nil || now.Sub(p.Used) < freshFor {
		return err
	}
	return r.change(ctx, a, func(_ store.Tx, p *peer) (bool, error) {
		p.Used = now
		return p.stored(), nil
	})
}

// waitsFor settles a finding that waits for the word of the domain's directory,
// where none is asked that gives it: what is too old stays so.
func (d *discovery) waitsFor(f Finding) Finding {
	if f.Known && f.Outcome == Unavailable && f.Problem != ProblemTampered && !d.speaksFor(f.Address) {
		f.Outcome, f.Problem = Found, ProblemGone
	}
	return f
}

// Stored is what is known of an address without asking anybody, for reading: an
// address that nothing is known of is Unavailable.
func (r *Resolver) Stored(ctx context.Context, a address.Address) (Finding, error) {
	f, _, err := r.stored(ctx, a, r.now())
	return f, err
}

// stored is the finding of memory or the store, and whether to ask a directory
// before relying on it.
func (r *Resolver) stored(ctx context.Context, a address.Address, now time.Time) (f Finding, ask bool, err error) {
	if f, ok := r.ours(a, now); ok {
		return f, false, nil
	}
	p, state, err := r.load(ctx, a)
	if err != nil {
		return unavailable(a, err), false, err
	}
	f, ask = p.finding(a, now)
	f.Strengths = strengths(f.Certificates, now)
	if !f.Known && f.Problem == "" {
		f.Plain = r.plain(ctx, a, now)
	}
	source := "stored"
	if f.Source == sourceImport || f.Source == sourceAccepted {
		source = "pinned"
	}
	f.Attempts = []Attempt{{Source: source, Outcome: f.Outcome, Detail: f.Detail}}
	v := &cached{key: a.Key(), peer: p, finding: f}
	if !ask {
		v.from, v.until = now, r.holds(f, p, now)
	}
	r.cache.put(v, state)
	return f, ask, nil
}

// ours is the finding of an address that a certificate of our own names.
func (r *Resolver) ours(a address.Address, now time.Time) (Finding, bool) {
	var certs []*pgp.Certificate
	for _, c := range r.own() {
		if c.Has(a) {
			certs = append(certs, c)
		}
	}
	certs, _ = usable(certs, now)
	if len(certs) == 0 {
		return Finding{}, false
	}
	return Finding{Address: a, Outcome: Found, Certificates: certs, Strengths: strengths(certs, now), Source: "own", Identity: pgp.Confirmed, Known: true, Fetched: now,
		Attempts: []Attempt{{Source: "own", Outcome: Found}}}, true
}

// plain is the address without its tag, if a certificate of that is at hand.
func (r *Resolver) plain(ctx context.Context, a address.Address, now time.Time) address.Address {
	plain, tagged := a.Untagged()
	if !tagged {
		return address.Address{}
	}
	if _, ok := r.ours(plain, now); ok {
		return plain
	}
	p, _, err := r.load(ctx, plain)
	if err != nil { // whoever asks for that one is told
		return address.Address{}
	}
	if f, _ := p.finding(plain, now); len(f.Certificates) == 0 {
		return address.Address{}
	}
	return plain
}

// holds is until when a finding is right: until its source should be asked
// again, or one of its certificates expires, and not for long in any case.
func (r *Resolver) holds(f Finding, p *peer, now time.Time) time.Time {
	until := now.Add(findingFor)
	if p.Until.Before(until) {
		until = p.Until
	}
	for _, c := range f.Certificates {
		if e := c.Expires(); !e.IsZero() && e.Before(until) {
			until = e
		}
	}
	return until
}

// unavailable is the finding where our own store fails: nobody knows.
func unavailable(a address.Address, err error) Finding {
	f := Finding{Address: a, Outcome: Unavailable, Known: true, Detail: "the store can't be read"}
	if errors.Is(err, store.ErrTampered) {
		f.Problem, f.Detail = ProblemTampered, "what is stored of it was changed outside of letterlock"
	}
	return f
}

// ask has all sources asked, once for all who ask at a time, and waits for it.
// The look-up goes on without its callers, and keeps what it learns.
func (r *Resolver) ask(ctx context.Context, a address.Address, budget time.Duration, sending bool) (lookup, bool) {
	start := func(run func()) { r.wait.Go(run) }
	flight := r.flights.join(a.Key(), start, func() lookup { return r.lookup(a, sending) })
	timer := time.NewTimer(budget)
	defer timer.Stop()
	select {
	case <-flight.done:
		return flight.lookup, true
	case <-ctx.Done():
	case <-timer.C:
	}
	return lookup{}, false
}

// lookup asks all sources and stores what they said.
func (r *Resolver) lookup(a address.Address, sending bool) lookup {
	ctx, cancel := context.WithTimeout(r.base, r.timeout)
	defer cancel()
	now := r.now()
	p, _, err := r.load(ctx, a)
	if err != nil {
		return lookup{err: err}
	}
	if _, ask := p.finding(a, now); sending && !ask {
		// Whoever wants to send decided to ask before another look-up ended, which
		// has brought what they want to know.
		return lookup{err: r.used(ctx, a, now)}
	}
	all := []said{{answer{outcome: Unavailable, detail: "too many directories are being asked"}, ofDomain}}
	var out lookup
	authority := r.freshenAuthority(ctx, a)
	release, err := r.flights.slot(ctx)
	if err == nil {
		if d := r.asked(); d.asks(a) {
			all, out.attempts = r.gather(ctx, d, p.question(a, now))
		} else { // since Replace
			all[0].detail = "no directory is asked any more (discovery.sources)"
		}
		release()
	}
	authority()
	ctx, cancel = context.WithTimeout(r.base, 10*time.Second)
	defer cancel()
	var changed, conflict bool
	var got combined
	out.err = r.change(ctx, a, func(tx store.Tx, p *peer) (bool, error) {
		heard, err := r.withDirectories(tx, a, all, now)
		if err != nil {
			return false, err
		}
		if sending {
			p.Address, p.Used = a, now
		}
		got = combine(heard)
		changes := len(p.Changes)
		p.apply(got, now, func(d time.Duration) time.Duration { return jitter(a.Key(), now, d) })
		changed, conflict = len(p.Changes) > changes, p.Problem != ""
		return true, nil
	})
	if changed || conflict {
		r.log.Warn("a contact's certificate changed; `letterlock cert list` tells more", "held", conflict)
	}
	r.log.Debug("directory asked", "address", a.String(), "outcome", string(got.domain.outcome), "detail", got.domain.detail, "others", string(got.third.outcome))
	return out
}

// question is what to ask about an address of which p is known.
func (p *peer) question(a address.Address, now time.Time) question {
	q := question{address: a}
	fit, _ := usable(p.pinned(), now)
	q.search = len(fit) == 0
	for _, b := range p.Pins {
		q.known = append(q.known, b.Fingerprint)
	}
	return q
}

// withDirectories are the answers, where no directory is only what it counts as
// for a domain never seen with one; what shows one is noted.
func (r *Resolver) withDirectories(tx store.Tx, a address.Address, all []said, now time.Time) ([]said, error) {
	all = slices.Clone(all)
	for i := range all {
		s := &all[i]
		if s.word < ofDomain {
			continue
		}
		seen, err := r.seenDirectory(tx, directoryRow(s.source, a.Domain), s.directory, now)
		if err != nil {
			return nil, err
		}
		if s.outcome == NoDirectory && seen {
			s.outcome = Unavailable
			s.detail += ", but the domain had a directory before"
		}
	}
	return all, nil
}

// directoryRow is where it is noted that a domain has a directory of a kind.
func directoryRow(source, domain string) string {
	if source == sourceWKD || source == "" {
		return domain
	}
	return source + " " + domain
}

// jitter is d, give or take a quarter, so that what was asked together isn't
// asked together again. It needs no secrecy.
func jitter(key string, now time.Time, d time.Duration) time.Duration {
	h := fnv.New32a()
	h.Write([]byte(key))
	h.Write([]byte(now.String()))
	return d*3/4 + time.Duration(h.Sum32())%(d/2)
}

package keydir

import (
	"context"
	"runtime/debug"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/mishap"
	"letterlock.org/letterlock/pgp"
)

// word is for whom a source speaks. Greater is surer.
type word int

const (
	ofNobody       word = iota // it is not asked about that address
	ofAnybody                  // whoever uploaded
	ofVerifier                 // a third party that looked whose the address is
	ofDomain                   // whoever has the domain
	ofOrganisation             // the same, by a directory that our operator named for it
)

// identity is what a certificate is known as by that word.
func (w word) identity() pgp.Identity {
	switch w {
	case ofOrganisation:
		return pgp.Organisation
	case ofDomain:
		return pgp.Directory
	}
	return pgp.FirstSeen
}

// question is what sources are asked.
type question struct {
	address address.Address
	// search: by the address. A third party is not asked by it where something
	// fit for use is pinned.
	search bool
	// known are fingerprints of what is pinned; a third party may have a
	// revocation of it.
	known []pgp.Fingerprint
}

// source is somebody who can be asked for certificates. It may be asked
// concurrently, and ends with ctx.
type source interface {
	// name is what Discovery.Sources calls it.
	name() string
	// speaksAs is for whom it speaks about an address.
	speaksAs(a address.Address) word
	// lookup asks. The answer's outcome is "" where it was not asked by address.
	lookup(ctx context.Context, q question) (answer, []Attempt)
}

// said is what one source answered.
type said struct {
	answer
	word word
}

// lookupAt asks one source. What a stranger's answer makes panic is a directory that
// can't be asked, and no end of everybody's sessions.
func (r *Resolver) lookupAt(ctx context.Context, s source, q question) (a answer, attempts []Attempt) {
	began := time.Now()
	defer func() {
		if p := recover(); p != nil {
			r.log.Error("an answer made letterlock panic", "source", s.name(), "panic", mishap.Text(p), "stack", string(debug.Stack()))
			a = answer{outcome: Unavailable, detail: "letterlock fails to read its answer"}
			attempts = []Attempt{a.attempt(s.name(), time.Since(began))}
		}
	}()
	return s.lookup(ctx, q)
}

// gather asks every source at once. It waits for those of the domain until they
// have answered, and for third parties as long as they may take; for all no
// longer than grace where the domain has given a certificate.
func (r *Resolver) gather(ctx context.Context, d *discovery, q question) (all []said, attempts []Attempt) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		i        int
		answer   answer
		attempts []Attempt
	}
	results := make(chan result, len(d.sources))
	began := time.Now()
	waiting := map[int]source{}
	for i, s := range d.sources {
		if s.speaksAs(q.address) == ofNobody {
			continue
		}
		waiting[i] = s
		r.wait.Go(func() {
			ans, attempts := r.lookupAt(ctx, s, q)
			results <- result{i, ans, attempts}
		})
	}
	tried := make([][]Attempt, len(d.sources))
	var grace <-chan time.Time
	over := ctx.Done()
	for len(waiting) > 0 {
		select {
		case got := <-results:
			s := waiting[got.i]
			delete(waiting, got.i)
			got.answer.source = s.name()
			one := said{got.answer, s.speaksAs(q.address)}
			all, tried[got.i] = append(all, one), got.attempts
			if grace == nil && one.outcome == Found && one.word >= ofDomain {
				grace = time.After(r.grace)
			}
			continue
		case <-over: // they end with it, and say why
			over, grace = nil, time.After(r.grace)
			continue
		case <-grace:
		}
		for i, s := range waiting {
			late := answer{outcome: Unavailable, detail: "not waited for any longer"}
			all = append(all, said{late, s.speaksAs(q.address)})
			tried[i] = []Attempt{late.attempt(s.name(), time.Since(began))}
		}
		break
	}
	for _, t := range tried {
		attempts = append(attempts, t...)
	}
	return all, attempts
}

package keydir

import (
	"fmt"
	"slices"
	"time"

	"letterlock.org/letterlock/pgp"
)

// apply is what the answers of all sources do to what is known of an address. It
// is the whole of the rules in "Trust" of the design, for directories.
func (p *peer) apply(c combined, now time.Time, jitter func(time.Duration) time.Duration) {
	ans := c.domain
	p.Checked, p.Outcome, p.Detail = now, ans.outcome, ans.detail
	for _, c := range c.news {
		if b := p.pin(c.Fingerprint()); b != nil || find(p.Candidates, c.Fingerprint()) != nil || find(p.Former, c.Fingerprint()) != nil {
			p.take(c)
		}
	}
	p.succession(&c, now)
	ans = c.domain
	switch ans.outcome {
	case Found:
		p.Until = now.Add(p.hold())
		p.found(ans, now)
		if p.Problem != "" {
			p.Until = now.Add(jitter(absentFor)) // it may be put right soon
		}
	case Absent, NoDirectory:
		p.Until = now.Add(jitter(absentFor))
		if len(p.Pins) > 0 {
			p.Until = now.Add(p.hold())
		}
		if p.fromDirectory() && p.Gone.IsZero() {
			p.Gone = now
		}
	default:
		p.Until = now.Add(failedFor)
	}
	p.doubt()
	p.serves(ans, now)
	if (ans.outcome == Absent || ans.outcome == NoDirectory) && c.third.outcome == Found {
		p.third(c.third, c.word, now)
	}
}

// third is what third parties do to it where the domain has no certificate:
// first sight where nothing is known. Beside a pin that can't be used any more a
// verified one becomes a candidate, for a person to see.
func (p *peer) third(ans answer, by word, now time.Time) {
	fit, several := usable(p.merged(ans.certs), now)
	switch {
	case len(fit) == 0 || p.Problem != "":
	case len(p.Pins) > 0:
		left, _ := usable(p.pinned(), now)
		told := slices.ContainsFunc(p.Candidates, func(b Binding) bool { return b.Source == ans.source })
		if len(left) == 0 && by == ofVerifier && !several && !told && len(p.Candidates) < maxBindings && p.pin(fit[0].Fingerprint()) == nil {
			p.candidate(fit[0], ans.binding(), now)
		}
	case slices.ContainsFunc(fit, func(c *pgp.Certificate) bool {
		b := find(p.Candidates, c.Fingerprint())
		return b != nil && b.Declined
	}):
	case several:
		p.contradict(ans, fit, now, fmt.Sprintf("%s has several certificates that name the address, and nothing tells which is meant", ans.source))
	default:
		for _, c := range fit {
			p.bind(c, ans.binding(), now)
		}
		p.drop(fit)
		p.Until = now.Add(p.hold())
	}
}

// hold is how long an answer is good for.
func (p *peer) hold() time.Duration {
	if len(p.Pins) > 0 && !slices.ContainsFunc(p.Pins, func(b Binding) bool {
		return !b.Identity.AtLeast(pgp.Confirmed) && b.Source != sourceImport && b.Source != sourceAccepted
	}) {
		return freshPinned
	}
	return freshFor
}

// take keeps a certificate, merged with what is stored of it.
func (p *peer) take(c *pgp.Certificate) {
	if old := p.certs[c.Fingerprint()]; old != nil {
		merged, err := pgp.Merge(old, c)
		if err != nil {
			return // the union is too large; what we have stays
		}
		c = merged
	}
	p.certs[c.Fingerprint()] = c
}

// found applies certificates.
func (p *peer) found(ans answer, now time.Time) {
	confirmed := false // by this answer, and fit for use
	ans.certs = slices.DeleteFunc(slices.Clone(ans.certs), func(c *pgp.Certificate) bool {
		b := find(p.Candidates, c.Fingerprint())
		return b != nil && b.Declined
	})
	var others []*pgp.Certificate
	for _, c := range ans.certs {
		b := p.pin(c.Fingerprint())
		if b == nil {
			if c.CheckEncrypt(now) == nil {
				others = append(others, c)
			}
			continue
		}
		b.Confirmed = now
		if by := ans.binding(); !b.Identity.AtLeast(by.Identity) || b.Source == sourceSuccession && !b.Identity.AtLeast(pgp.Organisation) {
			b.Identity, b.Source = by.Identity, by.Source
		}
		confirmed = confirmed || p.certs[c.Fingerprint()].CheckEncrypt(now) == nil
	}
	_, several := usable(p.merged(ans.certs), now)
	byPerson := confirmed && !slices.ContainsFunc(p.Pins, func(b Binding) bool { return !b.Identity.AtLeast(pgp.Confirmed) })
	switch {
	case several && !byPerson:
		p.contradict(ans, others, now, "its directory has several certificates that could be used")
	case len(p.Pins) == 0:
		p.first(ans, others, now)
	case confirmed:
		p.Problem, p.Gone = "", time.Time{}
		p.beside(ans, others, now)
	case len(others) == 0:
		// It serves what we have, expired or revoked, or a stranger's revoked one.
		if slices.ContainsFunc(ans.certs, func(c *pgp.Certificate) bool { return p.pin(c.Fingerprint()) != nil }) {
			p.Gone = time.Time{}
		} else if p.fromDirectory() && p.Gone.IsZero() {
			p.Gone = now
		}
	case p.settled():
		p.contradict(ans, others, now, "its directory has another certificate than the one that signed its mail or that was confirmed")
	default:
		p.replace(ans, others, now, "its directory has another certificate, and the old one had no history")
	}
}

// merged are the certificates of an answer with what is stored of them.
func (p *peer) merged(certs []*pgp.Certificate) (out []*pgp.Certificate) {
	for _, c := range certs {
		if m := p.certs[c.Fingerprint()]; m != nil {
			c = m
		}
		out = append(out, c)
	}
	return out
}

// first is first contact: believed, as the design says. Where none can be used
// all are kept, so that the address is known to have had one.
func (p *peer) first(ans answer, fit []*pgp.Certificate, now time.Time) {
	if len(fit) == 0 {
		fit = ans.certs
	}
	for _, c := range fit {
		p.bind(c, ans.binding(), now)
	}
	p.drop(fit)
	p.Problem = ""
}

// beside adds a certificate of another version than what is pinned, which the
// directory confirmed along with it. A settled contact's mail is not sealed to
// more keys by the word of a directory: there it is a candidate.
func (p *peer) beside(ans answer, others []*pgp.Certificate, now time.Time) {
	for _, c := range others {
		if p.settled() || len(p.Pins) >= maxBindings {
			p.candidate(c, ans.binding(), now)
			continue
		}
		p.bind(c, ans.binding(), now)
		p.drop([]*pgp.Certificate{c})
	}
}

// contradict makes the address a conflict until a person settles it, or its
// directory goes back to what is pinned.
func (p *peer) contradict(ans answer, others []*pgp.Certificate, now time.Time, why string) {
	p.Problem, p.Detail = ProblemConflict, why
	for _, c := range others {
		p.candidate(c, ans.binding(), now)
	}
}

// replace puts others in the place of all pins.
func (p *peer) replace(ans answer, others []*pgp.Certificate, now time.Time, why string) {
	change := Change{At: now, Why: why}
	for _, b := range p.Pins {
		change.From = append(change.From, b.Fingerprint)
	}
	p.Pins = nil
	for _, c := range others {
		p.bind(c, ans.binding(), now)
		change.To = append(change.To, c.Fingerprint())
	}
	p.drop(others)
	p.Problem, p.Gone = "", time.Time{}
	p.changed(change)
}

func (p *peer) changed(c Change) {
	p.Changes = append(p.Changes, c)
	p.Changes = p.Changes[max(0, len(p.Changes)-maxChanges):]
}

// bind pins a certificate.
func (p *peer) bind(c *pgp.Certificate, b Binding, now time.Time) {
	p.take(c)
	b.Fingerprint, b.First, b.Confirmed = c.Fingerprint(), now, now
	if old := find(p.Candidates, b.Fingerprint); old != nil {
		b.First, b.SignedFrom, b.Signed = old.First, old.SignedFrom, old.Signed
	}
	p.Pins = append(p.Pins, b)
}

// candidate notes a certificate without effect; the newest are kept.
func (p *peer) candidate(c *pgp.Certificate, b Binding, now time.Time) {
	p.take(c)
	b.Fingerprint, b.First, b.Confirmed = c.Fingerprint(), now, now
	if old := find(p.Candidates, b.Fingerprint); old != nil {
		if b.Identity.AtLeast(old.Identity) {
			old.Identity, old.Source = b.Identity, b.Source
		}
		old.Confirmed = now
		return
	}
	p.Candidates = append(p.Candidates, b)
	p.crowded()
}

// crowded drops candidates where there are too many: the oldest of those that
// anybody can make first, and last what a person declined.
func (p *peer) crowded() {
	weight := func(b Binding) int {
		switch {
		case b.Declined:
			return 2
		case b.Source == sourceAutocrypt || b.Source == sourceGossip:
			return 0
		}
		return 1
	}
	for len(p.Candidates) > maxBindings {
		least := 0
		for i, b := range p.Candidates {
			if weight(b) < weight(p.Candidates[least]) {
				least = i
			}
		}
		p.Candidates = slices.Delete(p.Candidates, least, least+1)
	}
}

// drop takes certificates off the candidates.
func (p *peer) drop(certs []*pgp.Certificate) {
	p.Candidates = slices.DeleteFunc(p.Candidates, func(b Binding) bool {
		return slices.ContainsFunc(certs, func(c *pgp.Certificate) bool { return c.Fingerprint() == b.Fingerprint })
	})
}

// signs tells whether a signature of that date is news: it makes a history, or
// the newest is a day older.
func (b Binding) signs(date time.Time) bool {
	if b.Signed.IsZero() || date.Sub(b.Signed) >= historySpan {
		return true
	}
	return !b.history() && (date.Before(b.SignedFrom) || date.After(b.Signed))
}

// signed notes a valid signature of a certificate that is known, by the date of
// its message: a mailbox is read newest first. It tells whether that was news.
func (p *peer) signed(f pgp.Fingerprint, date time.Time) bool {
	b := p.pin(f)
	if b == nil {
		b = find(p.Candidates, f)
	}
	if b == nil || !b.signs(date) {
		return false
	}
	if b.Signed.IsZero() || date.Before(b.SignedFrom) {
		b.SignedFrom = date
	}
	if date.After(b.Signed) {
		b.Signed = date
	}
	return true
}

package keydir

import (
	"slices"
	"time"

	"letterlock.org/letterlock/pgp"
)

// serves notes which candidates a directory's answer has in place of what is
// pinned. An answer that has what is pinned, fit for use, that has several or
// nothing begins it anew; one that didn't come changes nothing.
func (p *peer) serves(ans answer, now time.Time) {
	if ans.outcome != Found && ans.outcome != Absent && ans.outcome != NoDirectory {
		return
	}
	has := func(f pgp.Fingerprint) bool {
		return slices.ContainsFunc(ans.certs, func(c *pgp.Certificate) bool { return c.Fingerprint() == f })
	}
	back := slices.ContainsFunc(p.Pins, func(b Binding) bool {
		return has(b.Fingerprint) && p.certs[b.Fingerprint].CheckEncrypt(now) == nil
	})
	_, several := usable(p.merged(ans.certs), now)
	for i := range p.Candidates {
		b := &p.Candidates[i]
		switch {
		case back || several || ans.outcome != Found || !has(b.Fingerprint):
			b.ServedFrom, b.Served = time.Time{}, time.Time{}
		case b.ServedFrom.IsZero():
			b.ServedFrom, b.Served = now, now
		default:
			b.Served = now
		}
	}
}

// successor is what the directory serves in place of what is pinned; nil where a
// person vouched for that, declined this, where it is more than one, or where
// the directory hasn't been asked for too long.
func (p *peer) successor(now time.Time) *Successor {
	var certs []*pgp.Certificate
	var s Successor
	for _, b := range p.Candidates {
		switch {
		case b.ServedFrom.IsZero():
			continue
		case b.Declined, now.After(b.Served.Add(staleFor)):
			return nil
		}
		certs = append(certs, p.certs[b.Fingerprint])
		if span := b.Served.Sub(b.ServedFrom); s.Since.IsZero() || span < s.Served {
			s.Since, s.Served = b.ServedFrom, span
		}
	}
	vouched := slices.ContainsFunc(p.Pins, func(b Binding) bool {
		return b.Identity.AtLeast(pgp.Organisation) || b.byPerson()
	})
	usable, several := usable(certs, now)
	if vouched || several || len(usable) == 0 {
		return nil
	}
	s.Certificates, s.Strengths = usable, strengths(usable, now)
	return &s
}

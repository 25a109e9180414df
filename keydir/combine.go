package keydir

import (
	"slices"
	"strings"

	"letterlock.org/letterlock/pgp"
)

// combined is what all sources together say, by the table of the package's
// documentation.
type combined struct {
	domain answer // the domain's word; no-directory where ofNobody was asked for it
	third  answer // of the surest third party that found any; outcome "" if none did
	word   word   // third's
	// news are certificates that any source gave: states of what is stored.
	news []*pgp.Certificate
}

// combine applies the table.
func combine(all []said) combined {
	var c combined
	for _, s := range all {
		c.news = append(c.news, slices.Concat(s.certs, s.others)...)
	}
	domain := slices.DeleteFunc(slices.Clone(all), func(s said) bool { return s.word < ofDomain })
	third := slices.DeleteFunc(slices.Clone(all), func(s said) bool { return s.word >= ofDomain || s.outcome == "" })
	// The surest first; among equals in a fixed order, whoever answered first.
	surest := func(a, b said) int {
		if a.word != b.word {
			return int(b.word - a.word)
		}
		return strings.Compare(b.source, a.source) // wkd before dane
	}
	slices.SortStableFunc(domain, surest)
	slices.SortStableFunc(third, surest)
	c.third, c.word = foundBy(third)
	c.domain = answer{outcome: NoDirectory, detail: "no directory of the domain is asked (discovery.sources)"}
	if len(domain) > 0 {
		c.domain = domainsWord(domain)
	}
	// Where no directory of the domain has spoken, who could have known must be
	// asked again: a web server's 404 or a missing name is not the domain's word
	// that nobody has a certificate.
	unasked := func(s said) bool { return s.outcome == Unavailable }
	spoke := func(s said) bool { return s.outcome == Absent && s.directory }
	silent := c.domain.outcome == NoDirectory || c.domain.outcome == Absent && !slices.ContainsFunc(domain, spoke)
	if silent && c.third.outcome != Found && slices.ContainsFunc(third, unasked) {
		c.domain = worst(third, Unavailable)
	}
	return c
}

// domainsWord is what the sources that speak for the domain say together.
func domainsWord(all []said) answer {
	if ans, _ := foundBy(all); ans.outcome == Found {
		return ans
	}
	for _, o := range []Outcome{Unavailable, Absent} {
		if slices.ContainsFunc(all, func(s said) bool { return s.outcome == o }) {
			return worst(all, o)
		}
	}
	return worst(all, NoDirectory)
}

// foundBy joins the answers of the surest word that found any.
func foundBy(all []said) (ans answer, by word) {
	for _, s := range all {
		if s.outcome != Found || by != ofNobody && s.word != by {
			continue
		}
		if by == ofNobody {
			ans, by = s.answer, s.word
			ans.identity = s.word.identity()
			ans.certs = slices.Clone(ans.certs)
			continue
		}
		for _, more := range s.certs {
			same := func(c *pgp.Certificate) bool { return c.Fingerprint() == more.Fingerprint() }
			if i := slices.IndexFunc(ans.certs, same); i < 0 {
				ans.certs = append(ans.certs, more)
			} else if merged, err := pgp.Merge(ans.certs[i], more); err == nil {
				ans.certs[i] = merged
			}
		}
	}
	return ans, by
}

// worst is an answer with that outcome, saying what all with it say.
func worst(all []said, o Outcome) answer {
	var details []string
	for _, s := range all {
		if s.outcome == o && s.detail != "" {
			details = append(details, s.detail)
		}
	}
	return answer{outcome: o, detail: strings.Join(details, "; ")}
}

package keydir

import (
	"errors"
	"fmt"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/pgp"
)

// maxCertificates bounds one answer: current and revoked predecessor, of two
// versions of OpenPGP.
const maxCertificates = 4

// answer is what a source said of one address.
type answer struct {
	outcome  Outcome
	source   string       // its name, where it found any
	identity pgp.Identity // what its word makes of a certificate; see binding
	// certs are all that name exactly the address; revoked and expired too.
	certs []*pgp.Certificate
	// others don't name it: no news but for a certificate that is pinned, whose
	// revocation may have taken its user IDs with it.
	others []*pgp.Certificate
	// unresolved: absent because the host's name doesn't exist.
	unresolved bool
	// directory: the domain showed that it has one.
	directory bool
	detail    string
}

// binding is what ties a certificate of the answer to the address.
func (a answer) binding() Binding { return Binding{Identity: a.identity, Source: a.source} }

func (a answer) attempt(source string, took time.Duration) Attempt {
	return Attempt{Source: source, Outcome: a.outcome, Detail: a.detail, Took: took}
}

// answer reads the body of a response. What can't be read is unavailable: a
// directory that is there, but faulty, doesn't say that there is no certificate.
func (f fetched) answer(a address.Address) answer {
	if f.outcome != "" {
		return answer{outcome: f.outcome, unresolved: f.unresolved, detail: f.detail}
	}
	return answerOf(f.body, a, "its directory", maxCertificates)
}

// answerOf reads certificates that who gave for an address, at most that many.
func answerOf(body []byte, a address.Address, who string, most int) answer {
	faulty := func(detail string) answer { return answer{outcome: Unavailable, detail: detail} }
	all, err := pgp.ParseCertificates(body)
	switch {
	case errors.Is(err, pgp.ErrSecretKey):
		return faulty(who + " answered with a secret key, which is not kept; tell its owner")
	case len(all) == 0:
		return faulty("the answer of " + who + " is no OpenPGP certificate")
	case len(all) > most:
		return faulty(fmt.Sprintf("%s answered with %d certificates; at most %d are read", who, len(all), most))
	}
	ans := answer{outcome: Found, directory: true}
	for _, c := range all {
		if c.Has(a) {
			ans.certs = append(ans.certs, c)
		} else {
			ans.others = append(ans.others, c)
		}
	}
	if len(ans.certs) == 0 {
		ans.outcome, ans.detail = Unavailable, who+" answered with certificates of other addresses only"
		return ans
	}
	ans.detail = fmt.Sprintf("%d certificate(s)", len(ans.certs))
	return ans
}

// usable are the certificates that can be encrypted to; several tells that a
// version has more than one.
func usable(certs []*pgp.Certificate, now time.Time) (out []*pgp.Certificate, several bool) {
	versions := map[int]int{}
	for _, c := range certs {
		if c.CheckEncrypt(now) != nil {
			continue
		}
		out = append(out, c)
		versions[c.Version()]++
		several = several || versions[c.Version()] > 1
	}
	return out, several
}

// strengths are how mail to each certificate is protected. One of which that can't
// be told has none.
func strengths(certs []*pgp.Certificate, now time.Time) (out []pgp.Strength) {
	for _, c := range certs {
		s, err := pgp.StrengthOf(now, c)
		if err != nil {
			s = pgp.Strength{Bits: 1}
		}
		out = append(out, s)
	}
	return out
}

// problem is why none of the certificates can be encrypted to.
func problem(certs []*pgp.Certificate, now time.Time) string {
	p := ProblemRevoked
	for _, c := range certs {
		switch err := c.CheckEncrypt(now); {
		case errors.Is(err, pgp.ErrRevoked):
		case errors.Is(err, pgp.ErrExpired):
			return ProblemExpired
		default:
			p = ProblemWeak
		}
	}
	return p
}

package policy

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"letterlock.org/letterlock/pgp"
)

// Config is the [policy] section of the configuration. The zero value of each
// field is its default.
type Config struct {
	Default Mode // Prefer
	// MissingPrefer is Settings.Missing for prefer: ThenClear.
	MissingPrefer Then
	Settings
	MinTrust MinTrust
	// Groups are lists of patterns, which rules name with an @ before the name.
	Groups map[string][]string
	// Rules are tried in order; the first that matches decides.
	Rules []Rule
	// DryRun delivers everything as submitted, and tells what would have
	// happened.
	DryRun bool
}

// MinTrust is how sure we must be that a certificate belongs to the address.
type MinTrust struct {
	Require pgp.Identity // pgp.Directory
	Prefer  pgp.Identity // pgp.FirstSeen
}

// Rule is one [[policy.rule]]. It matches if all that it asks for holds; of
// each list one entry must. It must ask for something.
//
// Patterns of addresses are those of [address.Address.Match], user@domain,
// *@domain, *@*.domain and *, and @NAME for a group.
type Rule struct {
	Name     string // required, unique: decisions and logs name it
	From, To []string
	// Identity is how the recipient's certificate is known; NoIdentity where
	// there is none. Where nobody knows, as while a directory is down, the rule
	// can only raise protection.
	Identity []pgp.Identity

	// What follows is of the message; such a rule can only raise protection.
	Subject    []string // in the subject, in letters of any case
	Header     []string // "Name: value"; * in the value stands for anything
	LargerThan int64    // bytes as submitted
	Attachment bool     // it has one
	// Lower: the rule decides like any other, weaker or not.
	Lower bool
	// StripSubject takes the word of Subject that was found off the subject.
	StripSubject bool

	Mode Mode
	// MinTrust stands in for that of Config where set.
	MinTrust pgp.Identity
	Settings
}

// minAccept is the shortest AcceptWKDAfter: who breaks into a web server for an
// afternoon should not get a key accepted.
const minAccept = 24 * time.Hour

// New compiles a configuration. The error joins one [*Problem] for each fault.
func New(c Config) (*Rules, error) {
	k := checker{groups: c.Groups}
	r := &Rules{to: newIndex(), from: newIndex(), dry: c.DryRun}
	k.groupsFit()

	base := k.base(c)
	taken := map[string]bool{}
	for i, cr := range c.Rules {
		key := fmt.Sprintf("policy.rule[%d]", i)
		ru := k.rule(key, cr, c, base)
		k.name(key+".name", cr.Name, taken)
		if len(cr.From) == 0 && len(cr.To) == 0 && len(cr.Identity) == 0 && ru.trigger == nil {
			k.add(key+".to", `is missing, so the rule would match everything; write to = ["*@example.org"], or to = ["*"] if it is meant`)
		}
		k.patterns(r.from, key+".from", cr.From, i)
		k.patterns(r.to, key+".to", cr.To, i)
		r.rules = append(r.rules, ru)
		r.needs(ru.trigger)
		r.sort(i, ru.trigger)
	}

	n := len(r.rules)
	r.rules = append(r.rules, inherit(DefaultRule, oneOf(&k, "policy.default", c.Default, Prefer, byMode...), c, Settings{}, base))
	r.from.all(n)
	r.to.all(n)
	r.sort(n, nil)
	if err := errors.Join(k.problems...); err != nil {
		return nil, err
	}
	return r, nil
}

// sort notes what rule n can do, and which messages it may match: those with a
// word of its subjects, or any. It must be called with rising numbers.
func (r *Rules) sort(n int, t *trigger) {
	if t == nil || t.lower {
		r.firm = append(r.firm, n)
	}
	if t == nil || len(t.subjects) == 0 {
		r.others = append(r.others, n)
		return
	}
	for _, word := range t.subjects {
		r.subject.add(word, n)
	}
}

// needs notes which fields a trigger looks at.
func (r *Rules) needs(t *trigger) {
	if t == nil {
		return
	}
	names := []string{}
	if len(t.subjects) > 0 {
		names = append(names, "subject")
	}
	for _, h := range t.headers {
		names = append(names, h.name)
	}
	for _, n := range names {
		if !slices.Contains(r.headers, n) {
			r.headers = append(r.headers, n)
		}
	}
}

// base fills in the settings of the configuration.
func (k *checker) base(c Config) Settings {
	s := c.Settings
	k.thens("policy.", s.thens(), ladderFor(Require))
	k.fits("policy.missing_prefer", c.MissingPrefer, missingPrefer)
	s.Mixed = oneOf(k, "policy.mixed", s.Mixed, MixedRefuse, byMixed...)
	s.Sign = oneOf(k, "policy.sign", s.Sign, SignEncrypted, SignEncrypted, SignAll)
	s.SignAs = oneOf(k, "policy.sign_as", s.SignAs, SignAsSender, SignAsSender, SignAsDomain)
	s.Headers = oneOf(k, "policy.headers", s.Headers, HeadersProtect, HeadersProtect, HeadersSubject)
	k.algorithms("policy.", s)
	k.accept("policy.accept_wkd_after", s.AcceptWKDAfter)
	k.hold("policy.hold_for", s.HoldFor)
	k.footer("policy.footer", s.Footer)
	oneOf(k, "policy.min_trust.require", c.MinTrust.Require, pgp.Directory, identities...)
	oneOf(k, "policy.min_trust.prefer", c.MinTrust.Prefer, pgp.FirstSeen, identities...)
	return s
}

// rule compiles a Rule.
func (k *checker) rule(key string, cr Rule, c Config, base Settings) rule {
	if cr.Mode == "" {
		k.add(key+".mode", "is missing; write %s", list(byMode))
	}
	mode := oneOf(k, key+".mode", cr.Mode, "", byMode...)
	s := cr.Settings
	oneOf(k, key+".mixed", s.Mixed, "", byMixed...)
	oneOf(k, key+".sign", s.Sign, "", SignEncrypted, SignAll)
	oneOf(k, key+".sign_as", s.SignAs, "", SignAsSender, SignAsDomain)
	oneOf(k, key+".headers", s.Headers, "", HeadersProtect, HeadersSubject)
	oneOf(k, key+".min_trust", cr.MinTrust, "", identities...)
	k.algorithms(key+".", s)
	k.accept(key+".accept_wkd_after", s.AcceptWKDAfter)
	k.hold(key+".hold_for", s.HoldFor)
	k.footer(key+".footer", s.Footer)
	k.thens(key+".", s.thens(), ladderFor(mode))
	k.idle(key, cr)
	ru := inherit(cr.Name, mode, c, s, base)
	if cr.MinTrust != "" {
		ru.trust = cr.MinTrust
	}
	for _, i := range cr.Identity {
		oneOf(k, key+".identity", i, "", append(identities, NoIdentity)...)
	}
	ru.identity = cr.Identity
	ru.trigger = k.trigger(key, cr)
	return ru
}

// inherit fills a rule's unset settings from the configuration's, and those from
// the defaults.
func inherit(name string, m Mode, c Config, s, base Settings) rule {
	ru := rule{
		name: name, mode: m, headers: cmp.Or(s.Headers, base.Headers), mixed: cmp.Or(s.Mixed, base.Mixed),
		sign: cmp.Or(s.Sign, base.Sign), signAs: cmp.Or(s.SignAs, base.SignAs), footer: cmp.Or(s.Footer, base.Footer),
		accept: max(cmp.Or(s.AcceptWKDAfter, base.AcceptWKDAfter), 0),
		least:  least(s, base),
		trust:  cmp.Or(c.MinTrust.Require, pgp.Directory), holdFor: cmp.Or(s.HoldFor, base.HoldFor),
	}
	own, inherited := s.thens(), base.thens()
	for i := range ru.then {
		ru.then[i] = cmp.Or(own[i], inherited[i], ladder[i].may[0])
	}
	if m == Prefer {
		ru.then[missing] = cmp.Or(s.Missing, c.MissingPrefer, ThenClear)
		ru.trust = cmp.Or(c.MinTrust.Prefer, pgp.FirstSeen)
	}
	return ru
}

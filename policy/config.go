package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"letterlock.org/letterlock/pgp"
)

// Missing is what require does where no certificate exists.
type Missing string

const (
	MissingRefuse Missing = "refuse"
	MissingHold   Missing = "hold" // refused by New until the queue has holds
)

// Unavailable is what happens where a directory could not be asked.
type Unavailable string

const (
	UnavailableDefer  Unavailable = "defer"
	UnavailableRefuse Unavailable = "refuse"
)

// Mixed is what happens to a message of which one recipient has a certificate
// and another would get it in clear.
type Mixed string

const (
	// MixedRefuse sends to nobody.
	MixedRefuse Mixed = "refuse"
	// MixedClear sends in clear to everybody; a recipient under require is
	// never among them: then it is as MixedRefuse.
	MixedClear Mixed = "clear"
	// MixedSplit seals for those who have a certificate, and sends the same
	// text in clear to the others.
	MixedSplit Mixed = "split"
)

// Config is the [policy] section of the configuration. The zero value of each
// field is its default.
type Config struct {
	Default     Mode        // Prefer
	Missing     Missing     // MissingRefuse
	Unavailable Unavailable // UnavailableDefer
	Mixed       Mixed       // MixedRefuse
	MinTrust    MinTrust
	// Rules are tried in order; the first that matches decides.
	Rules []Rule
}

// MinTrust is how sure we must be that a certificate belongs to the address.
type MinTrust struct {
	Require pgp.Identity // pgp.Directory
	Prefer  pgp.Identity // pgp.FirstSeen
}

// Rule is one [[policy.rule]]. It matches if the sender matches one of From and
// the recipient one of To; an empty list matches everybody, but both may not be
// empty. Patterns are those of [address.Address.Match]: user@domain, *@domain,
// *@*.domain, *.
type Rule struct {
	Name string // required, unique: decisions and logs name it
	From []string
	To   []string
	Mode Mode
	// Missing, Unavailable and Mixed stand in for those of Config where set.
	Missing     Missing
	Unavailable Unavailable
	Mixed       Mixed
}

// Problem is one fault of a configuration. New joins all that it found.
type Problem struct {
	// Key is where it is, as in TOML, rules counted from 0: "policy.rule[2].mode".
	Key string
	// Text says what is wrong and what to write instead.
	Text string
}

func (p *Problem) Error() string { return p.Key + ": " + p.Text }

// New compiles a configuration. The error joins one [*Problem] for each fault.
func New(c Config) (*Rules, error) {
	var k checker
	r := &Rules{byName: map[string]int{}, to: newIndex(), from: newIndex()}

	def := rule{
		name:        DefaultRule,
		mode:        oneOf(&k, "policy.default", c.Default, Prefer, modes...),
		unavailable: oneOf(&k, "policy.unavailable", c.Unavailable, UnavailableDefer, UnavailableDefer, UnavailableRefuse),
		mixed:       oneOf(&k, "policy.mixed", c.Mixed, MixedRefuse, MixedRefuse, MixedClear, MixedSplit),
	}
	k.missing("policy.missing", c.Missing)
	r.trust.Require = oneOf(&k, "policy.min_trust.require", c.MinTrust.Require, pgp.Directory, identities...)
	r.trust.Prefer = oneOf(&k, "policy.min_trust.prefer", c.MinTrust.Prefer, pgp.FirstSeen, identities...)

	for i, cr := range c.Rules {
		key := fmt.Sprintf("policy.rule[%d]", i)
		ru := rule{
			name:        cr.Name,
			mode:        oneOf(&k, key+".mode", cr.Mode, "", modes...),
			unavailable: oneOf(&k, key+".unavailable", cr.Unavailable, def.unavailable, UnavailableDefer, UnavailableRefuse),
			mixed:       oneOf(&k, key+".mixed", cr.Mixed, def.mixed, MixedRefuse, MixedClear, MixedSplit),
		}
		if ru.mode == "" {
			k.add(key+".mode", "is missing; write "+list(modes))
		}
		k.missing(key+".missing", cr.Missing)
		k.name(key+".name", cr.Name, r.byName)
		if len(cr.From) == 0 && len(cr.To) == 0 {
			k.add(key+".to", `is missing, so the rule would match everything; write to = ["*@example.org"], or to = ["*"] if it is meant`)
		}
		k.patterns(r.from, key+".from", cr.From, i)
		k.patterns(r.to, key+".to", cr.To, i)
		r.byName[cr.Name] = i
		r.rules = append(r.rules, ru)
	}

	n := len(r.rules)
	r.rules = append(r.rules, def)
	r.byName[DefaultRule] = n
	r.from.all(n)
	r.to.all(n)
	if err := errors.Join(k.problems...); err != nil {
		return nil, err
	}
	return r, nil
}

var (
	modes      = []Mode{Require, Prefer, Sign, Cleartext, Refuse}
	identities = []pgp.Identity{pgp.FirstSeen, pgp.Directory, pgp.Organisation, pgp.Confirmed}
)

// checker collects the problems of a configuration.
type checker struct{ problems []error }

func (k *checker) add(key, text string) {
	k.problems = append(k.problems, &Problem{Key: key, Text: text})
}

func (k *checker) missing(key string, m Missing) {
	if m == MissingHold {
		k.add(key, `"hold" needs the queue's holds, which this version does not have; write "refuse"`)
		return
	}
	oneOf(k, key, m, MissingRefuse, MissingRefuse)
}

func (k *checker) name(key, name string, taken map[string]int) {
	_, twice := taken[name]
	switch {
	case name == "":
		k.add(key, `is missing; decisions and logs name the rule: write name = "partners are always encrypted"`)
	case name == DefaultRule:
		k.add(key, `"default" is the name of what decides where no rule matches; write another, or set policy.default`)
	case strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }):
		k.add(key, "has control characters; write one line of text")
	case twice:
		k.add(key, fmt.Sprintf("%q is the name of an earlier rule too; write another", name))
	}
}

func (k *checker) patterns(x index, key string, patterns []string, rule int) {
	if len(patterns) == 0 {
		x.all(rule)
	}
	for _, p := range patterns {
		if err := x.add(p, rule); err != nil {
			k.add(key, fmt.Sprintf("%q is not a pattern (%v); write user@example.org, *@example.org, *@*.example.org or *", p, err))
		}
	}
}

// oneOf is v, or def where v is unset; what is none of the allowed is a problem.
func oneOf[T ~string](k *checker, key string, v, def T, allowed ...T) T {
	if v == "" {
		return def
	}
	if !slices.Contains(allowed, v) {
		k.add(key, fmt.Sprintf("%q is not known; write %s", string(v), list(allowed)))
	}
	return v
}

func list[T ~string](words []T) string {
	s := make([]string, len(words))
	for i, w := range words {
		s[i] = `"` + string(w) + `"`
	}
	if len(s) == 1 {
		return s[0]
	}
	return strings.Join(s[:len(s)-1], ", ") + " or " + s[len(s)-1]
}

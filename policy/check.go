package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"letterlock.org/letterlock/pgp"
)

// Problem is one fault of a configuration. New joins all that it found.
type Problem struct {
	// Key is where it is, as in TOML, rules counted from 0: "policy.rule[2].mode".
	Key string
	// Text says what is wrong and what to write instead.
	Text string
}

func (p *Problem) Error() string { return p.Key + ": " + p.Text }

var (
	byMode     = []Mode{Require, Prefer, Sign, Cleartext, Refuse}
	identities = []pgp.Identity{pgp.FirstSeen, pgp.Directory, pgp.Organisation, pgp.Confirmed}
)

// checker collects the problems of a configuration.
type checker struct {
	problems []error
	groups   map[string][]string
}

func (k *checker) add(key, format string, args ...any) {
	k.problems = append(k.problems, &Problem{Key: key, Text: fmt.Sprintf(format, args...)})
}

// thens checks what a rule says of each fact.
func (k *checker) thens(prefix string, said [facts]Then, may [facts][]Then) {
	for i, t := range said {
		k.fits(prefix+string(ladder[i].cause), t, may[i])
	}
}

func (k *checker) fits(key string, t Then, may []Then) {
	if t == ThenClear && !slices.Contains(may, ThenClear) {
		k.add(key, `"cleartext" is never what this leads to; write %s`, list(may))
		return
	}
	oneOf(k, key, t, "", may...)
}

// ladderFor is what each fact may lead to under a mode.
func ladderFor(m Mode) (may [facts][]Then) {
	for i, step := range ladder {
		may[i] = step.may
	}
	if m == Prefer {
		may[missing] = missingPrefer
	}
	return may
}

// idle tells of settings that have no effect under the rule's mode: who wrote
// them means something else than what would happen.
func (k *checker) idle(key string, cr Rule) {
	if cr.Mode == Require || cr.Mode == Prefer || !slices.Contains(byMode, cr.Mode) {
		return
	}
	set := map[string]bool{"min_trust": cr.MinTrust != "", "accept_wkd_after": cr.AcceptWKDAfter != 0, "headers": cr.Headers != "", "hold_for": cr.HoldFor != 0,
		"min_cipher": cr.MinCipher != "", "min_rsa": cr.MinRSA != 0, "aead": cr.AEAD != ""}
	for i, t := range cr.thens() {
		set[string(ladder[i].cause)] = t != ""
	}
	for _, name := range slices.Sorted(maps.Keys(set)) {
		if set[name] {
			k.add(key+"."+name, `has no effect under mode = %q, which looks at no certificate; leave it out, or write mode = "require" or "prefer"`, string(cr.Mode))
		}
	}
	if cr.Sign == SignAll && cr.Mode == Cleartext {
		k.add(key+".sign", `contradicts mode = "cleartext", which sends as submitted; write mode = "sign"`)
	}
}

func (k *checker) accept(key string, d time.Duration) {
	if d > 0 && d < minAccept {
		k.add(key, `is too short to notice that somebody broke into the directory; write "%s" or longer`, hours(minAccept))
	}
}

func (k *checker) hold(key string, d time.Duration) {
	if d < 0 || d > 0 && d < time.Hour {
		k.add(key, `is too short for anybody to answer; write for example "168h"`)
	}
}

func (k *checker) footer(key, text string) {
	if len(text) > 4096 || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' && r != '\n' && r != '\t' || r == 0x7f || r == '\uFFFD' }) {
		k.add(key, "has control characters, is not UTF-8, or is longer than 4 KiB; write a few lines of text")
	}
}

func (k *checker) name(key, name string, taken map[string]bool) {
	switch {
	case name == "":
		k.add(key, `is missing; decisions and logs name the rule: write name = "partners are always encrypted"`)
	case name == DefaultRule:
		k.add(key, `"default" is the name of what decides where no rule matches; write another, or set policy.default`)
	case strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }):
		k.add(key, "has control characters; write one line of text")
	case taken[name]:
		k.add(key, "%q is the name of an earlier rule too; write another", name)
	}
	taken[name] = true
}

// trigger compiles what a rule looks for in the message; nil if nothing.
func (k *checker) trigger(key string, cr Rule) *trigger {
	t := &trigger{larger: cr.LargerThan, attachment: cr.Attachment, lower: cr.Lower, strip: cr.StripSubject}
	for _, w := range cr.Subject {
		if strings.TrimSpace(w) == "" {
			k.add(key+".subject", `has an empty word, which is in every subject; write for example subject = ["[secure]"]`)
		}
		t.subjects = append(t.subjects, strings.ToLower(w))
	}
	for _, h := range cr.Header {
		t.headers = append(t.headers, k.header(key+".header", h))
	}
	if cr.LargerThan < 0 {
		k.add(key+".larger_than", `is negative; write for example "10MB"`)
	}
	if cr.StripSubject && len(cr.Subject) == 0 {
		k.add(key+".strip_subject", `needs a word to strip; write subject = ["[secure]"] beside it`)
	}
	if len(t.subjects)+len(t.headers) == 0 && t.larger == 0 && !t.attachment {
		if cr.Lower {
			k.add(key+".lower", "is for rules that look at the message (subject, header, larger_than, attachment); this one decides in any case: leave it out")
		}
		return nil
	}
	return t
}

func (k *checker) header(key, h string) headerPattern {
	name, value, ok := strings.Cut(h, ":")
	name = strings.TrimSpace(name)
	if !ok || name == "" || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		k.add(key, `%q is no field and value; write for example "Sensitivity: Company-Confidential", or "X-Secure: *" for any value`, h)
	}
	return headerPattern{strings.ToLower(name), strings.ToLower(strings.TrimSpace(value))}
}

// oneOf is v, or def where v is unset; what is none of the allowed is a problem.
func oneOf[T ~string](k *checker, key string, v, def T, allowed ...T) T {
	if v == "" {
		return def
	}
	if !slices.Contains(allowed, v) {
		k.add(key, "%q is not known; write %s", string(v), list(allowed))
	}
	return v
}

func list[T ~string](words []T) string {
	s := make([]string, len(words))
	for i, w := range words {
		s[i] = `"` + string(w) + `"`
	}
	return strings.Join(s[:len(s)-1], ", ") + " or " + s[len(s)-1]
}

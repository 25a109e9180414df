// Package letters names letters by what an answer quotes of them, for answers that
// name no Message-ID: many mail programs forward inline so.
//
// An [ID] stands for a sender and a subject, whatever was put before the subject on
// the way. [Quoted] gives the IDs of all letters that a text may quote. Neither
// tells of a letter for certain.
package letters

import (
	"regexp"
	"strings"
	"unicode"

	"letterlock.org/letterlock/internal/address"
)

// Prefix is what each ID begins with, and no Message-ID does.
const Prefix = "letter:"

// ID is what a letter goes by whose Message-ID nobody names; "" for one without a
// subject, or without a sender.
func ID(from address.Address, subject string) string {
	base := baseOf(subject)
	if base == "" || from.IsZero() {
		return ""
	}
	return idOf(from, base)
}

func idOf(from address.Address, base string) string { return Prefix + from.Key() + " " + base }

// What is looked at of a subject, in bytes, and how many letters of it count.
const (
	maxSubject = 600
	maxBase    = 100
)

// baseOf is the letters and digits of a subject, in lower case, without what
// answers, forwards and lists put around it, in whatever language (RFC 5256, Section
// 2.1, does that for English): "[Fwd: x]", "Aw: [list] x" and "x (fwd)" are all x.
func baseOf(subject string) string {
	s := strings.ToLower(subject[:min(len(subject), maxSubject)])
	base := lettersOf(s)
	for range 10 {
		short := strip(strings.TrimSpace(s))
		if short == s {
			break
		}
		s = short
		if b := lettersOf(s); b != "" {
			base = b
		}
	}
	return base
}

// added is what stands before a subject that is answered: a word, or a list's tag.
var added = regexp.MustCompile(`^(?:\pL{1,12}\s*(?:[\[(]\d+[\])])?\s*[:\x{ff1a}]|\[[^\[\]]{0,64}\])`)

// strip takes one thing off that was added.
func strip(s string) string {
	if in, ok := strings.CutPrefix(s, "["); ok && strings.HasSuffix(in, "]") && added.MatchString(in) {
		return in[:len(in)-1]
	}
	s, _ = strings.CutSuffix(s, "(fwd)")
	return strings.TrimSpace(s[len(added.FindString(s)):])
}

func lettersOf(s string) string {
	n := 0
	return strings.Map(func(r rune) rune {
		if n < maxBase && (unicode.IsLetter(r) || unicode.IsDigit(r)) {
			n++
			return r
		}
		return -1
	}, s)
}

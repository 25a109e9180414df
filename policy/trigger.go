package policy

import (
	"slices"
	"strings"
)

// trigger is what a rule looks for in the message: all that it has must hold.
type trigger struct {
	subjects   []string // in lower case; one of them is in the subject
	headers    []headerPattern
	larger     int64 // the message has more bytes; 0 for any size
	attachment bool
	lower      bool // may weaken what would hold without it
	strip      bool
}

// headerPattern is a field of that name whose value matches.
type headerPattern struct {
	name  string // in lower case
	value string // in lower case; * stands for anything
}

// seen is a message as triggers see it, with what they said of it, since all
// recipients ask the same.
type seen struct {
	m    Message
	low  map[string][]string // values of fields, in lower case
	said []hit               // by rule; nil before the first is asked

	// The rules that may match, in order: those that look for a word of the
	// subject which it has, and those that look for none.
	named, others []int
	rules         int
}

// hit is what a trigger said of the message.
type hit struct {
	asked, yes bool
	word       string // of the subject, as configured: in lower case
}

func (r *Rules) look(m Message) *seen {
	s := &seen{m: m, others: r.others, rules: len(r.rules)}
	if r.subject.next != nil {
		s.named = r.subject.in(s.values("subject"))
	}
	return s
}

// hits tells whether the message has what rule n looks for.
func (s *seen) hits(n int, t *trigger) hit {
	if s.said == nil {
		s.said = make([]hit, s.rules)
	}
	h := &s.said[n]
	if !h.asked {
		*h = s.ask(t)
		h.asked = true
	}
	return *h
}

func (s *seen) ask(t *trigger) (h hit) {
	if t.larger > 0 && s.m.Size <= t.larger || t.attachment && !s.m.Attachment {
		return h
	}
	if len(t.headers) > 0 && !slices.ContainsFunc(t.headers, s.has) {
		return h
	}
	if len(t.subjects) == 0 {
		return hit{yes: true}
	}
	// The first of its words that is there; match has seen that one is.
	there := func(word string) bool {
		return slices.ContainsFunc(s.values("subject"), func(v string) bool { return strings.Contains(v, word) })
	}
	if i := slices.IndexFunc(t.subjects, there); i >= 0 {
		h = hit{yes: true, word: t.subjects[i]}
	}
	return h
}

func (s *seen) has(p headerPattern) bool {
	return slices.ContainsFunc(s.values(p.name), func(v string) bool { return like(p.value, strings.TrimSpace(v)) })
}

func (s *seen) values(name string) []string {
	v, ok := s.low[name]
	if !ok {
		for _, one := range s.m.Headers[name] {
			v = append(v, strings.ToLower(one))
		}
		if s.low == nil {
			s.low = map[string][]string{}
		}
		s.low[name] = v
	}
	return v
}

// like matches a pattern in which * stands for any text, none too. It takes
// time that grows with the product of the lengths at worst, and no stack.
func like(pattern, s string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == s
	}
	first, last := parts[0], parts[len(parts)-1]
	if len(s) < len(first)+len(last) || !strings.HasPrefix(s, first) || !strings.HasSuffix(s, last) {
		return false
	}
	s = s[len(first) : len(s)-len(last)]
	for _, p := range parts[1 : len(parts)-1] {
		i := strings.Index(s, p)
		if i < 0 {
			return false
		}
		s = s[i+len(p):]
	}
	return true
}

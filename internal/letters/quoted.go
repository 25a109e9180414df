package letters

import (
	"slices"
	"strings"

	"letterlock.org/letterlock/internal/address"
)

// Bounds on what is looked for in a text.
const (
	maxIDs   = 1000
	maxLines = 64 // that have an address
	around   = 8  // lines before and after it
	maxField = 40 // bytes of a field's name, in whatever language
)

// Quoted gives the IDs of the letters that a message with this text and subject may
// quote: the sender's address stands in it, and the subject in a field of its own
// near by, or in the message's subject behind what answers and forwards put there.
func Quoted(text, subject string) []string {
	f := finder{seen: map[string]bool{}}
	if base := baseOf(subject); base != lettersOf(strings.ToLower(subject)) {
		f.subject = base
	}
	lines := strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' })
	lines = slices.DeleteFunc(lines, func(l string) bool { return strings.TrimSpace(l) == "" })
	for i, n := 0, 0; i < len(lines) && n < maxLines && len(f.ids) < maxIDs; i++ {
		if strings.IndexByte(lines[i], '@') >= 0 {
			n++
			f.look(lines[max(0, i-around):min(len(lines), i+around+1)], lines[i])
		}
	}
	return f.ids
}

type finder struct {
	subject string // of the message, as baseOf gives it, where it may be a letter's
	ids     []string
	seen    map[string]bool
}

// look pairs the addresses of a line with the subjects around it.
func (f *finder) look(lines []string, line string) {
	senders := addresses(line)
	if len(senders) == 0 {
		return
	}
	f.add(senders, f.subject)
	for i, l := range lines {
		value, ok := field(l)
		if !ok {
			continue
		}
		f.add(senders, baseOf(value))
		for _, next := range lines[i+1 : min(len(lines), i+3)] { // where it is folded
			value += " " + unquoted(next)
			f.add(senders, baseOf(value))
		}
	}
}

func (f *finder) add(senders []address.Address, base string) {
	for _, a := range senders {
		if id := idOf(a, base); base != "" && !f.seen[id] && len(f.ids) < maxIDs {
			f.seen[id] = true
			f.ids = append(f.ids, id)
		}
	}
}

// field reads "> Name: value".
func field(line string) (value string, ok bool) {
	line = unquoted(line)
	name, value, ok := strings.Cut(line, ":")
	if wide, rest, isWide := strings.Cut(line, "："); isWide && len(wide) < len(name) {
		name, value, ok = wide, rest, true
	}
	return strings.Trim(value, " \t\u00a0*"), ok && name != "" && len(name) <= maxField && !strings.Contains(name, "@")
}

// unquoted is the beginning of a line without the marks of a quotation, and of what
// is bold.
func unquoted(line string) string {
	return strings.Trim(line[:min(len(line), maxSubject)], ">|* \t\u00a0")
}

// addresses finds the first mail addresses of a line.
func addresses(line string) (all []address.Address) {
	words := strings.FieldsFunc(line[:min(len(line), maxSubject)], func(r rune) bool {
		return r <= ' ' || r == '\u00a0' || strings.ContainsRune(`<>()[]{},;:"'*|`, r)
	})
	for _, w := range words {
		if len(all) == 8 {
			break
		}
		if strings.IndexByte(w, '@') < 0 {
			continue
		}
		if a, err := address.Parse(strings.TrimRight(w, ".?!")); err == nil {
			all = append(all, a)
		}
	}
	return all
}

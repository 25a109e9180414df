package address

import (
	"fmt"
	"strings"
)

// word is an atom, a run of dots, or a quoted string with its quoting undone.
type word struct {
	text   string
	quoted bool
	glued  bool // nothing lies between it and the word before
}

// words reads words and the white space and comments around them, up to a
// special character that is none of these (RFC 5322, Section 3.2.3). They are
// good until the next call.
func (r *reader) words() ([]word, error) {
	all := r.room[:0]
	for len(all) < maxWords {
		before := len(r.s)
		if err := r.space(); err != nil {
			return nil, err
		}
		glued := len(r.s) == before && len(all) > 0
		if r.s == "" {
			return all, nil
		}
		if r.s[0] == '"' {
			text, err := r.quoted()
			if err != nil {
				return nil, err
			}
			all = append(all, word{text, true, glued})
			continue
		}
		dots := r.s[0] == '.'
		i := 0
		for i < len(r.s) && (r.s[i] == '.') == dots && (dots || isAtext(r.s[i])) {
			i++
		}
		if i == 0 {
			if c := r.s[0]; c < ' ' || c == 0x7f {
				return nil, fmt.Errorf("%w: control character in an address list", ErrInvalid)
			}
			return all, nil
		}
		all = append(all, word{r.s[:i], false, glued})
		r.s = r.s[i:]
	}
	return nil, fmt.Errorf("%w: more than %d words", ErrInvalid, maxWords)
}

// maxWords bounds the words of one entry of a list.
const maxWords = 1000

// quoted reads a quoted string in which lines may be folded (RFC 5322, Section
// 3.2.4).
func (r *reader) quoted() (string, error) {
	var b strings.Builder
	for i := 1; i < len(r.s); i++ {
		c := r.s[i]
		n := fold(r.s[i:])
		switch {
		case c == '"':
			r.s = r.s[i+1:]
			return b.String(), nil
		case n > 0:
			i += n - 1
		case c == '\\' && i+1 < len(r.s) && (r.s[i+1] >= ' ' || r.s[i+1] == '\t') && r.s[i+1] != 0x7f:
			i++
			b.WriteByte(r.s[i])
		case c == '\\' || c < ' ' && c != '\t' || c == 0x7f:
			return "", fmt.Errorf("%w: control character in quotes", ErrInvalid)
		default:
			b.WriteByte(c)
		}
	}
	return "", fmt.Errorf("%w: quote without end", ErrInvalid)
}

// dotted tells whether one of two neighbouring words is a dot: white space may
// lie between them then (RFC 5322, Section 4.4, obs-local-part, obs-domain).
func dotted(a, b word) bool {
	return !a.quoted && a.text == "." || !b.quoted && b.text == "."
}

var errLocal = fmt.Errorf("%w: malformed local part", ErrInvalid)

// localOf makes a local part of words: one quoted string, or atoms with single
// dots between.
func localOf(words []word) (string, error) {
	if len(words)%2 == 0 {
		return "", errLocal
	}
	if w := words[0]; len(words) == 1 && !w.quoted && w.text[0] != '.' {
		return w.text, nil
	}
	var b strings.Builder
	for i, w := range words {
		isDot := !w.quoted && w.text[0] == '.'
		if isDot != (i%2 == 1) || isDot && w.text != "." {
			return "", errLocal
		}
		if w.quoted && len(words) > 1 {
			return "", errLocal // obs-local-part with quotes: never seen, easily misread
		}
		b.WriteString(w.text)
	}
	return b.String(), nil
}

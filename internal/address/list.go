package address

import (
	"fmt"
	"strings"

	"letterlock.org/letterlock/internal/text"
)

// Mailbox is one entry of an address list: a display name and an address.
type Mailbox struct {
	Name    string // decoded (RFC 2047), without CR, LF, NUL and control characters
	Address Address
}

// maxList bounds the mailboxes of one list, and maxValue its bytes.
const (
	maxList  = 10_000
	maxValue = 1 << 20
)

// ParseList reads the value of a From, To, Cc, Reply-To… header field: groups
// are flattened (RFC 5322, Section 3.4). Malformed lists are an error, never a
// partial answer. An empty value, and one of empty groups only, is an empty list.
//
// Of the obsolete syntax (RFC 5322, Section 4.4) it reads empty entries, white
// space and comments around dots and "@", and dots in display names; routes
// ("<@a,@b:c@d>") are malformed. A comment names nobody. A display name whose
// text holds an address is still only a name.
func ParseList(value string) ([]Mailbox, error) {
	if len(value) > maxValue {
		return nil, fmt.Errorf("%w: address list too long", ErrInvalid)
	}
	r := &reader{s: value}
	var list []Mailbox
	inGroup := false
	for {
		if err := r.space(); err != nil {
			return nil, err
		}
		switch {
		case r.s == "":
			if inGroup {
				return nil, fmt.Errorf("%w: group without end", ErrInvalid)
			}
			return list, nil
		case r.take(','):
			continue
		case inGroup && r.take(';'):
			inGroup = false
			if err := r.separator(false); err != nil {
				return nil, err
			}
			continue
		}
		m, group, err := r.entry()
		if err != nil {
			return nil, err
		}
		if group {
			if inGroup {
				return nil, fmt.Errorf("%w: group within a group", ErrInvalid)
			}
			inGroup = true
			continue
		}
		if list = append(list, m); len(list) > maxList {
			return nil, fmt.Errorf("%w: more than %d addresses", ErrInvalid, maxList)
		}
		if err := r.separator(inGroup); err != nil {
			return nil, err
		}
	}
}

// reader reads from the front of s.
type reader struct {
	s    string
	room [8]word // for words to begin with
}

func (r *reader) take(c byte) bool {
	if r.s != "" && r.s[0] == c {
		r.s = r.s[1:]
		return true
	}
	return false
}

// separator wants what may follow an entry: a comma, the end, or the end of a
// group.
func (r *reader) separator(inGroup bool) error {
	if err := r.space(); err != nil {
		return err
	}
	if r.s == "" || r.s[0] == ',' || inGroup && r.s[0] == ';' {
		return nil
	}
	return fmt.Errorf("%w: no comma between addresses", ErrInvalid)
}

// space skips folding white space and comments (RFC 5322, Section 3.2.2). CR
// and LF count as space only as part of a fold.
func (r *reader) space() error {
	for r.s != "" {
		switch c := r.s[0]; {
		case c == ' ' || c == '\t':
			r.s = r.s[1:]
		case fold(r.s) > 0:
			r.s = r.s[fold(r.s):]
		case c == '(':
			if err := r.comment(); err != nil {
				return err
			}
		default:
			return nil
		}
	}
	return nil
}

// fold is the length of the line end that s begins with where white space
// follows it, or 0.
func fold(s string) int {
	n := 0
	if strings.HasPrefix(s, "\r\n") {
		n = 2
	} else if strings.HasPrefix(s, "\n") {
		n = 1
	}
	if n > 0 && len(s) > n && (s[n] == ' ' || s[n] == '\t') {
		return n
	}
	return 0
}

func (r *reader) comment() error {
	depth := 0
	for i := 0; i < len(r.s); i++ {
		switch c := r.s[i]; {
		case c == '\\':
			i++
		case c == '(':
			depth++
		case c == ')':
			if depth--; depth == 0 {
				r.s = r.s[i+1:]
				return nil
			}
		case c == 0 || (c == '\r' || c == '\n') && fold(r.s[i:]) == 0:
			return fmt.Errorf("%w: control character in a comment", ErrInvalid)
		}
	}
	return fmt.Errorf("%w: comment without end", ErrInvalid)
}

// entry reads a mailbox, or the beginning of a group up to its colon.
func (r *reader) entry() (m Mailbox, group bool, err error) {
	words, err := r.words()
	if err != nil {
		return m, false, err
	}
	switch {
	case r.take('<'):
		m.Name = displayName(words)
		m.Address, err = r.angle()
		return m, false, err
	case r.take('@'):
		local, err := localOf(words)
		if err != nil {
			return m, false, err
		}
		m.Address, err = r.domain(local)
		return m, false, err
	case len(words) > 0 && r.take(':'):
		return m, true, nil
	}
	return m, false, fmt.Errorf("%w: malformed address list", ErrInvalid)
}

// angle reads an addr-spec up to ">".
func (r *reader) angle() (Address, error) {
	words, err := r.words()
	if err != nil {
		return Address{}, err
	}
	local, err := localOf(words)
	if err != nil {
		return Address{}, err
	}
	if !r.take('@') {
		return Address{}, fmt.Errorf("%w: no domain in angle brackets", ErrInvalid)
	}
	a, err := r.domain(local)
	if err == nil && !r.take('>') {
		err = fmt.Errorf("%w: angle bracket without end", ErrInvalid)
	}
	return a, err
}

// domain reads what follows "@": dot-separated atoms or a literal.
func (r *reader) domain(local string) (Address, error) {
	if err := r.space(); err != nil {
		return Address{}, err
	}
	if strings.HasPrefix(r.s, "[") {
		end := strings.IndexByte(r.s, ']')
		if end < 0 {
			return Address{}, fmt.Errorf("%w: address literal without end", ErrInvalid)
		}
		literal := r.s[:end+1]
		r.s = r.s[end+1:]
		if err := r.space(); err != nil {
			return Address{}, err
		}
		return join(local, literal)
	}
	whole := r.s
	words, err := r.words()
	if err != nil {
		return Address{}, err
	}
	return r.joined(local, words, whole)
}

// joined makes an address with a domain of words, which whole begins with.
func (r *reader) joined(local string, words []word, whole string) (Address, error) {
	var b strings.Builder
	n, apart := 0, false
	for i, w := range words {
		if w.quoted || i > 0 && !w.glued && !dotted(words[i-1], w) {
			return Address{}, fmt.Errorf("%w: malformed domain", ErrInvalid)
		}
		if apart = apart || i > 0 && !w.glued; apart {
			b.WriteString(w.text)
		} else {
			n += len(w.text)
		}
	}
	return join(local, whole[:n]+b.String())
}

// displayName joins words as a phrase, decodes it and makes it safe to show.
func displayName(words []word) string {
	var b strings.Builder
	for i, w := range words {
		if i > 0 && !w.glued {
			b.WriteByte(' ')
		}
		b.WriteString(w.text)
	}
	return strings.TrimSpace(text.Decode(b.String()))
}

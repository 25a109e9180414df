package render

import (
	"slices"
	"strings"
)

// Address is one entry of an ENVELOPE's address list (RFC 3501, Section 7.4.2),
// not decoded. A group is an entry with only its name as Mailbox, then its
// members, then an entry with nothing set.
type Address struct {
	Name, Route, Mailbox, Host optional
}

// String is the address as one would write it, for searching.
func (a Address) String() string {
	switch {
	case !a.Mailbox.set:
		return ";"
	case !a.Host.set:
		return a.Mailbox.text + ":"
	}
	spec := a.Mailbox.text + "@" + a.Host.text
	if !a.Name.set {
		return spec
	}
	return a.Name.text + " <" + spec + ">"
}

// What stands for the missing half of an address, as Dovecot has it: with NIL
// in its place the entry would be the beginning or end of a group.
const (
	missingMailbox = "MISSING_MAILBOX"
	missingDomain  = "MISSING_DOMAIN"
)

// maxAddresses bounds the addresses of one field; more are left out.
const maxAddresses = 10000

// ParseAddresses reads the value of an address field (RFC 5322, Section 3.4)
// and never fails: what is no address becomes one with something missing.
func ParseAddresses(value string) []Address {
	p := addressParser{s: value}
	for len(p.list) < maxAddresses && p.space() {
		p.entry()
	}
	if p.inGroup {
		p.list = append(p.list, Address{})
	}
	return p.list
}

// addressParser reads from the front of s.
type addressParser struct {
	s       string
	list    []Address
	inGroup bool
	comment optional // the last comment that space skipped
}

// entry reads one mailbox, or the beginning or end of a group.
func (p *addressParser) entry() {
	switch p.s[0] {
	case ',':
		p.s = p.s[1:]
		return
	case ';':
		p.s = p.s[1:]
		if p.inGroup {
			p.inGroup = false
			p.list = append(p.list, Address{})
		}
		return
	}
	p.comment = optional{}
	ws := p.words(",;:<")
	if p.s != "" && p.s[0] == ':' && !p.inGroup {
		p.s = p.s[1:]
		p.inGroup = true
		p.list = append(p.list, Address{Mailbox: some(ws.phrase())})
		return
	}
	if p.s != "" && p.s[0] == '<' {
		p.angle(ws.phrase())
		return
	}
	if p.s != "" && p.s[0] == ':' { // a colon within a group
		p.s = p.s[1:]
	}
	if len(ws) == 0 {
		return
	}
	a := ws.address()
	if p.comment.set && p.comment.text != "" {
		a.Name = p.comment
	}
	p.list = append(p.list, a)
}

// angle reads what stands in angle brackets after a name.
func (p *addressParser) angle(name string) {
	p.s = p.s[1:]
	var route strings.Builder
	ws := p.words(">,:")
	for p.s != "" && (p.s[0] == ',' || p.s[0] == ':') && ws.isRoute() {
		// obs-route: "@a,@b:local@domain".
		route.WriteString(ws.glued())
		end := p.s[0] == ':'
		if !end {
			route.WriteByte(',')
		}
		p.s = p.s[1:]
		ws = p.words(">,:")
		if end {
			break
		}
	}
	spec := ws.address()
	a := Address{Route: optional{route.String(), route.Len() > 0}, Mailbox: spec.Mailbox, Host: spec.Host}
	if i := strings.IndexByte(p.s, '>'); i == 0 {
		p.s = p.s[1:]
	}
	p.words(",;") // anything up to the next address is noise, comments included
	if name != "" {
		a.Name = some(name)
	}
	p.list = append(p.list, a)
}

// word is an atom, a quoted string (unquoted) or one special character.
type word struct {
	text   string
	quoted bool
	spaced bool // white space stood before it
}

type words []word

// words reads words up to one of the stops.
func (p *addressParser) words(stops string) words {
	var ws words
	for {
		before := len(p.s)
		if !p.space() || strings.IndexByte(stops, p.s[0]) >= 0 {
			return ws
		}
		w := word{spaced: len(p.s) != before}
		switch c := p.s[0]; {
		case c == '"':
			w.text, w.quoted = p.quoted(), true
		case c == '[': // a domain literal
			n := strings.IndexByte(p.s, ']') + 1
			if n == 0 {
				n = len(p.s)
			}
			w.text = p.s[:n]
			p.s = p.s[n:]
		case strings.IndexByte("@,;:<>.)", c) >= 0:
			w.text = p.s[:1]
			p.s = p.s[1:]
		default:
			n := strings.IndexAny(p.s, " \t\r\n\"@,;:<>.()[")
			if n < 0 {
				n = len(p.s)
			}
			w.text = p.s[:n]
			p.s = p.s[n:]
		}
		ws = append(ws, w)
	}
}

// space skips white space and comments; false at the end.
func (p *addressParser) space() bool {
	for p.s != "" {
		switch p.s[0] {
		case ' ', '\t', '\r', '\n':
			p.s = p.s[1:]
		case '(':
			p.comment = some(p.readComment())
		default:
			return true
		}
	}
	return false
}

// readComment reads a comment, nested ones included, without its parentheses.
func (p *addressParser) readComment() string {
	var b strings.Builder
	depth := 0
	for i := 0; i < len(p.s); i++ {
		c := p.s[i]
		switch {
		case c == '\\' && i+1 < len(p.s):
			i++
			c = p.s[i]
		case c == '(':
			if depth++; depth == 1 {
				continue
			}
		case c == ')':
			if depth--; depth == 0 {
				p.s = p.s[i+1:]
				return strings.TrimSpace(b.String())
			}
		}
		b.WriteByte(c)
	}
	p.s = ""
	return strings.TrimSpace(b.String())
}

// quoted reads a quoted string, to the end where it is not closed.
func (p *addressParser) quoted() string {
	var b strings.Builder
	for i := 1; i < len(p.s); i++ {
		switch c := p.s[i]; {
		case c == '"':
			p.s = p.s[i+1:]
			return b.String()
		case c == '\\' && i+1 < len(p.s):
			i++
			b.WriteByte(p.s[i])
		default:
			b.WriteByte(c)
		}
	}
	p.s = ""
	return b.String()
}

// phrase joins words with the space that stood between them, once.
func (ws words) phrase() string {
	var b strings.Builder
	for i, w := range ws {
		if i > 0 && w.spaced {
			b.WriteByte(' ')
		}
		b.WriteString(w.text)
	}
	return b.String()
}

// glued joins words without space.
func (ws words) glued() string {
	var b strings.Builder
	for _, w := range ws {
		b.WriteString(w.text)
	}
	return b.String()
}

func (ws words) isRoute() bool { return len(ws) > 1 && ws[0].text == "@" && !ws[0].quoted }

// address reads words as local part, "@" and domain. Words that no local part
// can be are a name without an address.
func (ws words) address() Address {
	a := Address{Mailbox: some(missingMailbox), Host: some(missingDomain)}
	local, domain := ws, words(nil)
	if at := slices.IndexFunc(ws, word.isAt); at >= 0 {
		local, domain = ws[:at], ws[at+1:]
	}
	if next := slices.IndexFunc(domain, word.isAt); next >= 0 {
		domain = domain[:next]
	}
	if slices.ContainsFunc(local[min(1, len(local)):], func(w word) bool { return w.spaced }) {
		a.Name = some(local.phrase())
		return a
	}
	if len(local) > 0 {
		a.Mailbox = some(local.glued())
	}
	if s := domain.glued(); s != "" {
		a.Host = some(s)
	}
	return a
}

func (w word) isAt() bool { return w.text == "@" && !w.quoted }

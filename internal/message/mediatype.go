package message

import "strings"

// Param is one parameter of a structured field, as written: the name may carry
// the marks of RFC 2231 ("filename*0*"), quoting is undone.
type Param struct{ Name, Value string }

// maxParams bounds the parameters of one field; more are left out.
const maxParams = 256

// ParseParams cuts the value of a Content-Type or Content-Disposition field into
// its first word ("text/plain", "attachment"; lower case, "" where malformed)
// and its parameters in order. Comments are skipped, as is what is malformed up
// to the next semicolon (RFC 2045, Section 5.1; RFC 2183).
func ParseParams(value string) (word string, params []Param) {
	p := paramReader{value}
	p.space()
	word = p.token()
	p.space()
	if word != "" && p.take('/') {
		p.space()
		sub := p.token()
		p.space()
		if sub == "" {
			word = ""
		} else {
			word += "/" + sub
		}
	}
	for p.toSemicolon() && len(params) < maxParams {
		p.space()
		name := p.token()
		p.space()
		if name == "" || !p.take('=') {
			continue
		}
		p.space()
		v, ok := p.value()
		if ok {
			params = append(params, Param{name, v})
		}
	}
	return strings.ToLower(word), params
}

// paramReader reads from the front of a string.
type paramReader struct{ s string }

// space skips white space and comments (RFC 5322, Section 3.2.2).
func (p *paramReader) space() {
	for p.s != "" {
		switch p.s[0] {
		case ' ', '\t', '\r', '\n':
			p.s = p.s[1:]
		case '(':
			p.comment()
		default:
			return
		}
	}
}

func (p *paramReader) comment() {
	depth := 0
	for i := 0; i < len(p.s); i++ {
		switch p.s[i] {
		case '\\':
			i++
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				p.s = p.s[i+1:]
				return
			}
		}
	}
	p.s = ""
}

func (p *paramReader) take(c byte) bool {
	if p.s != "" && p.s[0] == c {
		p.s = p.s[1:]
		return true
	}
	return false
}

// token reads a token (RFC 2045, Section 5.1), UTF-8 allowed.
func (p *paramReader) token() string {
	i := 0
	for i < len(p.s) && p.s[i] > ' ' && p.s[i] != 0x7f && !strings.ContainsRune(`()<>@,;:\"/[]?=`, rune(p.s[i])) {
		i++
	}
	t := p.s[:i]
	p.s = p.s[i:]
	return t
}

// value reads a quoted string, or leniently everything up to white space, a
// semicolon or a comment: unquoted boundaries with "=" or "/" are common.
func (p *paramReader) value() (string, bool) {
	if p.take('"') {
		return p.quoted(), true
	}
	i := strings.IndexAny(p.s, "; \t\r\n(\"")
	if i < 0 {
		i = len(p.s)
	}
	v := p.s[:i]
	p.s = p.s[i:]
	return v, v != ""
}

// quoted reads up to the closing quote, or to the end where there is none.
func (p *paramReader) quoted() string {
	var b strings.Builder
	for i := 0; i < len(p.s); i++ {
		switch c := p.s[i]; c {
		case '"':
			p.s = p.s[i+1:]
			return b.String()
		case '\\':
			if i++; i < len(p.s) {
				b.WriteByte(p.s[i])
			}
		default:
			b.WriteByte(c)
		}
	}
	p.s = ""
	return b.String()
}

// toSemicolon skips to after the next semicolon outside of quotes and comments.
func (p *paramReader) toSemicolon() bool {
	for p.s != "" {
		switch p.s[0] {
		case ';':
			p.s = p.s[1:]
			return true
		case '"':
			p.s = p.s[1:]
			p.quoted()
		case '(':
			p.comment()
		default:
			p.s = p.s[1:]
		}
	}
	return false
}

package message

import (
	"io"
	"sort"
	"strconv"
	"strings"

	"github.com/emersion/go-message/charset"
)

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

// DecodeParams joins and decodes parameters as RFC 2231 says; names become lower
// case, the first of a name counts. A name* that decodes goes before a plain
// one, except for boundary, where servers read the plain one.
func DecodeParams(params []Param) map[string]string {
	m := make(map[string]string, len(params))
	pieces := map[string][]piece{}
	for _, p := range params {
		name := strings.ToLower(p.Name)
		base, mark, extended := strings.Cut(name, "*")
		if !extended {
			if _, twice := m[name]; !twice {
				m[name] = p.Value
			}
			continue
		}
		if pc, ok := parsePiece(mark, p.Value); ok {
			pieces[base] = append(pieces[base], pc)
		}
	}
	for name, ps := range pieces {
		if _, plain := m[name]; plain && name == "boundary" {
			continue
		}
		if v, ok := joinPieces(ps); ok {
			m[name] = v
		}
	}
	return m
}

// piece is one section of a continued parameter (RFC 2231, Section 3).
type piece struct {
	n       int
	encoded bool
	value   string
}

func parsePiece(mark, value string) (piece, bool) {
	if mark == "" {
		return piece{0, true, value}, true
	}
	num, encoded := strings.CutSuffix(mark, "*")
	n, err := strconv.ParseUint(num, 10, 16)
	return piece{int(n), encoded, value}, err == nil
}

func joinPieces(ps []piece) (string, bool) {
	sort.SliceStable(ps, func(i, j int) bool { return ps[i].n < ps[j].n })
	var b strings.Builder
	cs := ""
	for i, next := 0, 0; i < len(ps); i++ {
		if ps[i].n < next {
			continue // repeated: the first counts
		}
		if ps[i].n > next {
			break // a gap ends the value
		}
		next++
		v := ps[i].value
		if ps[i].encoded {
			if ps[i].n == 0 {
				// RFC 2231, Section 4: charset'language'text.
				if c, rest, ok := strings.Cut(v, "'"); ok {
					if _, text, ok := strings.Cut(rest, "'"); ok {
						cs, v = c, text
					}
				}
			}
			v = unpercent(v)
		}
		b.WriteString(v)
	}
	if len(ps) == 0 || ps[0].n != 0 {
		return "", false
	}
	return toUTF8(b.String(), cs), true
}

func unpercent(s string) string {
	if strings.IndexByte(s, '%') < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+3 <= len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				b = append(b, byte(c))
				i += 2
				continue
			}
		}
		b = append(b, s[i])
	}
	return string(b)
}

func toUTF8(s, cs string) string {
	if cs == "" {
		return s
	}
	r, err := charset.Reader(cs, strings.NewReader(s))
	if err != nil {
		return s
	}
	d, err := io.ReadAll(r)
	if err != nil {
		return s
	}
	return string(d)
}

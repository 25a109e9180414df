package wire

import "strings"

// ParseXtext decodes xtext (RFC 3461, Section 4). What decodes to a control
// character or to no UTF-8 is refused: nothing that we read so has any.
func ParseXtext(s string) (string, bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '+':
			if i+2 >= len(s) {
				return "", false
			}
			hi, ok := hexDigit(s[i+1])
			lo, ok2 := hexDigit(s[i+2])
			if !ok || !ok2 {
				return "", false
			}
			b.WriteByte(hi<<4 | lo)
			i += 2
		case c < '!' || c > '~' || c == '=':
			return "", false
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), printable(b.String())
}

// hexDigit is upper case only, as RFC 3461 has it.
func hexDigit(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

// AppendXtext encodes s as xtext.
func AppendXtext(b []byte, s string) []byte {
	const digits = "0123456789ABCDEF"
	for i := range len(s) {
		if c := s[i]; c < '!' || c > '~' || c == '+' || c == '=' {
			b = append(b, '+', digits[c>>4], digits[c&15])
		} else {
			b = append(b, c)
		}
	}
	return b
}

// Attribute is one of an XCLIENT or XFORWARD command.
type Attribute struct {
	Name  string // upper case
	Value string // decoded; empty for [UNAVAILABLE] and [TEMPUNAVAIL]
}

// maxAttribute bounds one value.
const maxAttribute = 255

// ParseAttributes reads the arguments of XCLIENT and XFORWARD, as Postfix
// documents them: NAME=xtext, any number.
func ParseAttributes(s string) ([]Attribute, error) {
	ps, err := parseParams(s)
	if err != nil || len(ps) == 0 {
		return nil, ErrSyntax
	}
	var as []Attribute
	for _, p := range ps {
		v, ok := ParseXtext(p.value)
		if !ok || !p.has || len(v) > maxAttribute {
			return nil, ErrSyntax
		}
		if strings.EqualFold(v, "[UNAVAILABLE]") || strings.EqualFold(v, "[TEMPUNAVAIL]") {
			v = ""
		}
		as = append(as, Attribute{p.name, v})
	}
	return as, nil
}

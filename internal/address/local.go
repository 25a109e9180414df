package address

import (
	"fmt"
	"strings"
)

// readLocal reads a local part from the front of s and undoes its quoting (RFC
// 5321, Section 4.1.2: Dot-string or Quoted-string).
func readLocal(s string) (local, rest string, err error) {
	if strings.HasPrefix(s, `"`) {
		return readQuoted(s)
	}
	i := 0
	for i < len(s) && (isAtext(s[i]) || s[i] == '.') {
		i++
	}
	local = s[:i]
	if local == "" || local[0] == '.' || local[i-1] == '.' || strings.Contains(local, "..") {
		return "", "", fmt.Errorf("%w: malformed local part", ErrInvalid)
	}
	return local, s[i:], nil
}

// readQuoted reads a quoted string (RFC 5321, Section 4.1.2) without folding.
func readQuoted(s string) (text, rest string, err error) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return b.String(), s[i+1:], nil
		case c == '\\' && i+1 < len(s) && s[i+1] >= ' ' && s[i+1] < 0x7f:
			i++
			b.WriteByte(s[i])
		case c == '\\' || c < ' ' || c == 0x7f:
			return "", "", fmt.Errorf("%w: control character in quotes", ErrInvalid)
		default:
			b.WriteByte(c)
		}
	}
	return "", "", fmt.Errorf("%w: quote without end", ErrInvalid)
}

// isAtext tells whether c may stand in an atom (RFC 5322, Section 3.2.3; RFC
// 6532 for UTF-8).
func isAtext(c byte) bool { return atext[c] }

var atext = func() (t [256]bool) {
	for i := range t {
		c := byte(i)
		t[i] = 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c >= 0x80 ||
			strings.IndexByte("!#$%&'*+-/=?^_`{|}~", c) >= 0
	}
	return t
}()

// quoteLocal quotes s where it is no Dot-string.
func quoteLocal(s string) string {
	if l, rest, err := readLocal(s); err == nil && rest == "" && l == s {
		return s
	}
	var b strings.Builder
	b.WriteByte('"')
	for i := 0; i < len(s); i++ {
		if s[i] == '"' || s[i] == '\\' {
			b.WriteByte('\\')
		}
		b.WriteByte(s[i])
	}
	b.WriteByte('"')
	return b.String()
}

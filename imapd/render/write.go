package render

import (
	"strconv"
	"strings"
)

// appendString writes s as an IMAP string: quoted where it can be, else as a
// literal (RFC 3501, Section 4.3: quoted strings hold no CR, LF or 8-bit).
// NUL can stand in neither and becomes 0x80, as Dovecot has it.
func appendString(b []byte, s string) []byte {
	escapes := 0
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == 0, c == '\r', c == '\n', c >= 0x80:
			return appendLiteral(b, s)
		case c == '"', c == '\\':
			escapes++
		}
	}
	b = append(b, '"')
	if escapes == 0 {
		b = append(b, s...)
	} else {
		for i := 0; i < len(s); i++ {
			if s[i] == '"' || s[i] == '\\' {
				b = append(b, '\\')
			}
			b = append(b, s[i])
		}
	}
	return append(b, '"')
}

func appendLiteral(b []byte, s string) []byte {
	b = append(b, '{')
	b = strconv.AppendInt(b, int64(len(s)), 10)
	b = append(b, "}\r\n"...)
	return append(b, strings.ReplaceAll(s, "\x00", "\x80")...)
}

// optional is a string or NIL.
type optional struct {
	text string
	set  bool
}

func some(s string) optional { return optional{s, true} }

func appendNString(b []byte, o optional) []byte {
	if !o.set {
		return append(b, "NIL"...)
	}
	return appendString(b, o.text)
}

func appendNumber(b []byte, n int64) []byte { return strconv.AppendInt(b, n, 10) }

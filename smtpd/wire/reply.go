package wire

import (
	"strconv"
	"strings"
)

// AppendReply appends a reply of one or more lines (RFC 5321, Section 4.2.1).
// status is the enhanced code that each line begins with (RFC 2034), or empty.
// Characters that have no place in a reply become "?".
func AppendReply(b []byte, code int, status string, lines ...string) []byte {
	for i, l := range lines {
		b = strconv.AppendInt(b, int64(code), 10)
		if i < len(lines)-1 {
			b = append(b, '-')
		} else {
			b = append(b, ' ')
		}
		if status != "" {
			b = append(append(b, status...), ' ')
		}
		b = append(appendText(b, l), '\r', '\n')
	}
	return b
}

func appendText(b []byte, s string) []byte {
	if strings.IndexFunc(s, unfit) < 0 {
		return append(b, s...)
	}
	for _, r := range s {
		if unfit(r) {
			r = '?'
		}
		b = append(b, byte(r))
	}
	return b
}

// unfit tells what may not stand in a reply (RFC 5321, Section 4.2: textstring).
func unfit(r rune) bool { return r < ' ' && r != '\t' || r > '~' }

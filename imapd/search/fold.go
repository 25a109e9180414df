package search

import (
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Fold makes text comparable as IMAP wants it: i;unicode-casemap (RFC 5051,
// Section 2.3), each character in its simple titlecase, then decomposed. Two
// texts match as substrings if their folded forms do. Bytes that are no UTF-8
// stay.
func Fold(text []byte) []byte {
	folded := make([]byte, 0, len(text)+len(text)/8)
	ascii := true
	for len(text) > 0 {
		if c := text[0]; c < utf8.RuneSelf {
			if 'a' <= c && c <= 'z' {
				c -= 'a' - 'A'
			}
			folded = append(folded, c)
			text = text[1:]
			continue
		}
		r, n := utf8.DecodeRune(text)
		if r == utf8.RuneError && n <= 1 {
			folded = append(folded, text[0])
		} else {
			folded = utf8.AppendRune(folded, unicode.ToTitle(r))
			ascii = false
		}
		text = text[n:]
	}
	if ascii {
		return folded
	}
	return norm.NFKD.Bytes(folded)
}

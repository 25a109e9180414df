// Package text makes header text readable and safe to show: RFC 2047 words are
// decoded, and what could leave its line or reorder it is taken out.
package text

import (
	"io"
	"mime"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/emersion/go-message/charset"
)

// maxDecoded bounds what Decode decodes: mime.WordDecoder takes quadratic time
// over some malformed words.
const maxDecoded = 16 << 10

// Decode decodes the RFC 2047 words of s and makes it safe to show. A value
// longer than 16 KiB is made safe only; a word that is malformed stays as it is.
func Decode(s string) string { return Safe(Words(s)) }

// Words decodes like Decode and takes nothing out: two values that differ in what
// reorders them don't show the same. It is not safe to show.
func Words(s string) string {
	if strings.Contains(s, "=?") && len(s) <= maxDecoded {
		if d, err := words.DecodeHeader(s); err == nil {
			return d
		}
	}
	return s
}

// words decodes RFC 2047; an unknown character set is read as UTF-8.
var words = mime.WordDecoder{CharsetReader: func(name string, r io.Reader) (io.Reader, error) {
	if c, err := charset.Reader(name, r); err == nil {
		return c, nil
	}
	return r, nil
}}

// Safe is s as valid UTF-8 without controls and invisible direction marks:
// it stays on its line and shows in the order in which it is written. A tab
// becomes a space.
func Safe(s string) string {
	if isPlain(s) {
		return s
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case unicode.IsControl(r), r == '\u2028', r == '\u2029', isBidi(r):
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, string(utf8.RuneError)))
}

func isPlain(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

// isBidi tells whether r reorders text (Unicode Standard Annex 9, Section 2).
func isBidi(r rune) bool {
	return r == '\u061c' || r == '\u200e' || r == '\u200f' ||
		'\u202a' <= r && r <= '\u202e' || '\u2066' <= r && r <= '\u2069'
}

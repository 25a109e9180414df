package message

import (
	"bytes"
	"io"
	"mime"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/emersion/go-message/charset"
)

// Field is one header field, raw.
type Field struct {
	Name  string // as spelled, without trailing space; "" if malformed
	Raw   []byte // whole field with folding and line ends
	Start int64  // offset of Raw in the header
}

// Value is the unfolded value without surrounding white space, not decoded
// (RFC 5322, Section 2.2.3: unfolding takes the line ends away and leaves the
// white space). It may hold a bare CR, NUL or any other byte.
func (f Field) Value() string {
	v := f.Raw
	if f.Name != "" {
		_, v, _ = bytes.Cut(v, []byte{':'})
	}
	if bytes.IndexByte(v, '\n') >= 0 {
		v = bytes.ReplaceAll(v, []byte("\r\n"), nil)
		v = bytes.ReplaceAll(v, []byte("\n"), nil)
	}
	return string(bytes.Trim(v, " \t\r"))
}

// maxDecoded bounds what Text decodes: mime.WordDecoder takes quadratic time
// over some malformed words.
const maxDecoded = 16 << 10

// Text is Value with RFC 2047 words decoded and CR, LF, NUL, C0 and
// bidirectional controls removed: safe to show. A value longer than 16 KiB is
// not decoded.
func (f Field) Text() string { return DecodeText(f.Value()) }

// DecodeText decodes the RFC 2047 words of s and makes it safe to show, as
// [Field.Text] does.
func DecodeText(s string) string {
	if strings.Contains(s, "=?") && len(s) <= maxDecoded {
		if d, err := words.DecodeHeader(s); err == nil {
			s = d
		}
	}
	return SafeText(s)
}

// words decodes RFC 2047; an unknown character set is read as UTF-8.
var words = mime.WordDecoder{CharsetReader: func(name string, r io.Reader) (io.Reader, error) {
	if c, err := charset.Reader(name, r); err == nil {
		return c, nil
	}
	return r, nil
}}

// SafeText is s as valid UTF-8 without controls and invisible direction marks:
// it stays on its line and shows in the order in which it is written. A tab
// becomes a space.
func SafeText(s string) string {
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

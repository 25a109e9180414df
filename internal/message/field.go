package message

import (
	"bytes"

	"letterlock.org/letterlock/internal/text"
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

// Text is Value with RFC 2047 words decoded and CR, LF, NUL, C0 and
// bidirectional controls removed: safe to show ([text.Decode]).
func (f Field) Text() string { return text.Decode(f.Value()) }

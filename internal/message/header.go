package message

import (
	"bytes"
	"fmt"
	"strings"
)

// Header is the header of a message or part, in order and raw.
type Header struct {
	Raw    []byte // with the empty line that ends it, where there is one
	Fields []Field
}

// ParseHeader cuts raw into fields; malformed lines are kept as fields with an
// empty Name. Line ends may be CRLF or LF; a bare CR ends no line. What follows
// the empty line that ends the header is left out of Raw. A line of white space
// only continues the field before it, as obsolete folding may (RFC 5322,
// Section 4.2); so does every line that begins with space or tab.
func ParseHeader(raw []byte) Header {
	h := Header{}
	at := 0
	for at < len(raw) {
		line := nextLine(raw[at:])
		if isEmptyLine(line) {
			at += len(line)
			break
		}
		end := at + len(line)
		for end < len(raw) && (raw[end] == ' ' || raw[end] == '\t') {
			end += len(nextLine(raw[end:]))
		}
		field := raw[at:end:end]
		h.Fields = append(h.Fields, Field{Name: fieldName(field), Raw: field, Start: int64(at)})
		at = end
	}
	h.Raw = raw[:at:at]
	return h
}

// nextLine is b up to its first LF, that included.
func nextLine(b []byte) []byte {
	if i := bytes.IndexByte(b, '\n'); i >= 0 {
		return b[:i+1]
	}
	return b
}

func isEmptyLine(line []byte) bool {
	return len(line) > 0 && (line[0] == '\n' || len(line) == 2 && line[0] == '\r' && line[1] == '\n')
}

// fieldName is the name of a raw field (RFC 5322, Section 3.6.8: printable
// ASCII without colon; Section 4.5.8: white space before the colon), or "".
func fieldName(field []byte) string {
	line := nextLine(field)
	name, _, ok := bytes.Cut(line, []byte{':'})
	if !ok {
		return ""
	}
	name = bytes.TrimRight(name, " \t")
	for _, c := range name {
		if c <= ' ' || c >= 0x7f {
			return ""
		}
	}
	return string(name)
}

// Get is the Value of the first field of that name, case-insensitively, or "".
func (h Header) Get(name string) string {
	for _, f := range h.Fields {
		if f.Is(name) {
			return f.Value()
		}
	}
	return ""
}

// Has tells whether there is a field of that name, case-insensitively.
func (h Header) Has(name string) bool {
	for _, f := range h.Fields {
		if f.Is(name) {
			return true
		}
	}
	return false
}

// All returns the fields of that name, case-insensitively.
func (h Header) All(name string) []Field {
	var all []Field
	for _, f := range h.Fields {
		if f.Is(name) {
			all = append(all, f)
		}
	}
	return all
}

// Is tells whether f has that name, case-insensitively. A malformed field has
// no name, not even "".
func (f Field) Is(name string) bool { return f.Name != "" && strings.EqualFold(f.Name, name) }

// ReadHeader reads the header at the beginning of src; its Raw is as long as
// the body's offset. A header of more than limit bytes is ErrLimit; 0 means the
// default of [Limits].
func ReadHeader(src Source, limit int64) (Header, error) {
	if limit <= 0 {
		limit = defaultHeader
	}
	var raw []byte
	step := int64(4 << 10)
	for {
		n := min(step, src.Size()-int64(len(raw)))
		old := len(raw)
		raw = append(raw, make([]byte, n)...)
		if err := readFull(src, raw[old:], int64(old)); err != nil {
			return Header{}, fmt.Errorf("reading a header: %w", err)
		}
		if end := headerEnd(raw, max(old-2, 0)); end >= 0 {
			raw = raw[:end]
			break
		}
		if int64(len(raw)) == src.Size() || int64(len(raw)) > limit {
			break
		}
		step *= 2
	}
	if int64(len(raw)) > limit {
		return Header{}, fmt.Errorf("%w: header of more than %d bytes", ErrLimit, limit)
	}
	return ParseHeader(raw), nil
}

// headerEnd is the offset after the empty line that ends a header, or -1; from
// is where to begin, at most two bytes after a line end not looked behind yet.
func headerEnd(raw []byte, from int) int {
	if from == 0 {
		if n := emptyAt(raw); n > 0 {
			return n
		}
	}
	for i := from; ; {
		j := bytes.IndexByte(raw[i:], '\n')
		if j < 0 {
			return -1
		}
		i += j + 1
		if n := emptyAt(raw[i:]); n > 0 {
			return i + n
		}
	}
}

// emptyAt is the length of the empty line that b begins with, or 0.
func emptyAt(b []byte) int {
	switch {
	case len(b) > 0 && b[0] == '\n':
		return 1
	case len(b) > 1 && b[0] == '\r' && b[1] == '\n':
		return 2
	}
	return 0
}

// WithoutFields is src without the fields of its root header that drop names;
// every other byte stays. Malformed fields are shown to drop too.
func WithoutFields(src Source, drop func(Field) bool) (Source, error) {
	h, err := ReadHeader(src, 0)
	if err != nil {
		return nil, err
	}
	kept := make([]byte, 0, len(h.Raw))
	at := int64(0)
	for _, f := range h.Fields {
		at = f.Start + int64(len(f.Raw))
		if !drop(f) {
			kept = append(kept, f.Raw...)
		}
	}
	kept = append(kept, h.Raw[at:]...)
	if len(kept) == len(h.Raw) {
		return src, nil
	}
	body := int64(len(h.Raw))
	return Concat(Bytes(kept), Section(src, body, src.Size()-body)), nil
}

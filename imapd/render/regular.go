package render

import "bytes"

// A header is regular if it leaves no reader a choice of which fields it has:
// CRLF ends its lines and no other control stands in them but TAB, each field has
// a name and a colon right after it (RFC 5322, Section 2.2), no folded line is
// empty, and an empty line ends it.

// ReadRegular reads the regular header that a message begins with, to its empty
// line, and gives its fields to take. It is the number of bytes, 0 if the message
// begins otherwise, or b holds less than the header.
func ReadRegular(b []byte, take func(start int, name, raw []byte)) int {
	start := 0 // of the field under way
	var name []byte
	for at := 0; ; {
		end := at + bytes.IndexByte(b[at:], '\n')
		if end <= at || b[end-1] != '\r' {
			return 0
		}
		line := b[at : end-1]
		folded := len(line) > 0 && (line[0] == ' ' || line[0] == '\t')
		if !folded && name != nil {
			take(start, name, b[start:at:at])
		}
		switch {
		case len(line) == 0:
			return end + 1
		case folded && (name == nil || len(bytes.Trim(line, " \t")) == 0):
			return 0
		case !folded:
			colon := bytes.IndexByte(line, ':')
			if colon < 0 || !FieldName(line[:colon]) {
				return 0
			}
			start, name = at, line[:colon]
		}
		for _, c := range line {
			if breaksLine(c) {
				return 0
			}
		}
		at = end + 1
	}
}

// FieldName tells whether a field may have that name (RFC 5322, Section 3.6.8).
func FieldName[T string | []byte](name T) bool {
	for i := range len(name) {
		if c := name[i]; c <= ' ' || c >= 0x7f || c == ':' {
			return false
		}
	}
	return len(name) > 0
}

// Picker picks fields out of regular headers, as HEADER.FIELDS and
// HEADER.FIELDS.NOT ask for them (RFC 3501, Section 6.4.5).
type Picker struct {
	names [][]byte
	not   bool
}

// NewPicker picks the fields that have one of the names; with not those that
// have none of them.
func NewPicker(names []string, not bool) *Picker {
	p := &Picker{not: not}
	for _, n := range names {
		p.names = append(p.names, []byte(n))
	}
	return p
}

// Append appends to b what is picked of a regular header, with imitations of our
// fields masked.
func (p *Picker) Append(b, header []byte) []byte {
	from := len(b)
	ReadRegular(header, func(_ int, name, raw []byte) {
		if p.has(name) != p.not {
			b = append(b, raw...)
		}
	})
	Mask(b[from:], 0, Imitations(b[from:]))
	return append(b, "\r\n"...)
}

func (p *Picker) has(name []byte) bool {
	for _, n := range p.names {
		if len(n) == len(name) && bytes.EqualFold(n, name) {
			return true
		}
	}
	return false
}

package render

import (
	"slices"

	"letterlock.org/letterlock/imapd/wire"
	"letterlock.org/letterlock/internal/message"
)

// Message is a message whose structure is known. It is immutable and safe for
// concurrent use as long as its Source is open.
type Message struct {
	Source message.Source
	Root   *message.Part
}

// New reads the structure of src. The error is message.ErrLimit or one of
// reading.
func New(src message.Source, l message.Limits) (*Message, error) {
	root, err := message.Parse(src, l)
	if err != nil {
		return nil, err
	}
	return &Message{src, root}, nil
}

// Size is RFC822.SIZE.
func (m *Message) Size() int64 { return m.Source.Size() }

// Header is the root header as it stands, with the empty line that ends it.
func (m *Message) Header() []byte { return m.Root.Header.Raw }

// Envelope is ENVELOPE, parentheses included.
func (m *Message) Envelope() []byte { return Envelope(m.Root.Header) }

// Body is BODY, parentheses included.
func (m *Message) Body() []byte { return appendStructure(nil, m.Root, false) }

// BodyStructure is BODYSTRUCTURE, parentheses included.
func (m *Message) BodyStructure() []byte { return appendStructure(nil, m.Root, true) }

// Section gives the bytes of a section: a range of the Source, except for
// HEADER.FIELDS, which is put together. ok is false where the message has no
// such section; its bytes are none, which is also what to answer.
func (m *Message) Section(s wire.Section) (bytes message.Source, ok bool) {
	none := message.Bytes(nil)
	p := m.Root
	if len(s.Part) > 0 {
		if p = find(m.Root, s.Part); p == nil {
			return none, false
		}
		switch s.Kind {
		case "":
			return m.cut(p.Body, p.End), true
		case "MIME":
			return m.cut(p.Start, p.Body), true
		}
		if p = embedded(p); p == nil {
			return none, false
		}
	}
	switch s.Kind {
	case "":
		return m.Source, true
	case "HEADER":
		return m.cut(p.Start, p.Body), true
	case "TEXT":
		return m.cut(p.Body, p.End), true
	case "HEADER.FIELDS", "HEADER.FIELDS.NOT":
		return message.Bytes(HeaderFields(p.Header, s.Fields, s.Kind == "HEADER.FIELDS.NOT")), true
	}
	return none, false
}

// find gives the part with that number (RFC 3501, Section 6.4.5), or nil. Part 1
// of what has no parts is itself, at any depth but once, as Dovecot has it.
func find(p *message.Part, number []int) *message.Part {
	itself := false // p was reached as part 1 of itself
	for i, n := range number {
		if in := embedded(p); i > 0 && in != nil {
			p, itself = in, false
		}
		switch {
		case p.Type == "multipart":
			if n < 1 || n > len(p.Children) {
				return nil
			}
			p, itself = p.Children[n-1], false
		case n != 1 || itself:
			return nil
		default:
			itself = true
		}
	}
	return p
}

// embedded is the message inside p, as far as IMAP4rev1 knows of it: a
// message/global (RFC 6532) is a part like any other.
func embedded(p *message.Part) *message.Part {
	if p.Is("message/rfc822") {
		return p.Embedded
	}
	return nil
}

func (m *Message) cut(from, to int64) message.Source {
	return message.Section(m.Source, from, to-from)
}

// HeaderFields is HEADER.FIELDS, or with not HEADER.FIELDS.NOT: the fields as
// they stand, in their order, and an empty line. There is none after the fields
// of HEADER.FIELDS.NOT where the header itself has none, and nothing of a
// header that is empty: so it is with Dovecot.
func HeaderFields(h message.Header, names []string, not bool) []byte {
	var b []byte
	end := 0 // of the fields
	for _, f := range h.Fields {
		end = int(f.Start) + len(f.Raw)
		named := f.Name != "" && slices.ContainsFunc(names, f.Is)
		if named != not && (f.Name != "" || not) {
			b = append(b, f.Raw...)
		}
	}
	if len(h.Raw) == 0 || not && end == len(h.Raw) {
		return b
	}
	if len(b) > 0 && b[len(b)-1] != '\n' {
		b = append(b, "\r\n"...) // the last field of a message that ends within its header
	}
	return append(b, "\r\n"...)
}

// Partial is the bytes of src that <offset.count> asks for; beyond the end
// there are none (RFC 3501, Section 6.4.5).
func Partial(src message.Source, offset, count int64) message.Source {
	if offset >= src.Size() || offset < 0 || count <= 0 {
		return message.Bytes(nil)
	}
	return message.Section(src, offset, count)
}

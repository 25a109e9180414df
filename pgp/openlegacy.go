package pgp

import (
	"bytes"
	"context"
	"io"
	"strings"

	"letterlock.org/letterlock/internal/message"
)

// Bounds of what is read in search of a legacy display element, and of its fields.
const (
	maxLegacyDisplay = 8 << 10
	maxRepeated      = 50
)

// edit replaces the bytes of the payload from off to end.
type edit struct {
	off, end int64
	with     []byte
}

// wrappedMessage is the message inside of a payload that is nothing but a
// message/rfc822, as RFC 8551, Section 3.1 protects headers (RFC 9788, Section
// 4.10): that which has the very sender and identifier of the outer one, so
// that a letter that was only forwarded is never taken for it. Nil if it isn't.
func wrappedMessage(outer message.Header, crypt *message.Part) *message.Part {
	in := crypt.Embedded
	if in == nil || encoded(crypt) || signedParts(in) || crypt.Params["hp"] != "" || crypt.Params["protected-headers"] != "" {
		return nil
	}
	from, id := oneSender(in.Header), in.Header.Get("Message-ID")
	if from.IsZero() || !from.Equal(oneSender(outer)) || id == "" || id != outer.Get("Message-ID") {
		return nil
	}
	return in
}

// legacyDisplay finds the elements that repeat protected fields in the text, for
// programs that don't know header protection (RFC 9788, Section 4.5.3), and
// leaves them out. Only where every line of one says what the shown header says
// too, so that nothing is hidden from the reader; in HTML they stay.
func (l *letter) legacyDisplay(v Verdict) (edits []edit, err error) {
	if l.guarded != full || l.root == nil || signedParts(l.root) {
		return nil, nil // what a client may verify stays as it is
	}
	shown := &said{fields: l.shownInside(v)}
	for _, p := range mainBodies(l.root) {
		if p.Params["hp-legacy-display"] != "1" || !p.Is("text/plain") {
			continue
		}
		switch transferEncoding(p.Header) {
		case "", "7bit", "8bit", "quoted-printable":
		default:
			continue
		}
		head := make([]byte, min(maxLegacyDisplay, p.End-p.Body))
		if n, err := l.payload.ReadAt(head, p.Body); n < len(head) {
			if err == nil || err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
		if n := repeated(shown, head, transferEncoding(p.Header)); n > 0 {
			edits = append(append(edits, unmark(p)...), edit{off: p.Body, end: p.Body + int64(n)})
		}
	}
	return edits, nil
}

// mainBodies are the parts that are the letter's text (RFC 9787, Section 7.1).
func mainBodies(p *message.Part) (all []*message.Part) {
	switch {
	case p.Is("multipart/alternative"):
		for _, c := range p.Children {
			all = append(all, mainBodies(c)...)
		}
	case p.Is("multipart/mixed") || p.Is("multipart/related"):
		if len(p.Children) > 0 {
			all = mainBodies(p.Children[0])
		}
	case len(p.Children) == 0 && p.Embedded == nil:
		all = append(all, p)
	}
	return all
}

// repeated is how long the element is that text begins with, its empty line
// included; 0 if there is none, or it says anything that the shown header doesn't.
func repeated(shown *said, text []byte, encoding string) int {
	h := message.ParseHeader(text)
	if len(h.Fields) == 0 || len(h.Fields) > maxRepeated || !bytes.HasSuffix(h.Raw, []byte("\n\n")) && !bytes.HasSuffix(h.Raw, []byte("\n\r\n")) {
		return 0
	}
	for _, f := range h.Fields {
		value := f.Value()
		if encoding == "quoted-printable" {
			value = string(decodePrefix([]byte(value), encoding))
		}
		if f.Name == "" || !shown.says(f.Name, value) {
			return 0
		}
	}
	return len(h.Raw)
}

// said are the texts of a shown header, each decoded once: a letter may have
// thousands of fields, and elements by the thousand.
type said struct {
	fields []message.Field
	texts  map[string]map[string]bool // by name in lower case; nil before the first
}

// says tells whether a field of that name has that text, however it is folded.
func (s *said) says(name, text string) bool {
	if s.texts == nil {
		s.texts = map[string]map[string]bool{}
	}
	name = strings.ToLower(name)
	texts, ok := s.texts[name]
	if !ok {
		texts = map[string]bool{}
		for _, f := range s.fields {
			if f.Is(name) {
				texts[strings.Join(strings.Fields(f.Text()), " ")] = true
			}
		}
		s.texts[name] = texts
	}
	return texts[strings.Join(strings.Fields(text), " ")]
}

// unmark takes back a part's mark, so that no program looks for the element
// again and cuts off the letter's own first lines.
func unmark(p *message.Part) []edit {
	for _, f := range p.Header.Fields {
		if i := markAt(f); i >= 0 {
			at := p.Start + f.Start + int64(i)
			return []edit{{off: at, end: at + 1, with: []byte{'0'}}}
		}
	}
	return nil
}

// markAt is where the value of hp-legacy-display stands in a field, or -1.
func markAt(f message.Field) int {
	const name = "hp-legacy-display"
	if !f.Is("Content-Type") {
		return -1
	}
	i := bytes.Index(bytes.ToLower(f.Raw), []byte(name))
	if i < 0 {
		return -1
	}
	for i += len(name); i < len(f.Raw); i++ {
		switch f.Raw[i] {
		case '=', '"', ' ', '\t', '\r', '\n':
		case '1':
			return i
		default:
			return -1
		}
	}
	return -1
}

// copyEdited copies the payload from off to end with the edits made.
func copyEdited(ctx context.Context, w io.Writer, src message.Source, off, end int64, edits []edit) error {
	for _, e := range edits {
		if e.off < off {
			continue // of the header, which is written by itself
		}
		if err := copyRange(ctx, w, src, off, e.off); err != nil {
			return err
		}
		if _, err := w.Write(e.with); err != nil {
			return err
		}
		off = e.end
	}
	return copyRange(ctx, w, src, off, end)
}

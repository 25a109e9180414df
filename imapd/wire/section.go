package wire

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// FetchItem is one item that a client asks for.
type FetchItem struct {
	Name    string   // upper case, without section: FLAGS, BODY, RFC822.SIZE …
	Section *Section // of BODY[…] and BODY.PEEK[…]; nil for all else
	Peek    bool
	Partial *Partial
}

// Section is what stands in the brackets (RFC 3501, Section 6.4.5).
type Section struct {
	Part   []int    // part numbers; empty for the whole message
	Kind   string   // "", HEADER, HEADER.FIELDS, HEADER.FIELDS.NOT, TEXT, MIME
	Fields []string // of HEADER.FIELDS and HEADER.FIELDS.NOT, as spelled
	spec   string   // as the client spelled it, if it holds no literal
}

// Partial is <Offset.Count>.
type Partial struct{ Offset, Count int64 }

// macros are RFC 3501, Section 6.4.5.
var macros = map[string][]string{
	"ALL":  {"FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE"},
	"FAST": {"FLAGS", "INTERNALDATE", "RFC822.SIZE"},
	"FULL": {"FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODY"},
}

// ParseFetchItems reads the items of a FETCH: an atom, a macro or a list.
func ParseFetchItems(t Token) ([]FetchItem, error) {
	list := t.List
	if t.Kind == Atom {
		if m, ok := macros[upper(t.Value)]; ok {
			var items []FetchItem
			for _, n := range m {
				items = append(items, FetchItem{Name: n})
			}
			return items, nil
		}
		list = []Token{t}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%w: no items", ErrSyntax)
	}
	var items []FetchItem
	for _, t := range list {
		item, err := parseFetchItem(t)
		if err != nil {
			return nil, err
		}
		items = append(items, item)
	}
	return items, nil
}

func parseFetchItem(t Token) (FetchItem, error) {
	bad := fmt.Errorf("%w: bad FETCH item", ErrSyntax)
	if t.Kind != Atom {
		return FetchItem{}, bad
	}
	open := bytes.IndexByte(t.Value, '[')
	if open < 0 {
		return FetchItem{Name: upper(t.Value)}, nil
	}
	item := FetchItem{Name: upper(t.Value[:open])}
	if item.Name == "BODY.PEEK" {
		item.Name, item.Peek = "BODY", true
	}
	if item.Name != "BODY" {
		return FetchItem{}, bad
	}
	end := bytes.LastIndexByte(t.Value, ']')
	if end < open {
		return FetchItem{}, bad
	}
	var err error
	if item.Section, err = parseSection(t.Value[open+1 : end]); err != nil {
		return FetchItem{}, err
	}
	if rest := t.Value[end+1:]; len(rest) > 0 {
		if item.Partial, err = parsePartial(rest); err != nil {
			return FetchItem{}, err
		}
	}
	return item, nil
}

func parsePartial(b []byte) (*Partial, error) {
	bad := fmt.Errorf("%w: bad partial", ErrSyntax)
	if len(b) < 5 || b[0] != '<' || b[len(b)-1] != '>' {
		return nil, bad
	}
	off, count, ok := strings.Cut(string(b[1:len(b)-1]), ".")
	o, err1 := strconv.ParseUint(off, 10, 32)
	n, err2 := strconv.ParseUint(count, 10, 32)
	if !ok || err1 != nil || err2 != nil || n == 0 {
		return nil, bad
	}
	return &Partial{int64(o), int64(n)}, nil
}

func parseSection(b []byte) (*Section, error) {
	bad := fmt.Errorf("%w: bad section", ErrSyntax)
	s := &Section{}
	if !bytes.Contains(b, []byte("\r\n")) {
		s.spec = string(b)
	}
	for len(b) > 0 && '0' <= b[0] && b[0] <= '9' {
		i := 0
		for i < len(b) && '0' <= b[i] && b[i] <= '9' {
			i++
		}
		n, err := strconv.ParseUint(string(b[:i]), 10, 31)
		if err != nil || n == 0 || len(s.Part) >= 100 {
			return nil, bad
		}
		s.Part = append(s.Part, int(n))
		b = b[i:]
		if len(b) > 0 {
			if b[0] != '.' || len(b) == 1 {
				return nil, bad
			}
			b = b[1:]
		}
	}
	word, rest, _ := bytes.Cut(b, []byte(" "))
	s.Kind = upper(word)
	switch s.Kind {
	case "", "HEADER", "TEXT":
	case "MIME":
		if len(s.Part) == 0 {
			return nil, bad
		}
	case "HEADER.FIELDS", "HEADER.FIELDS.NOT":
		return s, s.fields(rest)
	default:
		return nil, bad
	}
	if len(rest) > 0 || len(word) < len(b) {
		return nil, bad
	}
	return s, nil
}

// fields reads the list of field names.
func (s *Section) fields(b []byte) error {
	bad := fmt.Errorf("%w: bad field list", ErrSyntax)
	sc := &scanner{b: b, depth: 2, literals: allLiterals(b)}
	ts, err := sc.tokens(0)
	if err != nil || len(ts) != 1 || ts[0].Kind != List || len(ts[0].List) == 0 {
		return bad
	}
	for _, t := range ts[0].List {
		if t.Kind == List || len(t.Value) == 0 && t.Kind == Atom {
			return bad
		}
		for _, c := range t.Value {
			if c < ' ' || c >= 0x7f {
				return bad // no field has such a name
			}
		}
		s.Fields = append(s.Fields, string(t.Value))
	}
	return nil
}

// allLiterals finds the literals within a section that is known to be whole.
func allLiterals(b []byte) []span {
	var found []span
	for p := 0; p < len(b); {
		end := bytes.Index(b[p:], []byte("\r\n"))
		if end < 0 {
			return found
		}
		at, size, _, _, ok, huge := announcement(b[p : p+end])
		from := p + end + 2
		if !ok || huge || int64(len(b)-from) < size {
			return found
		}
		found = append(found, span{at: p + at, from: from, to: from + int(size)})
		p = from + int(size)
	}
	return found
}

// String writes the section as it stands between the brackets: as the client
// spelled it, where that needs no literal.
func (s *Section) String() string {
	if s.spec != "" {
		return s.spec
	}
	var b strings.Builder
	for i, n := range s.Part {
		if i > 0 {
			b.WriteByte('.')
		}
		b.WriteString(strconv.Itoa(n))
	}
	if s.Kind == "" {
		return b.String()
	}
	if len(s.Part) > 0 {
		b.WriteByte('.')
	}
	b.WriteString(s.Kind)
	if s.Fields != nil {
		b.WriteString(" (")
		for i, f := range s.Fields {
			if i > 0 {
				b.WriteByte(' ')
			}
			b.Write(fieldToken(f))
		}
		b.WriteByte(')')
	}
	return b.String()
}

func fieldToken(f string) []byte {
	if f != "" && strings.IndexFunc(f, func(r rune) bool { return r <= ' ' || strings.ContainsRune(`(){%*"\]`, r) }) < 0 {
		return []byte(f)
	}
	return StringToken(f).Raw
}

// Content tells whether the item says something of the message's bytes, and not
// only of its place in the mailbox.
func (i FetchItem) Content() bool {
	switch i.Name {
	case "FLAGS", "UID", "INTERNALDATE", "MODSEQ", "X-GM-MSGID", "X-GM-THRID", "X-GM-LABELS":
		return false
	}
	return true
}

// Sets tells whether asking for the item sets \Seen.
func (i FetchItem) Sets() bool {
	return i.Name == "RFC822" || i.Name == "RFC822.TEXT" || i.Section != nil && !i.Peek
}

// Known tells whether the item is one that we understand.
func (i FetchItem) Known() bool {
	switch i.Name {
	case "BODY", "BODYSTRUCTURE", "ENVELOPE", "RFC822", "RFC822.HEADER", "RFC822.SIZE", "RFC822.TEXT":
		return true
	}
	return !i.Content()
}

// Request writes the item as a client asks for it.
func (i FetchItem) Request() string {
	s := i.Name
	if i.Section != nil {
		if i.Peek {
			s += ".PEEK"
		}
		s += "[" + i.Section.String() + "]"
	}
	if i.Partial != nil {
		s += fmt.Sprintf("<%d.%d>", i.Partial.Offset, i.Partial.Count)
	}
	return s
}

// Response writes the item's name as a server answers it.
func (i FetchItem) Response() string {
	s := i.Name
	if i.Section != nil {
		s += "[" + i.Section.Canonical() + "]"
	}
	if i.Partial != nil {
		s += fmt.Sprintf("<%d>", i.Partial.Offset)
	}
	return s
}

// Canonical writes the section in upper case, with fields as spelled.
func (s *Section) Canonical() string {
	c := *s
	c.spec = ""
	return c.String()
}

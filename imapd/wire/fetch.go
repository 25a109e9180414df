package wire

import (
	"bytes"
	"fmt"
	"io"
)

// Item is one data item of a FETCH response. Its bytes are valid until the next
// read; whoever keeps them copies them.
type Item struct {
	Name  []byte // as the server spells it: "FLAGS", "BODY[HEADER]<0>" …
	Value []byte // text of the value, with the literals within it as "{n}"; nil for a Literal
	// Literal is true where the value is one literal of Size bytes, to be read
	// with FetchReader.Copy; what is not read is dropped.
	Literal bool
	Size    int64
}

// FetchReader goes through the items of one FETCH response.
type FetchReader struct {
	r    *ResponseReader
	line []byte // the line under way
	p    int    // where we are in it
	left int64  // of the literal under way
	lit  bool   // the last item was a literal
	done bool
	open int // parentheses around items that are open
	val  []byte
	name []byte
}

// Fetch begins to read a FETCH response, after Next said that one comes.
func (r *ResponseReader) Fetch() (*FetchReader, error) {
	line, err := r.line()
	if err != nil {
		return nil, err
	}
	open := bytes.IndexByte(line, '(')
	if open < 0 {
		return nil, fmt.Errorf("%w: FETCH without items", ErrDesync)
	}
	return &FetchReader{r: r, line: line, p: open + 1}, nil
}

var errFetch = fmt.Errorf("%w: malformed FETCH", ErrDesync)

// Next gives the next item, or io.EOF after the last, when the whole response
// has been consumed. Where an item cannot be read, it is ErrItem if no literal is
// announced at the end of its line: then the response ends there.
func (f *FetchReader) Next() (Item, error) {
	if f.done {
		return Item{}, io.EOF
	}
	i, err := f.next()
	if err == errFetch && len(f.line) > len("\r\n") && bytes.HasSuffix(f.line, []byte("\r\n")) && !bytes.HasSuffix(f.line, []byte("}\r\n")) {
		f.done, err = true, ErrItem
	}
	return i, err
}

func (f *FetchReader) next() (Item, error) {
	if f.lit {
		if err := f.Copy(io.Discard); err != nil {
			return Item{}, err
		}
		if err := f.more(); err != nil {
			return Item{}, err
		}
		f.lit = false
	}
	for f.p < len(f.line) && (f.line[f.p] == ' ' || f.line[f.p] == '(' || f.line[f.p] == ')' && f.open > 0) {
		switch f.line[f.p] { // Domino puts some items in parentheses of their own
		case '(':
			f.open++
		case ')':
			f.open--
		}
		f.p++
	}
	if f.p >= len(f.line) {
		return Item{}, errFetch
	}
	if f.line[f.p] == ')' {
		f.done = true
		if rest := bytes.TrimRight(f.line[f.p+1:], " \r\n"); len(rest) > 0 {
			return Item{}, errFetch
		}
		return Item{}, io.EOF
	}
	name, err := f.itemName()
	if err != nil {
		return Item{}, err
	}
	return f.value(name)
}

// itemName reads a name: an atom with a section and an origin.
func (f *FetchReader) itemName() ([]byte, error) {
	start := f.p
	for f.p < len(f.line) {
		switch c := f.line[f.p]; {
		case c == ' ':
			if f.p == start {
				return nil, errFetch
			}
			name := f.line[start:f.p]
			for f.p < len(f.line) && f.line[f.p] == ' ' { // one too many is no reason to stop
				f.p++
			}
			return name, nil
		case c == '[':
			in := false
			for f.p++; f.p < len(f.line) && (in || f.line[f.p] != ']'); f.p++ {
				switch c := f.line[f.p]; {
				case c < ' ':
					return nil, errFetch
				case c == '"':
					in = !in
				case in && c == '\\':
					f.p++
				}
			}
			f.p++
		case f.p > start && (c == '(' || c == '"' || c == '{'): // and none is no reason either
			return f.line[start:f.p], nil
		case c < ' ' || c == '(' || c == ')' || c == '"' || c == '{':
			return nil, errFetch
		default:
			f.p++
		}
	}
	return nil, errFetch
}

// value reads the value of the item.
func (f *FetchReader) value(name []byte) (Item, error) {
	if size, ok, err := f.literal(); err != nil {
		return Item{}, err
	} else if ok {
		f.name = append(f.name[:0], name...)
		f.left, f.lit = size, true
		return Item{Name: f.name, Literal: true, Size: size}, nil
	}
	v := value{f: f, name: name, start: f.p}
	for depth := 0; ; {
		if f.p >= len(f.line) {
			return Item{}, errFetch
		}
		var err error
		switch c := f.line[f.p]; {
		case c == '"':
			err = v.quoted()
		case (c == ' ' || c == ')') && depth == 0:
			return v.item()
		case c == '(':
			depth++ // however deep: any sender can nest parts, and it costs nothing here
			f.p++
		case c == ')':
			depth--
			f.p++
		case c == '{':
			err = v.literal()
		case c == '\r' || c == '\n':
			return Item{}, errFetch
		default:
			f.p++
		}
		if err != nil {
			return Item{}, err
		}
	}
}

// value is the value of an item while it is read: one piece of the line, or gathered
// in the reader's val where it crosses lines or is not passed on as it came.
type value struct {
	f       *FetchReader
	name    []byte
	start   int // of what is not gathered yet
	spilled bool
}

// spill gathers what was read.
func (v *value) spill() {
	f := v.f
	if !v.spilled {
		f.name = append(f.name[:0], v.name...)
		v.name, f.val, v.spilled = f.name, f.val[:0], true
	}
	f.val = append(f.val, f.line[v.start:f.p]...)
	v.start = f.p
}

// item ends the value.
func (v *value) item() (Item, error) {
	b := v.f.line[v.start:v.f.p]
	if v.spilled {
		v.spill()
		b = v.f.val
	}
	if len(b) == 0 {
		return Item{}, errFetch
	}
	return Item{Name: v.name, Value: b}, nil
}

// quoted goes behind a quoted string, and quotes the quotes in it.
func (v *value) quoted() error {
	for {
		inner, err := v.f.skipQuoted()
		if err != nil || !inner {
			return err
		}
		v.spill()
		v.f.val = append(v.f.val, '\\')
	}
}

// literal goes behind a literal, if one is announced here. It is announced in the one
// form that everybody knows: who took another for text would take its lines for
// responses.
func (v *value) literal() error {
	f := v.f
	size, ok, err := f.literal()
	if err != nil {
		return err
	}
	if !ok {
		f.p++
		return nil
	}
	binary := f.p > v.start && f.line[f.p-1] == '~'
	v.spill()
	if binary {
		f.val = f.val[:len(f.val)-1]
	}
	f.val = fmt.Appendf(f.val, "{%d}\r\n", size)
	if size > int64(f.r.l.Response-len(f.val)) {
		return fmt.Errorf("%w: response longer than %d bytes", ErrDesync, f.r.l.Response)
	}
	w := &collector{b: f.val, limit: f.r.l.Response}
	if err := f.r.copyLiteral(w, size); err != nil {
		return err
	}
	f.val = w.b
	v.start = 0
	return f.more()
}

// literal tells whether a literal is announced at p, at the end of the line.
func (f *FetchReader) literal() (size int64, ok bool, err error) {
	p := f.p
	if p < len(f.line) && f.line[p] == '~' {
		p++
	}
	if p >= len(f.line) || f.line[p] != '{' {
		return 0, false, nil
	}
	at, size, _, _, ok, huge := announcement(bytes.TrimSuffix(f.line, []byte("\r\n")))
	if !ok || at != p {
		return 0, false, nil
	}
	if huge {
		return 0, false, errFetch
	}
	return size, true, nil
}

// skipQuoted goes behind a quoted string. Some servers don't quote the quotes in it:
// a quote that nothing of a list follows is one of those. It stops at such a one,
// and goes on behind it.
func (f *FetchReader) skipQuoted() (inner bool, err error) {
	for f.p++; f.p < len(f.line); f.p++ {
		switch f.line[f.p] {
		case '"':
			if f.p+1 < len(f.line) && bytes.IndexByte([]byte(" ()\r\n"), f.line[f.p+1]) < 0 {
				return true, nil
			}
			f.p++
			return false, nil
		case '\\':
			f.p++
		case '\r', '\n':
			return false, errFetch
		}
	}
	return false, errFetch
}

// more reads the line after a literal. Some servers put an empty one before it,
// which belongs to nothing.
func (f *FetchReader) more() error {
	line, err := f.r.line()
	if err == nil && string(line) == "\r\n" {
		line, err = f.r.line()
	}
	f.line, f.p = line, 0
	return err
}

// Copy passes what is left of the literal that Next announced on to w.
func (f *FetchReader) Copy(w io.Writer) error {
	n := f.left
	f.left = 0
	return f.r.copyLiteral(w, n)
}

// CopyN passes up to n bytes of the literal on to w.
func (f *FetchReader) CopyN(w io.Writer, n int64) error {
	n = min(n, f.left)
	f.left -= n
	return f.r.copyLiteral(w, n)
}

// Left is how much of the literal has not been read.
func (f *FetchReader) Left() int64 { return f.left }

// Drain reads to the end of the response.
func (f *FetchReader) Drain() error {
	for {
		if _, err := f.Next(); err == io.EOF || err == ErrItem {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// String says what a quoted or literal Value says, and nil for NIL and all else.
func (i Item) String() []byte {
	v := i.Value
	if len(v) < 2 || v[0] != '"' {
		if at := bytes.Index(v, []byte("}\r\n")); at > 0 && v[0] == '{' {
			return v[at+3:]
		}
		return nil
	}
	s := &scanner{b: v}
	q, err := s.quoted()
	if err != nil {
		return nil
	}
	return q
}

package message

import "iter"

// Limits bound what Parse accepts. Zero fields mean the defaults.
type Limits struct {
	Depth    int   // nesting below the root, 30
	Parts    int   // in all, embedded messages included, 1000
	Boundary int   // bytes, 70 (RFC 2046, Section 5.1.1)
	Header   int64 // bytes of one part's header, 1 MiB; four times that of all together
	Fields   int   // fields of one header, 2000; ten times that of all together
}

const defaultHeader = 1 << 20

func (l Limits) withDefaults() Limits {
	set := func(p *int, d int) {
		if *p <= 0 {
			*p = d
		}
	}
	set(&l.Depth, 30)
	set(&l.Parts, 1000)
	set(&l.Boundary, 70)
	set(&l.Fields, 2000)
	if l.Header <= 0 {
		l.Header = defaultHeader
	}
	return l
}

// Part is one part of a message's structure; offsets count from the beginning
// of the Source that was parsed.
type Part struct {
	Section  []int // IMAP part number (RFC 3501, Section 6.4.5); empty at the root; that of an embedded message's root is what its children's begin with
	Start    int64 // first byte of the part's header
	Body     int64 // first byte of its body
	End      int64 // after its last byte; the CRLF before a delimiter belongs to the delimiter
	Lines    int64 // number of line ends in the body
	Header   Header
	Type     string            // "text", "multipart", … lower case; "text" where unset or malformed
	Subtype  string            // lower case
	Params   map[string]string // of Content-Type, names lower case, RFC 2231 decoded
	Children []*Part           // of multipart; none where no delimiter was found
	Embedded *Part             // of message/rfc822 and message/global: the root of the message inside
}

// Is tells whether p has that media type, "text/plain", in lower case.
func (p *Part) Is(mediaType string) bool {
	n := len(p.Type)
	return len(mediaType) == n+1+len(p.Subtype) && mediaType[:n] == p.Type &&
		mediaType[n] == '/' && mediaType[n+1:] == p.Subtype
}

// IsMultipart tells whether p is a multipart with a boundary. One that names
// none is a leaf of its declared type.
func (p *Part) IsMultipart() bool { return p.Type == "multipart" && p.Params["boundary"] != "" }

// All gives p and every part below it in the order in which they lie in the
// message, embedded messages' included.
func (p *Part) All() iter.Seq[*Part] {
	return func(yield func(*Part) bool) {
		todo := []*Part{p}
		for len(todo) > 0 {
			q := todo[len(todo)-1]
			todo = todo[:len(todo)-1]
			if !yield(q) {
				return
			}
			for i := len(q.Children) - 1; i >= 0; i-- {
				todo = append(todo, q.Children[i])
			}
			if q.Embedded != nil {
				todo = append(todo, q.Embedded)
			}
		}
	}
}

// Find gives the part that an IMAP section number names (RFC 3501, Section
// 6.4.5), or nil. Part 1 of a message that isn't multipart is that message's
// root itself. p must be the root of a message.
func (p *Part) Find(section ...int) *Part {
	cur := p
	for i, n := range section {
		message := i == 0
		if i > 0 && cur.Embedded != nil {
			cur, message = cur.Embedded, true
		}
		switch {
		case cur.IsMultipart():
			if n < 1 || n > len(cur.Children) {
				return nil
			}
			cur = cur.Children[n-1]
		case !message || n != 1:
			return nil
		}
	}
	return cur
}

package imapd

import (
	"io"
	"slices"
	"strings"

	"letterlock.org/letterlock/imapd/wire"
	"letterlock.org/letterlock/internal/message"
)

// reach is how far into a message a piece may begin to be asked for from the
// message's first byte. Clients that read in pieces take them of this length or
// longer, one after the other.
const reach = 64 << 10

// requestsFor writes items as they are asked of the upstream. What is no section is
// asked once; so are pieces that we cut, and the whole that they are cut from.
func (j *fetchJob) requestsFor(items []wire.FetchItem) []string {
	var out []string
	for n, i := range items {
		if whole := j.wholeOf(i); whole != nil {
			if slices.ContainsFunc(items[:n], func(o wire.FetchItem) bool { return samePieces(o, i) }) {
				continue
			}
			i = *whole
		}
		if r := i.Request(); i.Section != nil || !slices.Contains(out, r) {
			out = append(out, r)
		}
	}
	return out
}

// wholeOf is what to ask for instead of one of the client's items if it, or
// another one of the same section, is a piece that we cut; else nil.
func (j *fetchJob) wholeOf(i wire.FetchItem) *wire.FetchItem {
	cut, end := false, int64(0)
	whole := i
	for _, o := range j.items {
		if samePieces(i, o) {
			cut = cut || j.cutByUs(o)
			whole.Peek = whole.Peek && o.Peek
			if o.Partial != nil {
				end = max(end, o.Partial.Offset+o.Partial.Count)
			}
		}
	}
	if !cut {
		return nil
	}
	whole.Partial = nil
	if !pickedHeader(i.Section) {
		whole.Partial = &wire.Partial{Count: min(max(end, j.shown), 1<<32-1)}
	}
	return &whole
}

// samePieces tells whether two items are cut from one answer, if any is cut:
// those of one section of picked header fields, and pieces of the message or of
// its header.
func samePieces(a, b wire.FetchItem) bool {
	if a.Section == nil || b.Section == nil || !strings.EqualFold(a.Section.Canonical(), b.Section.Canonical()) {
		return false
	}
	return pickedHeader(a.Section) || a.Partial != nil && b.Partial != nil && beginsWithHeader(a.Section)
}

// cutByUs tells whether a partial item is asked for from its beginning and cut
// here: those in which an imitation of our fields can only be found by reading
// what is before them.
func (j *fetchJob) cutByUs(i wire.FetchItem) bool {
	if i.Partial == nil || i.Section == nil || j.s.account.Library == nil {
		return false
	}
	if pickedHeader(i.Section) {
		return true
	}
	return beginsWithHeader(i.Section) && (i.Partial.Offset > 0 && i.Partial.Offset < max(reach, j.headerEnd) ||
		i.Partial.Offset+i.Partial.Count < j.shown)
}

// nearHeader tells whether an item is a piece that most headers reach into.
func nearHeader(i wire.FetchItem) bool {
	return i.Partial != nil && i.Section != nil && beginsWithHeader(i.Section) && i.Partial.Offset < reach
}

// far tells whether an item is a piece from so far on that only a long header
// reaches there.
func far(i wire.FetchItem) bool {
	return i.Partial != nil && i.Section != nil && beginsWithHeader(i.Section) && i.Partial.Offset >= reach
}

// beginsWithHeader tells whether a section begins with the root header.
func beginsWithHeader(sec *wire.Section) bool {
	return len(sec.Part) == 0 && (sec.Kind == "" || sec.Kind == "HEADER")
}

// pickedHeader tells whether a section may be root header fields at offsets that
// are not those of the message.
func pickedHeader(sec *wire.Section) bool {
	switch sec.Kind {
	case "HEADER.FIELDS", "HEADER.FIELDS.NOT":
		return len(sec.Part) == 0
	case "MIME":
		return len(sec.Part) == 1 && sec.Part[0] == 1 // of a message that has one part
	}
	return false
}

// readsAny tells whether a command under way asks for pieces near the header of one
// of uids, which are ascending.
func (r *relay) readsAny(uids []uint32) bool {
	return slices.ContainsFunc(r.jobs(), func(j *fetchJob) bool {
		return slices.ContainsFunc(j.reads, func(uid uint32) bool { _, is := slices.BinarySearch(uids, uid); return is })
	})
}

// pieces gives the client's items that are cut from one answer, or nil.
func (j *fetchJob) pieces(name []byte) []wire.FetchItem {
	if i := j.index(name); i >= 0 {
		return j.cuts[i]
	}
	return nil
}

// pieces gives the client's items that are cut from one answer, or nil.
func (w *responseWriter) pieces(name []byte) []wire.FetchItem {
	for _, j := range w.jobs {
		if p := j.pieces(name); p != nil {
			return p
		}
	}
	return nil
}

// pieceName is the name that a piece is answered under.
func pieceName(i wire.FetchItem, name []byte) []byte {
	if i.Partial == nil {
		return name
	}
	if open := strings.LastIndexByte(string(name), '<'); open > strings.LastIndexByte(string(name), ']') && open >= 0 {
		name = name[:open]
	}
	return []byte(string(name) + "<" + itoa(i.Partial.Offset) + ">")
}

// cutPicked writes what the client asked for of a section that is held whole, or
// that there is no such section.
func (w *responseWriter) cutPicked(name, b []byte, null bool) error {
	for _, i := range w.pieces(name) {
		name, b := pieceName(i, name), b
		if i.Partial != nil {
			from := min(i.Partial.Offset, int64(len(b)))
			b = b[from:min(from+i.Partial.Count, int64(len(b)))]
		}
		var err error
		if null {
			err = w.text(name, []byte("NIL"))
		} else {
			_, err = w.begin(name, int64(len(b))).w.Write(b)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// cutHeaded writes what the client asked for of the first size bytes of a
// message, which from passes on: one piece as it comes, of several each.
func (w *responseWriter) cutHeaded(name []byte, size int64, from func(io.Writer) error) error {
	pieces := w.pieces(name)
	if len(pieces) == 1 {
		return w.cutPiece(pieceName(pieces[0], name), size, pieces[0], from)
	}
	sp := message.NewSpool(w.s.account.Spool)
	defer sp.Close()
	if err := from(sp); err != nil {
		return err
	}
	for _, i := range pieces {
		err := w.cutPiece(pieceName(i, name), size, i, func(out io.Writer) error {
			_, err := io.Copy(out, message.Reader(sp))
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// cutPiece writes one piece, with imitations of our fields masked.
func (w *responseWriter) cutPiece(name []byte, size int64, asked wire.FetchItem, from func(io.Writer) error) error {
	begin, n := int64(0), size
	if asked.Partial != nil {
		begin = min(asked.Partial.Offset, size)
		n = min(asked.Partial.Count, size-begin)
	}
	out := &window{w: w.begin(name, n).w, skip: begin, n: n}
	if err := w.throughMask(out, asked, from); err != nil {
		return err
	}
	return out.end()
}

// window passes on n bytes after the first skip ones, the last of them only at
// the end: until then nobody has the piece.
type window struct {
	w       io.Writer
	skip, n int64
	last    []byte
}

// end passes on the last byte.
func (w *window) end() error {
	if len(w.last) == 0 {
		return nil
	}
	_, err := w.w.Write(w.last)
	return err
}

// Write implements io.Writer.
func (w *window) Write(p []byte) (int, error) {
	all := len(p)
	skip := min(w.skip, int64(len(p)))
	w.skip -= skip
	p = p[skip:]
	p = p[:min(w.n, int64(len(p)))]
	w.n -= int64(len(p))
	if n := len(p); n > 0 && w.n == 0 {
		w.last, p = append(w.last[:0], p[n-1]), p[:n-1]
	}
	if len(p) > 0 {
		if _, err := w.w.Write(p); err != nil {
			return 0, err
		}
	}
	return all, nil
}

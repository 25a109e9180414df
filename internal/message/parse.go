package message

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Parse reads the structure of src in one pass with memory bounded by its
// headers. Malformed MIME gives the structure that IMAP servers give it
// (text/plain, or a leaf of the declared type); only limits and read errors are
// errors.
//
// Where RFC 2046 leaves room, Parse does as Dovecot does: lines end with LF or
// CRLF; a delimiter is a line that begins with "--" and an open boundary, the
// longest that fits, the innermost of equal ones; it ends every part inside,
// also one whose header has not ended yet; the first Content-Type and the first
// boundary parameter count; message/rfc822 is read as it stands, whatever its
// transfer encoding.
func Parse(src Source, l Limits) (*Part, error) {
	p := newParser(l)
	root, err := p.open(nil, false)
	if err != nil {
		return nil, err
	}
	if err := p.source(src); err != nil {
		return nil, err
	}
	return root, nil
}

func newParser(l Limits) *parser {
	p := &parser{limits: l.withDefaults(), atStart: true, hdr: make([]byte, 0, 1<<10)}
	p.bounds = newBoundaries(p.limits.Boundary)
	return p
}

// source parses what is in memory where it is.
func (p *parser) source(src Source) error {
	switch src := src.(type) {
	case bytesSource:
		return p.lines(src)
	case *Spool:
		if done, err := src.inMemory(p.lines); done {
			return err
		}
	}
	size := int(min(src.Size(), 64<<10))
	return p.read(bufio.NewReaderSize(Reader(src), size))
}

// parser reads fragments: lines, or pieces of a line that is longer than the
// buffer.
type parser struct {
	limits  Limits
	stack   []frame // the open parts, root first
	bounds  *boundaries
	off, lf int64 // bytes and line ends read

	atStart bool  // the next fragment begins a line
	eol     int64 // length of the line end just before off
	lastCR  bool  // the byte before off is CR

	inHeader bool // of the innermost part
	delim    bool // within a delimiter line that goes on
	newPart  bool // a part begins after that line
	hdr      []byte
	fields   int

	parts       int
	headerTotal int64
	fieldTotal  int
}

// frame is an open part.
type frame struct {
	part     *Part
	section  []int  // part.Section, with room that the first child may use
	root     bool   // of a message
	boundary string // of an open multipart
	digest   bool   // multipart/digest, RFC 2046, Section 5.1.5
	bodyLF   int64  // line ends before the body
}

// lines parses what is in memory already.
func (p *parser) lines(b []byte) error {
	if err := p.whole(b); err != nil {
		return err
	}
	return p.finish()
}

// leaves tells whether no line means anything any more.
func (p *parser) leaves() bool { return !p.inHeader && !p.delim && p.bounds.open == 0 }

// whole parses lines, of which the last may go on.
func (p *parser) whole(b []byte) error {
	for len(b) > 0 {
		if p.leaves() {
			p.leaf(b)
			return nil
		}
		line := nextLine(b)
		if err := p.fragment(line); err != nil {
			return err
		}
		b = b[len(line):]
	}
	return nil
}

// leaf takes b, in which no line means anything.
func (p *parser) leaf(b []byte) {
	last := b[bytes.LastIndexByte(b[:len(b)-1], '\n')+1:]
	if before := b[:len(b)-len(last)]; len(before) > 0 {
		p.off += int64(len(before))
		p.lf += int64(bytes.Count(before, []byte{'\n'}))
		p.lastCR = false
	}
	p.advance(last, last[len(last)-1] == '\n')
}

// read parses what comes in pieces.
func (p *parser) read(r *bufio.Reader) error {
	for {
		frag, err := r.ReadSlice('\n')
		if len(frag) > 0 {
			if err := p.fragment(frag); err != nil {
				return err
			}
		}
		switch {
		case err == nil, errors.Is(err, bufio.ErrBufferFull):
		case err == io.EOF:
			return p.finish()
		default:
			return fmt.Errorf("reading a message: %w", err)
		}
	}
}

func (p *parser) fragment(frag []byte) error {
	complete := frag[len(frag)-1] == '\n'
	start := p.atStart
	if start {
		if level, closing, ok := p.bounds.match(frag); ok {
			if err := p.delimiter(level, closing); err != nil {
				return err
			}
		}
	}
	inHeader := p.inHeader && !p.delim
	if inHeader {
		if err := p.headerBytes(frag, start); err != nil {
			return err
		}
	}
	p.advance(frag, complete)
	if !complete {
		return nil
	}
	if p.delim {
		return p.afterDelimiter()
	}
	if inHeader && start && isEmptyLine(frag) {
		return p.endHeader()
	}
	return nil
}

// advance counts frag as read.
func (p *parser) advance(frag []byte, complete bool) {
	n := len(frag)
	p.off += int64(n)
	p.eol = 0
	if complete {
		p.lf++
		p.eol = 1
		if n > 1 && frag[n-2] == '\r' || n == 1 && p.lastCR {
			p.eol = 2
		}
	}
	p.lastCR = frag[n-1] == '\r'
	p.atStart = complete
}

func (p *parser) headerBytes(frag []byte, start bool) error {
	if int64(len(p.hdr)+len(frag)) > p.limits.Header {
		return fmt.Errorf("%w: header of more than %d bytes", ErrLimit, p.limits.Header)
	}
	if start && frag[0] != ' ' && frag[0] != '\t' && !isEmptyLine(frag) {
		if p.fields++; p.fields > p.limits.Fields {
			return fmt.Errorf("%w: header of more than %d fields", ErrLimit, p.limits.Fields)
		}
	}
	p.hdr = append(p.hdr, frag...)
	return nil
}

// delimiter ends the parts inside of the multipart at level, and that itself
// where closing.
func (p *parser) delimiter(level int, closing bool) error {
	for p.inHeader { // a part whose header never ended
		if err := p.endHeader(); err != nil {
			return err
		}
	}
	lf := p.lf
	if p.eol > 0 {
		lf--
	}
	p.closeTo(level+1, p.off-p.eol, lf)
	if closing {
		p.bounds.remove(p.stack[level].boundary)
		p.stack[level].boundary = ""
	}
	p.delim, p.newPart = true, !closing
	return nil
}

func (p *parser) afterDelimiter() error {
	p.delim = false
	if !p.newPart {
		return nil
	}
	p.newPart = false
	_, err := p.open(&p.stack[len(p.stack)-1], false)
	return err
}

// open begins a part at off: the root, a child of a multipart, or an embedded
// message.
func (p *parser) open(parent *frame, embedded bool) (*Part, error) {
	if p.parts++; p.parts > p.limits.Parts {
		return nil, fmt.Errorf("%w: more than %d parts", ErrLimit, p.limits.Parts)
	}
	if len(p.stack) > p.limits.Depth {
		return nil, fmt.Errorf("%w: nested deeper than %d", ErrLimit, p.limits.Depth)
	}
	part := &Part{Start: p.off}
	f := frame{part: part}
	switch {
	case parent == nil:
		f.root = true
	case embedded:
		f.root, f.section = true, parent.section
		if parent.root { // a message that is no multipart is its own part 1
			f.section = childSection(parent.section, 1)
		}
		parent.part.Embedded = part
	default:
		parent.part.Children = append(parent.part.Children, part)
		f.section = childSection(parent.section, len(parent.part.Children))
	}
	part.Section = f.section[:len(f.section):len(f.section)]
	p.stack = append(p.stack, f)
	p.inHeader, p.hdr, p.fields = true, p.hdr[:0], 0
	return part, nil
}

// childSection lets the first child grow its parent's slice, so that a chain of
// parts takes linear memory.
func childSection(parent []int, n int) []int {
	if n == 1 {
		return append(parent, n)
	}
	return append(parent[:len(parent):len(parent)], n)
}

// endHeader reads the header gathered; the body begins at off.
func (p *parser) endHeader() error {
	f := &p.stack[len(p.stack)-1]
	part := f.part
	part.Header = ParseHeader(bytes.Clone(p.hdr))
	part.Body, f.bodyLF = p.off, p.lf
	p.inHeader = false
	p.headerTotal += int64(len(p.hdr))
	p.fieldTotal += len(part.Header.Fields)
	if p.headerTotal > 4*p.limits.Header || p.fieldTotal > 10*p.limits.Fields {
		return fmt.Errorf("%w: headers of %d bytes and %d fields together", ErrLimit, p.headerTotal, p.fieldTotal)
	}
	inDigest := !f.root && p.stack[len(p.stack)-2].digest
	setType(part, inDigest)
	switch {
	case part.IsMultipart():
		f.boundary = part.Params["boundary"]
		if len(f.boundary) > p.limits.Boundary {
			return fmt.Errorf("%w: boundary of more than %d bytes", ErrLimit, p.limits.Boundary)
		}
		f.digest = part.Subtype == "digest"
		p.bounds.add(f.boundary, len(p.stack)-1)
	case part.Is("message/rfc822"), part.Is("message/global"):
		_, err := p.open(f, true)
		return err
	}
	return nil
}

// setType reads part's Content-Type (RFC 2045, Section 5.2 for the default).
func setType(part *Part, inDigest bool) {
	part.Type, part.Subtype = "text", "plain"
	for _, f := range part.Header.Fields {
		if !f.Is("Content-Type") {
			continue
		}
		word, params := ParseParams(f.Value())
		part.Params = DecodeParams(params)
		if t, s, ok := strings.Cut(word, "/"); ok {
			part.Type, part.Subtype = t, s
		}
		return
	}
	if inDigest {
		part.Type, part.Subtype = "message", "rfc822"
	}
}

// closeTo ends the parts from stack level n on at end, with lf line ends read.
func (p *parser) closeTo(n int, end, lf int64) {
	for i := len(p.stack) - 1; i >= n; i-- {
		f := &p.stack[i]
		if f.part.Body > end { // the line end before the delimiter is the header's
			end, lf = f.part.Body, f.bodyLF
		}
		f.part.End, f.part.Lines = end, lf-f.bodyLF
		if f.boundary != "" {
			p.bounds.remove(f.boundary)
		}
	}
	p.stack = p.stack[:n]
}

func (p *parser) finish() error {
	if p.delim {
		if err := p.afterDelimiter(); err != nil {
			return err
		}
	}
	for p.inHeader {
		if err := p.endHeader(); err != nil {
			return err
		}
	}
	p.closeTo(0, p.off, p.lf)
	return nil
}

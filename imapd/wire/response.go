package wire

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// Head is how a response begins. Its bytes are valid until the next read.
type Head struct {
	Tag    []byte // "*", "+" or the tag of a command
	Number uint32 // of "* 12 EXISTS" and the like
	HasNum bool
	Name   string // upper case: OK, NO, BAD, BYE, PREAUTH, EXISTS, FETCH, …; "" after "+"
}

// Untagged tells whether the response belongs to no command by name.
func (h Head) Untagged() bool { return len(h.Tag) == 1 && h.Tag[0] == '*' }

// Continuation tells whether the server asks for more.
func (h Head) Continuation() bool { return len(h.Tag) == 1 && h.Tag[0] == '+' }

// Status tells whether the rest is a status: text, with no literals.
func (h Head) Status() bool {
	switch h.Name {
	case "OK", "NO", "BAD", "BYE", "PREAUTH":
		return !h.HasNum
	}
	return false
}

// ResponseReader reads the responses of one server. It is used by one goroutine.
// After Next exactly one of Line, Collect, Copy and Fetch is called.
type ResponseReader struct {
	br     *bufio.Reader
	l      Limits
	long   []byte // a line that does not fit br
	status bool   // the response under way is a status, or unknown text
}

// NewResponseReader reads responses from r.
func NewResponseReader(r io.Reader, l Limits) *ResponseReader {
	return &ResponseReader{br: bufio.NewReaderSize(r, 64<<10), l: l.withDefaults()}
}

// Buffered is the number of bytes that were read ahead.
func (r *ResponseReader) Buffered() int { return r.br.Buffered() }

// Next says which response comes. It consumes nothing, and blocks until the
// beginning of a line is there. Empty lines between responses are skipped.
func (r *ResponseReader) Next() (Head, error) {
	b, err := r.peek()
	for ; err == nil && bytes.HasPrefix(b, []byte("\r\n")); b, err = r.peek() {
		_, _ = r.br.Discard(2)
	}
	if err != nil {
		return Head{}, err
	}
	var h Head
	word := func() []byte {
		i := 0
		for i < len(b) && b[i] != ' ' && b[i] != '\r' && b[i] != '\n' {
			i++
		}
		w := b[:i]
		for i < len(b) && b[i] == ' ' {
			i++
		}
		b = b[i:]
		return w
	}
	h.Tag = word()
	if len(h.Tag) == 0 || len(h.Tag) > 128 {
		return h, fmt.Errorf("%w: response without tag", ErrDesync)
	}
	if h.Continuation() {
		r.status = true
		return h, nil
	}
	w := word()
	if n, err := strconv.ParseUint(string(w), 10, 32); err == nil && h.Untagged() {
		h.Number, h.HasNum = uint32(n), true
		w = word()
	}
	h.Name = upper(w)
	r.status = h.Status() || !h.Untagged()
	return h, nil
}

// peek gives what is buffered of the line that comes: all of it, or 256 bytes.
func (r *ResponseReader) peek() ([]byte, error) {
	for n := 1; ; {
		b, err := r.br.Peek(n)
		if len(b) > 0 {
			if all, _ := r.br.Peek(min(r.br.Buffered(), 256)); bytes.IndexByte(all, '\n') >= 0 || len(all) >= 256 {
				return all, nil
			}
		}
		if err != nil {
			if len(b) > 0 && errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
		n = r.br.Buffered() + 1
	}
}

// line reads one line with its line end. It is valid until the next read.
func (r *ResponseReader) line() ([]byte, error) {
	b, err := r.br.ReadSlice('\n')
	if err == nil {
		return b, nil
	}
	r.long = r.long[:0]
	for errors.Is(err, bufio.ErrBufferFull) {
		r.long = append(r.long, b...)
		if len(r.long) > r.l.Response {
			return nil, fmt.Errorf("%w: response line longer than %d bytes", ErrDesync, r.l.Response)
		}
		b, err = r.br.ReadSlice('\n')
	}
	r.long = append(r.long, b...)
	if err != nil {
		if errors.Is(err, io.EOF) && len(r.long) > 0 {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return r.long, nil
}

// Line reads a status response: one line, given without its line end.
func (r *ResponseReader) Line() ([]byte, error) {
	b, err := r.line()
	if err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(bytes.TrimSuffix(b, []byte("\n")), []byte("\r")), nil
}

// Copy passes the response on byte for byte, whatever its length, or drops it
// if w is nil.
func (r *ResponseReader) Copy(w io.Writer) error {
	if w == nil {
		w = io.Discard
	}
	for {
		size, err := r.copyLine(w)
		if err != nil || size < 0 {
			return err
		}
		if err := r.copyLiteral(w, size); err != nil {
			return err
		}
	}
}

// copyLine passes one line on and gives the size of the literal that follows it,
// or -1.
func (r *ResponseReader) copyLine(w io.Writer) (int64, error) {
	quoted := false
	var tail []byte // the end of what came before, if the line is long
	for {
		b, err := r.br.ReadSlice('\n')
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			if errors.Is(err, io.EOF) && len(b)+len(tail) > 0 {
				err = io.ErrUnexpectedEOF
			}
			return -1, err
		}
		if _, werr := w.Write(b); werr != nil {
			return -1, werr
		}
		if err != nil { // more of this line
			if !r.status {
				quoted = quoteAfter(b, quoted)
			}
			tail = append(tail[:0], b[max(0, len(b)-32):]...)
			continue
		}
		if r.status || !bytes.HasSuffix(b, []byte("}\r\n")) && len(b) > 2 {
			return -1, nil
		}
		line := b
		if len(tail) > 0 && len(b) < 32 { // the announcement may lie across
			line = append(tail, b...)
			quoted = quoted && bytes.IndexByte(line, '"') < 0
		}
		return literalAt(line, quoted)
	}
}

// literalAt gives the size of the literal announced at the end of line, or -1.
func literalAt(line []byte, quoted bool) (int64, error) {
	line = bytes.TrimSuffix(line, []byte("\r\n"))
	at, size, _, _, ok, huge := announcement(line)
	if !ok || quoteAfter(line[:at], quoted) {
		return -1, nil
	}
	if huge {
		return -1, fmt.Errorf("%w: literal of no size", ErrDesync)
	}
	return size, nil
}

func quoteAfter(b []byte, in bool) bool {
	for i := 0; i < len(b); i++ {
		switch {
		case b[i] == '"':
			in = !in
		case in && b[i] == '\\':
			i++
		}
	}
	return in
}

// copyLiteral passes n bytes on, from the buffer that they were read into.
func (r *ResponseReader) copyLiteral(w io.Writer, n int64) error {
	for n > 0 {
		if r.br.Buffered() == 0 {
			if _, err := r.br.Peek(1); err != nil {
				if errors.Is(err, io.EOF) {
					err = io.ErrUnexpectedEOF
				}
				return err
			}
		}
		b, _ := r.br.Peek(int(min(n, int64(r.br.Buffered()))))
		if _, err := w.Write(b); err != nil {
			return err
		}
		_, _ = r.br.Discard(len(b))
		n -= int64(len(b))
	}
	return nil
}

// Collect reads the whole response, with its literals and its last line end, up
// to limit bytes; what is longer is ErrDesync.
func (r *ResponseReader) Collect(limit int) ([]byte, error) {
	w := &collector{limit: limit}
	err := r.Copy(w)
	return w.b, err
}

type collector struct {
	b     []byte
	limit int
}

func (c *collector) Write(p []byte) (int, error) {
	if len(c.b)+len(p) > c.limit {
		return 0, fmt.Errorf("%w: response longer than %d bytes", ErrDesync, c.limit)
	}
	c.b = append(c.b, p...)
	return len(p), nil
}

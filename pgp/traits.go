package pgp

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"

	"letterlock.org/letterlock/internal/message"
)

// maxLine is the longest line that mail may have, without its end (RFC 5322,
// Section 2.1.1).
const maxLine = 998

// PlainLine is the bytes of the longest line that mail may have, with its end.
const PlainLine = maxLine + 2

// traits are what makes a body unsafe to sign or to pass on as it is.
type traits struct {
	size       int64
	high       int64 // bytes above 127
	nul        bool
	bareCR     bool
	bareLF     bool
	longLine   bool
	trailingWS bool // a line ends in white space (RFC 3156, Section 5)
	fromLine   bool // a line begins with "From ", which mailboxes escape
}

// sevenBit tells whether the body is as RFC 2045, Section 2.7 defines 7bit, but
// for its line ends.
func (t traits) sevenBit() bool { return t.high == 0 && !t.nul && !t.bareCR && !t.longLine }

// scan reads the bytes of src from off to end.
func scan(ctx context.Context, src message.Source, off, end int64) (traits, error) {
	var t traits
	done, err := message.InMemory(src, off, end, func(b []byte) error {
		t.all(b)
		return ctx.Err()
	})
	if done {
		return t, err
	}
	r := borrowReader(io.NewSectionReader(src, off, end-off))
	defer returnReader(r)
	for whole := true; ; {
		line, err := r.ReadSlice('\n')
		t.add(line, whole)
		whole = err == nil
		switch {
		case err == nil, errors.Is(err, bufio.ErrBufferFull):
		case err == io.EOF:
			return t, nil
		default:
			return t, err
		}
		if err := ctx.Err(); err != nil {
			return t, err
		}
	}
}

// all is add for all the lines of b, faster.
func (t *traits) all(b []byte) {
	t.size = int64(len(b))
	t.nul = bytes.IndexByte(b, 0) >= 0
	t.high = highBytes(b)
	crs := bytes.Count(b, []byte{'\r'})
	for len(b) > 0 {
		i := bytes.IndexByte(b, '\n')
		text, rest := b, b[len(b):]
		switch {
		case i > 0 && b[i-1] == '\r':
			crs--
			text, rest = b[:i-1], b[i+1:]
		case i >= 0:
			t.bareLF = true
			text, rest = b[:i], b[i+1:]
		}
		t.line(text, true)
		b = rest
	}
	t.bareCR = crs > 0
}

// line looks at a line without its end, or a piece of one.
func (t *traits) line(text []byte, whole bool) {
	t.longLine = t.longLine || len(text) > maxLine
	if n := len(text); n > 0 {
		t.trailingWS = t.trailingWS || text[n-1] == ' ' || text[n-1] == '\t'
		t.fromLine = t.fromLine || whole && text[0] == 'F' && bytes.HasPrefix(text, []byte("From "))
	}
}

// add counts a line with its end, or a piece of one longer than the buffer;
// whole tells that the piece begins a line.
func (t *traits) add(line []byte, whole bool) {
	t.size += int64(len(line))
	text, ended := bytes.CutSuffix(line, []byte{'\n'})
	if ended {
		var crlf bool
		if text, crlf = bytes.CutSuffix(text, []byte{'\r'}); !crlf {
			t.bareLF = true
		}
	}
	t.nul = t.nul || bytes.IndexByte(text, 0) >= 0
	t.bareCR = t.bareCR || bytes.IndexByte(text, '\r') >= 0
	t.high += highBytes(text)
	t.line(text, whole)
}

// highBytes counts the bytes above 127, eight at a time.
func highBytes(b []byte) (n int64) {
	for ; len(b) >= 8; b = b[8:] {
		if high := binary.LittleEndian.Uint64(b) & 0x8080808080808080; high != 0 {
			n += int64(high >> 7 * 0x0101010101010101 >> 56)
		}
	}
	for _, c := range b {
		if c >= 0x80 {
			n++
		}
	}
	return n
}

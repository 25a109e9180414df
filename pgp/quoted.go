package pgp

import (
	"bytes"
	"io"
)

// quoted encodes text as quoted-printable (RFC 2045, Section 6.7), so that it
// also survives signing: trailing white space and "From " are encoded. What it
// begins a line with by itself never looks like a delimiter.
type quoted struct {
	w io.Writer
	// again is set for text that is quoted-printable already, and only has
	// lines too long or bytes that may not stand in it.
	again bool

	out  []byte
	col  int
	cr   bool // the last byte was CR, not yet written
	ws   byte // white space not yet written; 0 for none
	soft bool // the line began with a soft break
	hold int  // characters that belong to an "=XX" already there
}

const (
	quotedLine = 76
	hexDigits  = "0123456789ABCDEF"
)

func (q *quoted) Write(p []byte) (int, error) {
	q.out = q.out[:0]
	for i, c := range p {
		if q.cr {
			q.cr = false
			if c == '\n' {
				q.newline()
				continue
			}
			q.space()
			q.escape('\r')
		}
		switch {
		case c == '\n':
			q.newline()
		case c == '\r':
			q.cr = true
		case c == ' ' || c == '\t':
			q.space()
			q.ws = c
		default:
			q.space()
			q.char(c, p[i:])
		}
	}
	_, err := q.w.Write(q.out)
	return len(p), err
}

// char writes a printing character or any other byte; rest begins with it.
func (q *quoted) char(c byte, rest []byte) {
	switch {
	case q.hold > 0 && c > ' ' && c < 0x7f:
		q.hold--
		q.literal(c)
	case c == '=' && q.again:
		q.room(3)
		q.literal(c)
		q.hold = 2
	case c <= ' ' || c >= 0x7f || c == '=':
		q.escape(c)
	case q.col == 0 && c == 'F' && (len(rest) < 5 || bytes.HasPrefix(rest, []byte("From "))):
		q.escape(c)
	default:
		q.room(1)
		if q.col == 0 && q.soft && c == '-' {
			q.escape(c)
			return
		}
		q.literal(c)
	}
}

func (q *quoted) literal(c byte) {
	q.out = append(q.out, c)
	q.col++
}

func (q *quoted) escape(c byte) {
	q.hold = 0
	q.room(3)
	q.out = append(q.out, '=', hexDigits[c>>4], hexDigits[c&15])
	q.col += 3
}

// room begins a line where n characters and a soft break don't fit.
func (q *quoted) room(n int) {
	if q.col+n > quotedLine-1 {
		q.out = append(q.out, "=\r\n"...)
		q.col, q.soft, q.hold = 0, true, 0
	}
}

// space writes white space that turned out not to end its line.
func (q *quoted) space() {
	if q.ws != 0 {
		q.hold = 0
		q.room(1)
		q.literal(q.ws)
		q.ws = 0
	}
}

func (q *quoted) newline() {
	q.trailing()
	q.out = append(q.out, '\r', '\n')
	q.col, q.soft, q.hold = 0, false, 0
}

// trailing encodes white space at the end of a line; where it is encoded
// already, such space was added on the way and means nothing.
func (q *quoted) trailing() {
	if q.ws != 0 && !q.again {
		q.escape(q.ws)
	}
	q.ws = 0
}

// Close writes what is held back. It doesn't close w.
func (q *quoted) Close() error {
	q.out = q.out[:0]
	q.trailing()
	if q.cr {
		q.escape('\r')
		q.cr = false
	}
	_, err := q.w.Write(q.out)
	return err
}

package pgp

import (
	"bytes"
	"encoding/base64"
	"io"
)

// lineEnds makes every line end CRLF. A bare CR becomes a space, so that it
// cannot end a line for some readers and not for others.
type lineEnds struct {
	w      io.Writer
	keepCR bool // leave a bare CR as it is
	cr     bool // the last byte was CR, not yet written
	buf    []byte
}

func (l *lineEnds) Write(p []byte) (int, error) {
	n := len(p)
	l.buf = l.buf[:0]
	for len(p) > 0 {
		if l.cr {
			l.cr = false
			if p[0] == '\n' {
				l.buf = append(l.buf, '\r', '\n')
				p = p[1:]
				continue
			}
			l.bareCR()
		}
		i := bytes.IndexAny(p, "\r\n")
		if i < 0 {
			l.buf = append(l.buf, p...)
			break
		}
		l.buf = append(l.buf, p[:i]...)
		if p[i] == '\n' {
			l.buf = append(l.buf, '\r', '\n')
		} else {
			l.cr = true
		}
		p = p[i+1:]
	}
	_, err := l.w.Write(l.buf)
	return n, err
}

func (l *lineEnds) bareCR() {
	if l.keepCR {
		l.buf = append(l.buf, '\r')
	} else {
		l.buf = append(l.buf, ' ')
	}
}

// Close writes what is held back. It doesn't close w.
func (l *lineEnds) Close() error {
	if !l.cr {
		return nil
	}
	l.cr, l.buf = false, l.buf[:0]
	l.bareCR()
	_, err := l.w.Write(l.buf)
	return err
}

// base64Lines encodes as base64 in lines of 76 (RFC 2045, Section 6.8).
type base64Lines struct {
	w   io.Writer
	in  []byte
	out []byte
}

const base64Line = 57 // bytes in a line of 76 characters

func newBase64Lines(w io.Writer) *base64Lines {
	return &base64Lines{w: w, in: make([]byte, 0, base64Line*64)}
}

func (b *base64Lines) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		m := copy(b.in[len(b.in):cap(b.in)], p)
		b.in, p = b.in[:len(b.in)+m], p[m:]
		if len(b.in) == cap(b.in) {
			if err := b.flush(); err != nil {
				return 0, err
			}
		}
	}
	return n, nil
}

func (b *base64Lines) flush() error {
	b.out = b.out[:0]
	for in := b.in; len(in) > 0; {
		m := min(base64Line, len(in))
		b.out = base64.StdEncoding.AppendEncode(b.out, in[:m])
		b.out = append(b.out, '\r', '\n')
		in = in[m:]
	}
	b.in = b.in[:0]
	_, err := b.w.Write(b.out)
	return err
}

func (b *base64Lines) Close() error { return b.flush() }

// rewrap cuts base64 that is there already into lines of 76 and leaves out what
// isn't of its alphabet, as every decoder does (RFC 2045, Section 6.8).
type rewrap struct {
	w   io.Writer
	col int
	out []byte
}

func (r *rewrap) Write(p []byte) (int, error) {
	r.out = r.out[:0]
	for _, c := range p {
		switch {
		case 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '+', c == '/', c == '=':
			if r.col == 76 {
				r.out, r.col = append(r.out, '\r', '\n'), 0
			}
			r.out = append(r.out, c)
			r.col++
		}
	}
	_, err := r.w.Write(r.out)
	return len(p), err
}

func (r *rewrap) Close() error {
	_, err := io.WriteString(r.w, "\r\n")
	return err
}

package pgp

import (
	"bytes"
	"io"
)

// crlfWriter passes on what is written with bare LF made CRLF. Nothing else
// changes: a bare CR is data.
type crlfWriter struct {
	w    io.Writer
	last byte
	buf  []byte
}

var lineEnd = []byte("\r\n")

func (c *crlfWriter) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	c.buf = c.buf[:0]
	for rest := p; len(rest) > 0; {
		i := bytes.IndexByte(rest, '\n')
		if i < 0 {
			c.buf = append(c.buf, rest...)
			c.last = rest[len(rest)-1]
			break
		}
		c.buf = append(c.buf, rest[:i]...)
		if i > 0 {
			c.last = rest[i-1]
		}
		if c.last != '\r' {
			c.buf = append(c.buf, '\r')
		}
		c.buf = append(c.buf, '\n')
		c.last, rest = '\n', rest[i+1:]
	}
	if _, err := c.w.Write(c.buf); err != nil {
		return 0, err
	}
	return len(p), nil
}

// noNUL passes on what is written with NUL made 0x80, as Dovecot gives it out: what
// an IMAP server sends holds none (RFC 3501, Section 9, CHAR8).
type noNUL struct{ w io.Writer }

func (n noNUL) Write(p []byte) (int, error) {
	if bytes.IndexByte(p, 0) >= 0 {
		p = bytes.ReplaceAll(p, []byte{0}, []byte{0x80})
	}
	return n.w.Write(p)
}

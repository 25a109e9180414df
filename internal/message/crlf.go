package message

import (
	"bufio"
	"io"
)

// CRLF reads r with every line end made CRLF: a bare LF and a bare CR become
// one each. What is CRLF already passes as it is. A last line without an end
// stays without.
func CRLF(r io.Reader) io.Reader {
	return &crlf{r: bufio.NewReaderSize(r, 32<<10)}
}

type crlf struct {
	r    *bufio.Reader
	owed bool // an LF is to be written: the CR before it has been
}

func (c *crlf) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		if c.owed {
			p[n] = '\n'
			n++
			c.owed = false
			continue
		}
		if n > 0 && c.r.Buffered() == 0 {
			return n, nil
		}
		b, err := c.r.ReadByte()
		if err != nil {
			if n > 0 && err == io.EOF {
				return n, nil
			}
			return n, err
		}
		if b == '\n' || b == '\r' {
			if b == '\r' {
				if err := c.skipLF(); err != nil {
					return n, err
				}
			}
			b, c.owed = '\r', true
		}
		p[n] = b
		n++
	}
	return n, nil
}

// skipLF drops the LF of a CRLF just begun.
func (c *crlf) skipLF() error {
	next, err := c.r.ReadByte()
	if err == io.EOF {
		return nil
	}
	if err != nil {
		return err
	}
	if next != '\n' {
		return c.r.UnreadByte()
	}
	return nil
}

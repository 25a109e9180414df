package wire

import "bytes"

// DataDecoder takes the dots out of a message as DATA carries it (RFC 5321,
// Section 4.5.2) and finds its end, which is CRLF.CRLF and nothing else. Bytes
// are never changed otherwise. Its zero value is at the beginning of a message.
type DataDecoder struct {
	at        dataState
	bad       bool
	crs, ends int     // CRs and CRLFs given out
	column    int     // bytes of the line that goes on, given out
	longest   int     // line that has ended, with its end
	tail      [3]byte // the last bytes given out, or zero
}

// dataState is what stands before the next byte.
type dataState int

const (
	lineStart  dataState = iota // a CRLF, or the DATA command's
	afterDot                    // a dot at the beginning of a line, not given out
	afterDotCR                  // and a CR, not given out either
	inLine
)

// Decode takes the next bytes of a message and gives those that are of it, in
// the same memory. After the end, done is true, and rest is what followed it.
func (d *DataDecoder) Decode(p []byte) (out, rest []byte, done bool) {
	r, w := 0, 0
	for r < len(p) {
		switch c := p[r]; d.at {
		case lineStart:
			if d.at = inLine; c == '.' {
				d.at = afterDot
				r++
			}
		case afterDot:
			if d.at = inLine; c == '\r' {
				d.at = afterDotCR
				r++
			}
		case afterDotCR:
			if c == '\n' {
				d.give(p[:w])
				return p[:w], p[r+1:], true
			}
			d.bad, d.at = true, inLine // a dot and a bare CR
		case inLine:
			n := d.lines(p, r, w)
			if w != r {
				copy(p[w:], p[r:r+n])
			}
			r, w = r+n, w+n
		}
	}
	d.give(p[:w])
	return p[:w], nil, false
}

// lines counts the bytes of p from r that are given out as they are: whole
// lines up to one that begins with a dot, or all there is.
func (d *DataDecoder) lines(p []byte, r, w int) int {
	for at := r; ; {
		i := bytes.IndexByte(p[at:], '\n')
		if i < 0 {
			d.column += len(p) - at
			return len(p) - r
		}
		d.longest = max(d.longest, d.column+i+1)
		d.column = 0
		before := d.before(p, r, w, at+i)
		if at += i + 1; before != '\r' {
			d.bad = true
			continue
		}
		d.ends++
		if at == len(p) || p[at] == '.' {
			d.at = lineStart
			return at - r
		}
	}
}

// before is the byte before p[i], which may have been given out earlier.
func (d *DataDecoder) before(p []byte, r, w, i int) byte {
	switch {
	case i > r:
		return p[i-1]
	case w > 0:
		return p[w-1]
	}
	return d.tail[2]
}

// give notes what is given out.
func (d *DataDecoder) give(out []byte) {
	d.crs += bytes.Count(out, []byte{'\r'})
	if n := len(out); n >= len(d.tail) {
		copy(d.tail[:], out[n-len(d.tail):])
	} else {
		copy(d.tail[:], d.tail[n:])
		copy(d.tail[len(d.tail)-n:], out)
	}
}

// Bad tells, after the end, whether a CR or LF was bare: the message must be
// refused.
func (d *DataDecoder) Bad() bool { return d.bad || d.crs != d.ends }

// Longest is the bytes of the longest line, with its end, after the end.
func (d *DataDecoder) Longest() int { return d.longest }

// Doubtful tells, after the end, whether its sender may not take it for the end:
// after CRCRLF some servers see no line begin and double no dot. What follows
// must not be executed then.
func (d *DataDecoder) Doubtful() bool { return string(d.tail[:]) == "\r\r\n" }

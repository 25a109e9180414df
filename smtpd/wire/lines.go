package wire

import "bytes"

// LineCheck looks for a CR or LF that is not part of a CRLF, in messages that
// come without dots (BDAT). Its zero value is at the beginning of one.
type LineCheck struct {
	bad, cr bool // cr: the last byte was CR
}

// Check looks at the next bytes.
func (l *LineCheck) Check(p []byte) {
	if len(p) == 0 || l.bad {
		return
	}
	l.bad = l.cr != (p[0] == '\n')
	ends := 0
	for at := 0; !l.bad; ends++ {
		i := bytes.IndexByte(p[at:], '\n')
		if i < 0 {
			break
		}
		if at += i; at > 0 {
			l.bad = p[at-1] != '\r'
		} else {
			ends-- // its CR came before
		}
		at++
	}
	l.cr = p[len(p)-1] == '\r'
	crs := bytes.Count(p, []byte{'\r'})
	if l.cr {
		crs--
	}
	l.bad = l.bad || crs != ends
}

// Bad tells, after the end, whether a CR or LF was bare.
func (l *LineCheck) Bad() bool { return l.bad || l.cr }

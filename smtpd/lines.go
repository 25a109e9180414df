package smtpd

import (
	"bytes"
	"errors"
	"io"
)

// errBareLineEnd means a CR or LF that is not part of a CRLF. RFC 5321, Section
// 2.3.8, forbids them; servers that read them differently are how messages are
// smuggled (CVE-2023-51764 and others).
var errBareLineEnd = errors.New("bare CR or LF in the message")

// lineCheck passes bytes on to w as long as every CR and LF belongs to a CRLF.
type lineCheck struct {
	w  io.Writer
	cr bool // the last byte was a CR
}

func (l *lineCheck) Write(p []byte) (int, error) {
	if err := l.check(p); err != nil {
		return 0, err
	}
	return l.w.Write(p)
}

func (l *lineCheck) check(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	if l.cr && p[0] != '\n' || !l.cr && p[0] == '\n' {
		return errBareLineEnd
	}
	for i := 1; i < len(p); {
		n := bytes.IndexByte(p[i:], '\n')
		if n < 0 {
			break
		}
		if i += n; p[i-1] != '\r' {
			return errBareLineEnd
		}
		i++
	}
	// Each LF follows a CR; each CR must also be followed by one.
	for rest := p; ; {
		i := bytes.IndexByte(rest, '\r')
		if i < 0 || i == len(rest)-1 {
			break
		}
		if rest[i+1] != '\n' {
			return errBareLineEnd
		}
		rest = rest[i+1:]
	}
	l.cr = p[len(p)-1] == '\r'
	return nil
}

// end checks that the last line is whole.
func (l *lineCheck) end() error {
	if l.cr {
		return errBareLineEnd
	}
	return nil
}

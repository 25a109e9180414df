package wire

import "bytes"

// Stuffer doubles the dots at beginnings of lines (RFC 5321, Section 4.5.2) of
// a message that is written in pieces. A line begins after any LF or CR, as who
// reads it may take a bare one for a line's end: what was decrypted may have one.
// NULs before the dot don't count, as some leave them out. The zero value is at the
// beginning of a message.
type Stuffer struct {
	begun bool
	line  bool    // a line begins, but for NULs
	tail  [2]byte // the last bytes
}

// Next calls write with the next bytes of a message, dots added, in pieces; where
// no dot is to be doubled that is p itself.
func (s *Stuffer) Next(p []byte, write func([]byte) error) error {
	if len(p) == 0 {
		return nil
	}
	s.line = s.line || !s.begun
	s.begun = true
	from := 0
	for at := 0; ; {
		i := bytes.IndexByte(p[at:], '.')
		if i < 0 {
			break
		}
		at += i
		if s.begins(p[:at]) {
			if err := write(p[from : at+1]); err != nil {
				return err
			}
			from = at // the dot once more
		}
		at++
	}
	s.line = s.begins(p)
	s.tail[0] = s.tail[1]
	if n := len(p); n > 1 {
		s.tail[0] = p[n-2]
	}
	s.tail[1] = p[len(p)-1]
	return write(p[from:])
}

// begins tells whether a line begins behind p, the first bytes of a piece.
func (s *Stuffer) begins(p []byte) bool {
	n := len(p)
	for n > 0 && p[n-1] == 0 {
		n--
	}
	if n == 0 {
		return s.line
	}
	return p[n-1] == '\n' || p[n-1] == '\r'
}

// End is what a message lacks for its last line to be whole.
func (s *Stuffer) End() string {
	if !s.begun || string(s.tail[:]) == "\r\n" {
		return ""
	}
	return "\r\n"
}

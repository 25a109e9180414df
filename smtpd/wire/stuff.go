package wire

import "bytes"

// Stuffer doubles the dots at beginnings of lines (RFC 5321, Section 4.5.2) of
// a message that is written in pieces. A line begins after any LF or CR, as who
// reads it may take a bare one for a line's end: what was decrypted may have one.
// The zero value is at the beginning of a message.
type Stuffer struct {
	begun bool
	tail  [2]byte // the last bytes
}

// Next calls write with the next bytes of a message, dots added, in pieces; where
// no dot is to be doubled that is p itself.
func (s *Stuffer) Next(p []byte, write func([]byte) error) error {
	if len(p) == 0 {
		return nil
	}
	start := endsLine(s.tail[1]) || !s.begun
	s.begun = true
	from := 0
	for at := 0; ; {
		i := bytes.IndexByte(p[at:], '.')
		if i < 0 {
			break
		}
		at += i
		if at > 0 && endsLine(p[at-1]) || at == 0 && start {
			if err := write(p[from : at+1]); err != nil {
				return err
			}
			from = at // the dot once more
		}
		at++
	}
	s.tail[0] = s.tail[1]
	if n := len(p); n > 1 {
		s.tail[0] = p[n-2]
	}
	s.tail[1] = p[len(p)-1]
	return write(p[from:])
}

func endsLine(c byte) bool { return c == '\n' || c == '\r' }

// End is what a message lacks for its last line to be whole.
func (s *Stuffer) End() string {
	if !s.begun || string(s.tail[:]) == "\r\n" {
		return ""
	}
	return "\r\n"
}

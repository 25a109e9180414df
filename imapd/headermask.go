package imapd

import (
	"bytes"
	"io"
	"sync"

	"letterlock.org/letterlock/imapd/render"
)

// headerMask masks imitations of our fields in what is written through it: those
// in ranges, which were found when the message was classified, and those that
// come by. An upstream may give another header than it gave then.
//
// Bytes keep their number; up to the length of our prefix are held back until
// flush. What begins beyond the message's first byte is masked by ranges only,
// since nobody knows whether it is of the header.
type headerMask struct {
	w      io.Writer
	at     int64
	ranges []render.Range
	whole  bool // all is header: a section of picked fields
	over   bool // the header has ended
	begins bool // a line begins
	line   int  // 0 at the beginning of a line, 1 after a CR there, 2 beyond
	held   []byte
	buf    []byte
}

const ours = "letterlock-"

// newHeaderMask masks what is written to w, which begins at offset at of a
// message, or of a section that is header as a whole.
func newHeaderMask(w io.Writer, at int64, ranges []render.Range, whole bool) *headerMask {
	line := 0
	if at > 0 {
		line = 2
	}
	m := headerMasks.Get().(*headerMask)
	*m = headerMask{
		w: w, at: at, ranges: ranges, whole: whole, over: at > 0 && !whole, begins: at == 0, line: line,
		held: m.held[:0], buf: m.buf[:0],
	}
	return m
}

// headerMasks are those that were flushed, for their buffers.
var headerMasks = sync.Pool{New: func() any { return new(headerMask) }}

// Write implements io.Writer. It does not keep p.
func (m *headerMask) Write(p []byte) (int, error) {
	n := len(p)
	if m.over && len(m.held) == 0 && m.beyond() {
		m.at += int64(n)
		return m.w.Write(p)
	}
	m.buf = append(append(m.buf[:0], m.held...), p...)
	m.held = m.held[:0]
	keep := m.scan(m.buf)
	out := m.buf[:len(m.buf)-keep]
	m.held = append(m.held, m.buf[len(out):]...)
	if err := m.put(out); err != nil {
		return 0, err
	}
	return n, nil
}

// flush writes what was held back. It is called at the end; m is not used after.
func (m *headerMask) flush() error {
	err := m.put(m.held)
	m.w, m.ranges = nil, nil
	headerMasks.Put(m)
	return err
}

func (m *headerMask) put(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	render.Mask(b, m.at, m.ranges)
	m.at += int64(len(b))
	_, err := m.w.Write(b)
	return err
}

// beyond tells whether all ranges have passed.
func (m *headerMask) beyond() bool {
	if len(m.ranges) == 0 {
		return true
	}
	last := m.ranges[len(m.ranges)-1]
	return m.at >= last.Off+last.Len
}

// scan masks b as far as the header goes, and gives the number of bytes at its
// end that may be the beginning of an imitation. Which bytes begin a line is
// what render.Imitations says.
func (m *headerMask) scan(b []byte) (keep int) {
	for i := 0; i < len(b) && !m.over; i++ {
		if m.begins {
			rest := b[i:]
			if len(rest) < len(ours) && bytes.EqualFold(rest, []byte(ours[:len(rest)])) {
				return len(rest)
			}
			if len(rest) >= len(ours) && bytes.EqualFold(rest[:len(ours)], []byte(ours)) {
				for k := range len(ours) - 1 {
					rest[k] = 'X'
				}
			}
		}
		c := b[i]
		m.begins = c < ' ' && c != '\t'
		switch {
		case c == '\n' && m.line < 2 && !m.whole: // RFC 5322, Section 2.1: the empty line
			m.over = true
		case c == '\n':
			m.line = 0
		case c == '\r' && m.line == 0:
			m.line = 1
		default:
			m.line = 2
		}
	}
	return 0
}

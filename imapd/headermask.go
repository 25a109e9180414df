package imapd

import (
	"bytes"
	"io"
	"slices"
	"sync"

	"letterlock.org/letterlock/imapd/index"
	"letterlock.org/letterlock/imapd/render"
)

// headerMask masks imitations of our fields in what is written through it, as
// they come by: an upstream may give another header than it gave when the message
// was classified. What was found then is masked only where what is written ends
// within a name, since elsewhere another line may be there now.
//
// Bytes keep their number; up to the length of our prefix are held back until
// flush.
type headerMask struct {
	w      io.Writer
	at     int64
	ranges []render.Range
	print  *printing // nil: the header is not compared
	whole  bool      // all is header: a section of picked fields
	over   bool      // the header has ended
	begins bool      // a line begins
	line   int       // 0 at the beginning of a line, 1 after a CR there, 2 beyond
	end    int64     // where the header ended, once over
	held   []byte
	buf    []byte
}

const ours = "letterlock-"

// newHeaderMask masks what is written to w: a message, or a section that is header
// as a whole.
func newHeaderMask(w io.Writer, ranges []render.Range, whole bool) *headerMask {
	m := headerMasks.Get().(*headerMask)
	*m = headerMask{w: w, ranges: ranges, whole: whole, begins: true, held: m.held[:0], buf: m.buf[:0]}
	return m
}

// headerMasks are those that were released, for their buffers.
var headerMasks = sync.Pool{New: func() any { return new(headerMask) }}

// Write implements io.Writer. It does not keep p.
func (m *headerMask) Write(p []byte) (int, error) {
	n := len(p)
	if m.over && len(m.held) == 0 {
		m.at += int64(n)
		return m.w.Write(p)
	}
	m.buf = append(append(m.buf[:0], m.held...), p...)
	m.held = m.held[:0]
	wasOver := m.over
	keep := m.scan(m.buf)
	out := m.buf[:len(m.buf)-keep]
	m.held = append(m.held, m.buf[len(out):]...)
	if m.print != nil && !wasOver {
		head := out
		if m.over {
			head = out[:m.end-m.at]
		}
		if err := m.print.add(head, m.over); err != nil {
			return 0, err
		}
	}
	if _, err := m.w.Write(out); err != nil {
		return 0, err
	}
	m.at += int64(len(out))
	return n, nil
}

// flush writes what was held back. It is called at the end, before release.
func (m *headerMask) flush() error {
	if len(m.held) == 0 {
		return nil
	}
	known := slices.ContainsFunc(m.ranges, func(r render.Range) bool { return r.Off == m.at })
	// Beyond the last range that was kept it may be one. How that goes on is seen
	// with the next piece, which isn't compared with a guess.
	guess := len(m.ranges) >= index.MaxRanges && m.at > m.ranges[len(m.ranges)-1].Off
	if known || guess { // it goes on as an imitation
		render.Mask(m.held, 0, []render.Range{{Len: int64(len(ours) - 1)}})
	}
	if m.print != nil && !m.over && !guess {
		if err := m.print.add(m.held, false); err != nil {
			return err
		}
	}
	_, err := m.w.Write(m.held)
	return err
}

// release gives m back; it is not used after.
func (m *headerMask) release() {
	m.w, m.ranges, m.print = nil, nil, nil
	headerMasks.Put(m)
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
			m.over, m.end = true, m.at+int64(i)+1
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

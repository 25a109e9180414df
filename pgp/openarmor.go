package pgp

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"strings"
)

// Bounds of an armor block in a message.
const (
	maxArmorHeaders = 32
	maxArmorLine    = 64 << 10 // RFC 9580, Section 6.2 has 76; some write one line
)

// errNotArmor means that a body is something else than one armor block, so
// that it isn't ours to open.
var errNotArmor = fmt.Errorf("not exactly one armor block: %w", ErrMalformed)

// armorReader reads the body of exactly one armor block: before and after it
// only white space is allowed, so that nothing stands beside the ciphertext.
// Its checksum is ignored (RFC 9580, Section 6.1). Reading to EOF tells whether
// the block ended well.
type armorReader struct {
	r       *bufio.Reader
	kind    string
	Headers map[string]string
	buf     []byte // decoded, not yet read
	quads   []byte // encoded, of a line that was no multiple of four
	room    []byte
	ended   bool // padding or checksum was read: only the end may follow
	done    bool
}

// newArmorReader reads up to the block's first data line. size is how long r
// is at most.
func newArmorReader(r io.Reader, kind string, size int64) (*armorReader, error) {
	a := &armorReader{r: bufio.NewReaderSize(r, int(min(size+1, maxArmorLine))), kind: kind, Headers: map[string]string{}}
	for {
		line, err := a.line()
		if err == io.EOF {
			return nil, errNotArmor
		}
		if err != nil {
			return nil, err
		}
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		if string(line) != "-----BEGIN "+kind+"-----" {
			return nil, errNotArmor
		}
		break
	}
	for n := 0; ; n++ {
		line, err := a.line()
		if err == io.EOF || n > maxArmorHeaders {
			return nil, errNotArmor
		}
		if err != nil {
			return nil, err
		}
		if len(line) == 0 || isSpace(line) {
			return a, nil
		}
		name, value, ok := strings.Cut(string(line), ":")
		if !ok {
			return nil, errNotArmor
		}
		if _, again := a.Headers[name]; !again {
			a.Headers[name] = strings.TrimSpace(value)
		}
	}
}

// isSpace tells of a line of no-break spaces, in Latin-1 or UTF-8, which some
// programs make of the empty one.
func isSpace(line []byte) bool {
	for _, c := range line {
		if c != ' ' && c != '\t' && c != 0xc2 && c != 0xa0 {
			return false
		}
	}
	return true
}

// line reads one line without its end and trailing white space; io.EOF after
// the last one.
func (a *armorReader) line() ([]byte, error) {
	line, err := a.r.ReadSlice('\n')
	switch {
	case err == bufio.ErrBufferFull:
		return nil, errNotArmor
	case err == io.EOF && len(line) > 0:
	case err != nil:
		return nil, err
	}
	return bytes.TrimRight(line, " \t\r\n"), nil
}

func (a *armorReader) Read(p []byte) (int, error) {
	for len(a.buf) == 0 {
		if a.done {
			return 0, io.EOF
		}
		if err := a.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, a.buf)
	a.buf = a.buf[n:]
	return n, nil
}

// fill decodes one line, or sees the block's end.
func (a *armorReader) fill() error {
	line, err := a.line()
	if err == io.EOF {
		return errNotArmor // cut off
	}
	if err != nil {
		return err
	}
	switch {
	case len(line) == 0:
		return nil
	case line[0] == '-':
		if string(line) != "-----END "+a.kind+"-----" {
			return errNotArmor
		}
		return a.finish()
	case line[0] == '=' && len(line) == 5:
		a.ended = true
		return nil
	case a.ended:
		return errNotArmor
	}
	if len(a.quads) > 0 || len(line)%4 != 0 {
		a.quads = append(a.quads, line...)
		line = a.quads
	}
	whole := len(line) &^ 3
	err = a.decode(line[:whole])
	if len(a.quads) > 0 {
		a.quads = append(a.quads[:0], line[whole:]...)
	}
	return err
}

func (a *armorReader) decode(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	if need := len(b) / 4 * 3; cap(a.room) < need {
		a.room = make([]byte, max(need, 4096))
	}
	n, err := base64.StdEncoding.Decode(a.room[:cap(a.room)], b)
	if err != nil {
		return errNotArmor
	}
	a.ended = b[len(b)-1] == '='
	a.buf = a.room[:n]
	return nil
}

// finish checks that nothing is left over and only white space follows.
func (a *armorReader) finish() error {
	if len(a.quads) > 0 {
		return errNotArmor
	}
	a.done = true
	for {
		line, err := a.line()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if len(bytes.TrimSpace(line)) > 0 {
			return errNotArmor
		}
	}
}

package wire

import (
	"bytes"
	"io"
	"sync"
)

// Reader reads a connection's input, in lines or in blocks. Its first error of
// reading is permanent: nothing after it is ever read.
//
// While a connection is idle its buffer is small; for blocks it borrows a large
// one.
type Reader struct {
	src   io.Reader
	buf   []byte // from r to w not yet used
	r, w  int
	large *[blockSize]byte // behind buf, or nil
	skip  bool             // within a line that was too long
	full  bool             // the last reading left no room: there may be more
	err   error
}

const (
	smallSize = 512
	burstSize = 8 << 10 // for a client that sends many lines in one go
	blockSize = 64 << 10
)

var blocks = sync.Pool{New: func() any { return new([blockSize]byte) }}

// NewReader reads from src.
func NewReader(src io.Reader) *Reader { return &Reader{src: src} }

// Buffered is the number of bytes that can be had without reading.
func (r *Reader) Buffered() int { return r.w - r.r }

// Release gives back the large buffer, if nothing is in it.
func (r *Reader) Release() {
	if r.large != nil && r.r == r.w {
		blocks.Put(r.large)
		r.large, r.buf, r.r, r.w = nil, nil, 0, 0
	}
}

// Line reads a line of at most limit bytes with its CRLF, and returns it
// without; it is good until the next call. After ErrLong the next call reads
// the line after. ErrBareLineEnd is permanent.
func (r *Reader) Line(limit int) ([]byte, error) {
	for seen := 0; ; {
		if i := bytes.IndexByte(r.buf[r.r+seen:r.w], '\n'); i >= 0 {
			return r.cut(r.r+seen+i, limit)
		}
		seen = r.w - r.r
		if r.skip || seen > limit {
			r.skip = true
			keep := 0
			if seen > 0 && r.buf[r.w-1] == '\r' {
				keep = 1
			}
			r.r, seen = r.w-keep, keep
		}
		if err := r.fill(limit + 2); err != nil {
			return nil, err
		}
	}
}

// Peek gives the next line, with its CRLF, if it was read to its end already, and
// else nil; it stays to be read. What Line says of it is another matter.
func (r *Reader) Peek() []byte {
	if i := bytes.IndexByte(r.buf[r.r:r.w], '\n'); i >= 0 && !r.skip {
		return r.buf[r.r : r.r+i+1]
	}
	return nil
}

// cut takes the line whose LF is at i.
func (r *Reader) cut(i, limit int) ([]byte, error) {
	line := r.buf[r.r : i+1]
	r.r = i + 1
	switch n := len(line); {
	case n < 2 || line[n-2] != '\r':
		return nil, r.Fail(ErrBareLineEnd)
	case r.skip || n > limit:
		r.skip = false
		return nil, ErrLong
	default:
		line = line[:n-2]
	}
	if bytes.IndexByte(line, '\r') >= 0 {
		return nil, r.Fail(ErrBareLineEnd)
	}
	return line, nil
}

// fill reads more, into a buffer that can hold up to size bytes.
func (r *Reader) fill(size int) error {
	if r.err != nil {
		return r.err
	}
	if r.r > 0 {
		r.w = copy(r.buf, r.buf[r.r:r.w])
		r.r = 0
	}
	if r.large == nil && len(r.buf) > smallSize && r.w == 0 && !r.full {
		r.buf = nil // of a long line
	}
	if r.full && len(r.buf) < burstSize {
		grown := make([]byte, burstSize)
		r.w = copy(grown, r.buf[:r.w])
		r.buf = grown
	}
	if r.w == len(r.buf) {
		grown := make([]byte, max(smallSize, min(4*len(r.buf), size)))
		r.w = copy(grown, r.buf[:r.w])
		r.buf = grown
	}
	return r.read()
}

func (r *Reader) read() error {
	for range 100 {
		n, err := r.src.Read(r.buf[r.w:])
		r.w += n
		r.full = r.w == len(r.buf)
		if err != nil {
			r.fail(err)
		}
		if n > 0 {
			return nil
		}
		if err != nil {
			return r.err
		}
	}
	return r.fail(io.ErrNoProgress)
}

// fail makes err the answer to every further reading, once what was read before
// is used.
func (r *Reader) fail(err error) error {
	if r.err == nil {
		r.err = err
	}
	return r.err
}

// Fail makes err the answer to every further call, and returns it; what was read
// before is thrown away.
func (r *Reader) Fail(err error) error {
	r.err, r.r, r.w = err, 0, 0
	return err
}

// Block gives what was read and not used, at least one byte, which may be
// changed in place; it is good until the next call. Unread takes a part back.
func (r *Reader) Block() ([]byte, error) {
	if r.r == r.w {
		if r.err != nil {
			return nil, r.err
		}
		if r.large == nil {
			r.large = blocks.Get().(*[blockSize]byte)
			r.buf = r.large[:]
		}
		r.r, r.w = 0, 0
		if err := r.read(); err != nil {
			return nil, err
		}
	}
	b := r.buf[r.r:r.w]
	r.r = r.w
	return b, nil
}

// Unread takes back the last n bytes of the last Block.
func (r *Reader) Unread(n int) { r.r -= n }

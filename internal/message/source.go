package message

import (
	"errors"
	"fmt"
	"io"
	"sort"
)

// Source is the bytes of one message. It must allow concurrent ReadAt.
type Source interface {
	io.ReaderAt
	Size() int64
}

// Reader reads src from its beginning.
func Reader(src Source) io.Reader { return io.NewSectionReader(src, 0, src.Size()) }

// ReadAll reads src into memory, or gives ErrTooLarge where it is longer than
// limit bytes.
func ReadAll(src Source, limit int64) ([]byte, error) {
	n := src.Size()
	if n > limit {
		return nil, fmt.Errorf("%w: %d bytes, limit %d", ErrTooLarge, n, limit)
	}
	b := make([]byte, n)
	if err := readFull(src, b, 0); err != nil {
		return nil, err
	}
	return b, nil
}

// readFull fills p from src at off; a short read is an error.
func readFull(src Source, p []byte, off int64) error {
	n, err := src.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Bytes makes a Source of b, which the caller must not change afterwards.
func Bytes(b []byte) Source { return bytesSource(b) }

type bytesSource []byte

func (b bytesSource) Size() int64 { return int64(len(b)) }

func (b bytesSource) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errNegative
	}
	if off >= int64(len(b)) {
		return 0, io.EOF
	}
	n := copy(p, b[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

var errNegative = errors.New("reading a message at a negative offset")

// Section is bytes off to off+n of src, clipped to src.
func Section(src Source, off, n int64) Source {
	size := src.Size()
	off = min(max(off, 0), size)
	n = min(max(n, 0), size-off)
	switch s := src.(type) {
	case bytesSource:
		return s[off : off+n]
	case section:
		return section{s.src, s.off + off, n}
	}
	return section{src, off, n}
}

type section struct {
	src    Source
	off, n int64
}

func (s section) Size() int64 { return s.n }

func (s section) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errNegative
	}
	if off >= s.n {
		return 0, io.EOF
	}
	short := int64(len(p)) > s.n-off
	if short {
		p = p[:s.n-off]
	}
	n, err := s.src.ReadAt(p, s.off+off)
	if n == len(p) {
		err = nil
		if short {
			err = io.EOF
		}
	}
	return n, err
}

// Concat is the bytes of its sources one after another. It reads them when it
// is read; they must not grow or close before.
func Concat(sources ...Source) Source {
	c := &concat{}
	for _, s := range sources {
		if n := s.Size(); n > 0 {
			c.parts = append(c.parts, s)
			c.size += n
			c.ends = append(c.ends, c.size)
		}
	}
	if len(c.parts) == 1 {
		return c.parts[0]
	}
	return c
}

type concat struct {
	parts []Source
	ends  []int64 // ends[i] is the offset after parts[i]
	size  int64
}

func (c *concat) Size() int64 { return c.size }

func (c *concat) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errNegative
	}
	i := sort.Search(len(c.ends), func(i int) bool { return c.ends[i] > off })
	done := 0
	for ; i < len(c.parts) && done < len(p); i++ {
		part := c.parts[i]
		at := off - (c.ends[i] - part.Size())
		n := int(min(int64(len(p)-done), part.Size()-at))
		if err := readFull(part, p[done:done+n], at); err != nil {
			return done, err
		}
		done += n
		off += int64(n)
	}
	if done < len(p) {
		return done, io.EOF
	}
	return done, nil
}

package pgp

import (
	"bufio"
	"io"
	"sync"
)

// Buffers are used again: for a short letter, making them takes longer than
// filling them. What they hold is never read by the next user.
var (
	readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 64<<10) }}
	writers = sync.Pool{New: func() any { return bufio.NewWriterSize(nil, 32<<10) }}
	chunks  = sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }}
	headers = sync.Pool{New: func() any { return new(headerBuffers) }}
)

// headerBuffers have room for the headers of most messages.
type headerBuffers struct {
	outer   [4 << 10]byte
	payload [6 << 10]byte
}

func borrowReader(r io.Reader) *bufio.Reader {
	b := readers.Get().(*bufio.Reader)
	b.Reset(r)
	return b
}

func returnReader(b *bufio.Reader) {
	b.Reset(nil)
	readers.Put(b)
}

func borrowWriter(w io.Writer) *bufio.Writer {
	b := writers.Get().(*bufio.Writer)
	b.Reset(w)
	return b
}

func returnWriter(b *bufio.Writer) {
	b.Reset(nil)
	writers.Put(b)
}

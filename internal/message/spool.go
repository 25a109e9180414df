package message

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"sync"
)

// spoolChunk is how many bytes go to a spool's file at a time.
const spoolChunk = 64 << 10

// SpoolOptions bound a Spool.
type SpoolOptions struct {
	Dir    string // where its file goes; "" means os.TempDir
	Memory int64  // bytes kept in memory; 0 means 1 MiB
	Limit  int64  // bytes in all, then ErrTooLarge; 0 means 128 MiB
}

// Spool holds one message while it passes: in memory up to a bound, then in an
// unlinked temporary file, encrypted with a key that exists only in memory. It
// is written once, sequentially, then read at random. It implements Source.
// It may be used concurrently.
//
// The file is AES-256 in counter mode under a key of its own, so that each
// byte can be read alone. It has no integrity check: from the moment it is
// opened it has no name, so that only our own process and root reach it, who
// could as well change our memory.
type Spool struct {
	opts SpoolOptions

	mu     sync.RWMutex // guards what follows
	buf    []byte       // bytes from flushed to size
	file   *os.File     // nil while everything is in memory
	block  cipher.Block // of file's key
	flush  int64        // bytes that are in file
	closed bool
}

// NewSpool makes an empty spool. It opens no file before it needs one.
func NewSpool(o SpoolOptions) *Spool {
	if o.Memory <= 0 {
		o.Memory = 1 << 20
	}
	if o.Limit <= 0 {
		o.Limit = 128 << 20
	}
	return &Spool{opts: o}
}

// Write appends to the spool. A p that would exceed the limit is ErrTooLarge
// and nothing of it is written.
func (s *Spool) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, ErrClosed
	}
	if int64(len(p)) > s.opts.Limit-s.size() {
		return 0, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, s.opts.Limit)
	}
	if s.file == nil {
		if s.size()+int64(len(p)) <= s.opts.Memory {
			s.keep(p)
			return len(p), nil
		}
		if err := s.spill(); err != nil {
			return 0, fmt.Errorf("moving a message to its spool file: %w", err)
		}
	}
	return s.append(p)
}

// keep adds p to what is in memory. Most messages fit the first buffer, which
// is used again, as allocating it costs more than filling it. Caller holds mu.
func (s *Spool) keep(p []byte) {
	if s.buf == nil {
		s.buf = firsts.Get().(*[firstBuffer]byte)[:0]
	}
	if old := s.buf; cap(old) == firstBuffer && len(old)+len(p) > firstBuffer {
		s.buf = append(make([]byte, 0, max(4*firstBuffer, len(old)+len(p))), old...)
		giveBack(old)
	}
	s.buf = append(s.buf, p...)
}

// firstBuffer is the size of the buffers that spools use one after the other.
// Those in firsts are zero: no message can be seen in another's.
const firstBuffer = 32 << 10

var firsts = sync.Pool{New: func() any { return new([firstBuffer]byte) }}

// giveBack zeroes b and, if it is a first buffer, lets another spool have it.
func giveBack(b []byte) {
	if cap(b) != firstBuffer {
		clear(b[:cap(b)])
		return
	}
	clear(b) // nothing was written beyond
	firsts.Put((*[firstBuffer]byte)(b[:firstBuffer]))
}

// inMemory calls f with the whole content where no file has any of it. The
// bytes stay as they are until f returns.
func (s *Spool) inMemory(f func([]byte) error) (done bool, err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed || s.file != nil {
		return false, nil
	}
	return true, f(s.buf)
}

// InMemory calls f with the bytes of src from off to end where they lie in
// memory in one piece, and tells whether it did; then the error is f's. f must
// neither change nor keep them, nor use src.
func InMemory(src Source, off, end int64, f func([]byte) error) (done bool, err error) {
	part := func(b []byte) error {
		if off < 0 || end < off || end > int64(len(b)) {
			return io.ErrUnexpectedEOF
		}
		return f(b[off:end])
	}
	switch src := src.(type) {
	case bytesSource:
		return true, part(src)
	case *Spool:
		return src.inMemory(part)
	case section:
		if off < 0 || end > src.n {
			return true, io.ErrUnexpectedEOF
		}
		return InMemory(src.src, src.off+off, src.off+end, f)
	}
	return false, nil
}

// append adds p to buf and writes full chunks to the file. Caller holds mu.
func (s *Spool) append(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		n := min(spoolChunk-len(s.buf), len(p)-done)
		s.buf = append(s.buf, p[done:done+n]...)
		done += n
		if len(s.buf) < spoolChunk {
			break
		}
		if err := s.flushChunk(s.buf); err != nil {
			s.buf = s.buf[:len(s.buf)-n] // that n was not accepted
			return done - n, fmt.Errorf("writing a spool file: %w", err)
		}
		s.buf = s.buf[:0]
	}
	return done, nil
}

// spill moves what is in memory to a new file. Caller holds mu.
func (s *Spool) spill() error {
	var key [32]byte
	rand.Read(key[:])
	block, err := aes.NewCipher(key[:])
	clear(key[:])
	if err != nil {
		return err
	}
	file, err := openUnlinked(s.opts.Dir)
	if err != nil {
		return err
	}
	s.file, s.block = file, block
	head := s.buf
	whole := len(head) / spoolChunk * spoolChunk
	for i := 0; i < whole; i += spoolChunk {
		if err := s.flushChunk(head[i : i+spoolChunk]); err != nil {
			s.file.Close()
			s.file, s.block, s.flush = nil, nil, 0
			return err
		}
	}
	s.buf = make([]byte, 0, spoolChunk)
	s.buf = append(s.buf, head[whole:]...)
	giveBack(head)
	return nil
}

// flushChunk encrypts p and writes it at the end of the file. Caller holds mu.
func (s *Spool) flushChunk(p []byte) error {
	c := chunks.Get().(*[spoolChunk]byte)
	defer chunks.Put(c) // holds ciphertext only
	streamAt(s.block, s.flush).XORKeyStream(c[:len(p)], p)
	if _, err := s.file.WriteAt(c[:len(p)], s.flush); err != nil {
		return err
	}
	s.flush += int64(len(p))
	return nil
}

var chunks = sync.Pool{New: func() any { return new([spoolChunk]byte) }}

// streamAt is the key stream from byte off. The counter starts at zero: each
// key encrypts one file, each byte of it once.
func streamAt(b cipher.Block, off int64) cipher.Stream {
	var iv, skip [aes.BlockSize]byte
	binary.BigEndian.PutUint64(iv[8:], uint64(off/aes.BlockSize))
	s := cipher.NewCTR(b, iv[:])
	if r := off % aes.BlockSize; r > 0 {
		s.XORKeyStream(skip[:r], skip[:r])
	}
	return s
}

// ReadAt implements io.ReaderAt; it may be called concurrently, also with Write
// for what has been written.
func (s *Spool) ReadAt(p []byte, off int64) (int, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return 0, ErrClosed
	}
	if off < 0 {
		return 0, errNegative
	}
	done := 0
	if off < s.flush {
		n := int(min(int64(len(p)), s.flush-off))
		if _, err := s.file.ReadAt(p[:n], off); err != nil {
			clear(p[:n])
			return 0, fmt.Errorf("reading a spool file: %w", err)
		}
		streamAt(s.block, off).XORKeyStream(p[:n], p[:n])
		done, off = n, off+int64(n)
	}
	if at := off - s.flush; at >= 0 && at < int64(len(s.buf)) {
		done += copy(p[done:], s.buf[at:])
	}
	if done < len(p) {
		return done, io.EOF
	}
	return done, nil
}

// Size is the number of bytes written.
func (s *Spool) Size() int64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.size()
}

func (s *Spool) size() int64 { return s.flush + int64(len(s.buf)) }

// Close frees memory, key and file. Reads fail afterwards. It may be called
// twice. Plaintext in memory is zeroed; the expanded key is left to the garbage
// collector, which is all that crypto/aes allows, and opens nothing any more.
func (s *Spool) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	giveBack(s.buf)
	s.buf, s.block = nil, nil
	if s.file == nil {
		return nil
	}
	err := s.file.Close()
	s.file = nil
	return err
}

// Copy appends all of r to s and returns how many bytes that were. An error of
// the spool (ErrTooLarge) and of r come back as they are.
func Copy(s *Spool, r io.Reader) (int64, error) {
	b := make([]byte, 32<<10)
	var n int64
	for {
		k, err := r.Read(b)
		if k > 0 {
			w, werr := s.Write(b[:k])
			n += int64(w)
			if werr != nil {
				clear(b)
				return n, werr
			}
		}
		if err != nil {
			clear(b)
			if err == io.EOF {
				err = nil
			}
			return n, err
		}
	}
}

package pgp

import (
	"encoding/base64"
	"encoding/binary"
	"io"
	"sync"
)

// armorLine is the bytes in one line of armor: 48 give 64 characters
// (RFC 9580, Section 6.2: at most 76).
const (
	armorLine  = 48
	armorBatch = 64 // lines written at once
)

// armorWriter encodes ASCII armor. It writes many lines at a time and allocates
// once, where the engine's own writes and allocates for each line. Lines end in
// CRLF, as mail has them.
type armorWriter struct {
	w   io.Writer
	typ string
	// plain leaves the checksum out, to be set before the first Write. RFC 9580,
	// Section 6.1 forbids it for what only newer programs read (version 6,
	// SEIPDv2), and lets it stand for the sake of older ones: GnuPG 2.2 reads the
	// tail line as data where neither checksum nor padding stands before it.
	plain bool
	sum   uint32
	begun bool
	in    []byte // not yet encoded, less than a batch
	out   []byte
	bufs  *armorBuffers // behind both
	err   error
}

type armorBuffers struct {
	in  [armorLine * armorBatch]byte
	out [(armorLine/3*4+2)*armorBatch + 128]byte
}

var armors = sync.Pool{New: func() any { return new(armorBuffers) }}

// newArmor begins a block of that type. Its buffers may be given back with free.
func newArmor(w io.Writer, typ string) *armorWriter {
	b := armors.Get().(*armorBuffers)
	return &armorWriter{w: w, typ: typ, sum: crcInit, in: b.in[:0], out: b.out[:0], bufs: b}
}

// free ends the use of a.
func (a *armorWriter) free() {
	armors.Put(a.bufs)
	a.in, a.out, a.bufs = nil, nil, nil
}

// Write implements io.Writer.
func (a *armorWriter) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 && a.err == nil {
		if len(a.in) == 0 && len(p) >= cap(a.in) {
			a.encode(p[:cap(a.in)])
			p = p[cap(a.in):]
			continue
		}
		m := copy(a.in[len(a.in):cap(a.in)], p)
		a.in, p = a.in[:len(a.in)+m], p[m:]
		if len(a.in) == cap(a.in) {
			a.encode(a.in)
			a.in = a.in[:0]
		}
	}
	return n, a.err
}

// encode writes b as whole lines, the last of which may be shorter.
func (a *armorWriter) encode(b []byte) {
	a.out = a.out[:0]
	if !a.begun {
		a.begun = true
		a.out = append(a.out, "-----BEGIN "+a.typ+"-----\r\n\r\n"...)
	}
	if !a.plain {
		a.sum = crc24(a.sum, b)
	}
	for len(b) > 0 {
		n := min(armorLine, len(b))
		a.out = base64.StdEncoding.AppendEncode(a.out, b[:n])
		a.out = append(a.out, "\r\n"...)
		b = b[n:]
	}
	if a.err == nil {
		_, a.err = a.w.Write(a.out)
	}
}

// Close ends the block. It doesn't close the underlying writer.
func (a *armorWriter) Close() error {
	a.encode(a.in)
	if a.err != nil {
		return a.err
	}
	if !a.plain {
		var sum [4]byte
		binary.BigEndian.PutUint32(sum[:], a.sum)
		if _, a.err = io.WriteString(a.w, "="+base64.StdEncoding.EncodeToString(sum[:3])+"\r\n"); a.err != nil {
			return a.err
		}
	}
	_, a.err = io.WriteString(a.w, "-----END "+a.typ+"-----\r\n")
	return a.err
}

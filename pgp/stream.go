package pgp

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha1"
	"encoding/binary"
	"hash"
	"io"
)

// pieceBits is the size of a partial length, 32 KiB, as pools.go has buffers.
const pieceBits = 15

// packetStream writes one packet whose length is not known before its end: whole
// where it fits the buffer, else in pieces (RFC 9580, Section 4.2.1.4). The engine's
// own allocates all of it, and writes it in many small pieces.
type packetStream struct {
	w      io.Writer
	tag    byte // with both upper bits
	buf    []byte
	pooled *[]byte
	begun  bool
}

// newPacketStream borrows a buffer until free.
func newPacketStream(w io.Writer, tag byte) *packetStream {
	b := chunks.Get().(*[]byte)
	return &packetStream{w: w, tag: 0xc0 | tag, buf: (*b)[: 0 : 1<<pieceBits], pooled: b}
}

func (s *packetStream) free() {
	chunks.Put(s.pooled)
	s.buf, s.pooled = nil, nil
}

// room is where the next bytes go, at least one; take them with took.
func (s *packetStream) room() ([]byte, error) {
	if len(s.buf) == cap(s.buf) {
		head := []byte{s.tag, 224 + pieceBits}
		if s.begun {
			head = head[1:]
		}
		s.begun = true
		if _, err := s.w.Write(head); err != nil {
			return nil, err
		}
		if _, err := s.w.Write(s.buf); err != nil {
			return nil, err
		}
		s.buf = s.buf[:0]
	}
	return s.buf[len(s.buf):cap(s.buf)], nil
}

func (s *packetStream) took(n int) { s.buf = s.buf[:len(s.buf)+n] }

// Write implements io.Writer.
func (s *packetStream) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		room, err := s.room()
		if err != nil {
			return 0, err
		}
		m := copy(room, p)
		s.took(m)
		p = p[m:]
	}
	return n, nil
}

// Close writes the end of the packet. It doesn't close w.
func (s *packetStream) Close() error {
	var head []byte
	if !s.begun {
		head = append(head, s.tag)
	}
	if _, err := s.w.Write(appendPacketLength(head, len(s.buf))); err != nil {
		return err
	}
	_, err := s.w.Write(s.buf)
	return err
}

// appendPacketLength is RFC 9580, Section 4.2.1.
func appendPacketLength(b []byte, n int) []byte {
	switch {
	case n < 192:
		return append(b, byte(n))
	case n < 8384:
		return append(b, byte((n-192)>>8+192), byte(n-192))
	}
	return binary.BigEndian.AppendUint32(append(b, 255), uint32(n))
}

// sealer encrypts packets into a version 1 SEIPD packet (RFC 9580, Section
// 5.13.1). It does what the engine's does, in a third of the time.
type sealer struct {
	out   *packetStream
	block cipher.Block
	reg   [aes.BlockSize]byte // the feedback: used bytes of ciphertext, then key stream
	used  int
	hash  hash.Hash
}

// newSealer begins the packet on w with the random prefix. free must follow.
func newSealer(w io.Writer, key []byte) (*sealer, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	s := &sealer{out: newPacketStream(w, tagSEIPD), block: block, used: aes.BlockSize, hash: sha1.New()}
	if _, err := s.out.Write([]byte{1}); err != nil {
		s.free()
		return nil, err
	}
	var prefix [aes.BlockSize + 2]byte
	rand.Read(prefix[:aes.BlockSize])
	copy(prefix[aes.BlockSize:], prefix[aes.BlockSize-2:])
	if _, err := s.Write(prefix[:]); err != nil {
		s.free()
		return nil, err
	}
	return s, nil
}

func (s *sealer) free() { s.out.free() }

// Write implements io.Writer.
func (s *sealer) Write(p []byte) (int, error) {
	s.hash.Write(p)
	n := len(p)
	for len(p) > 0 {
		room, err := s.out.room()
		if err != nil {
			return 0, err
		}
		m := min(len(room), len(p))
		s.encrypt(room[:m], p[:m])
		s.out.took(m)
		p = p[m:]
	}
	return n, nil
}

// encrypt is AES in CFB mode, without resynchronisation (Section 12.9).
func (s *sealer) encrypt(dst, src []byte) {
	for len(src) > 0 {
		if s.used == aes.BlockSize {
			s.block.Encrypt(s.reg[:], s.reg[:])
			if len(src) >= aes.BlockSize {
				order := binary.LittleEndian
				a := order.Uint64(s.reg[:8]) ^ order.Uint64(src[:8])
				b := order.Uint64(s.reg[8:]) ^ order.Uint64(src[8:16])
				order.PutUint64(s.reg[:8], a)
				order.PutUint64(s.reg[8:], b)
				copy(dst[:aes.BlockSize], s.reg[:])
				dst, src = dst[aes.BlockSize:], src[aes.BlockSize:]
				continue
			}
			s.used = 0
		}
		s.reg[s.used] ^= src[0]
		dst[0] = s.reg[s.used]
		s.used++
		dst, src = dst[1:], src[1:]
	}
}

// Close writes the modification detection code and ends the packet.
func (s *sealer) Close() error {
	mdc := []byte{0xd3, sha1.Size}
	s.hash.Write(mdc)
	mdc = s.hash.Sum(mdc)
	var end [2 + sha1.Size]byte
	s.encrypt(end[:], mdc)
	if _, err := s.out.Write(end[:]); err != nil {
		return err
	}
	return s.out.Close()
}

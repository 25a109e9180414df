package form

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
)

const (
	// Rounds of PBKDF2: what OWASP asked for HMAC-SHA-256 in 2023, and about what
	// a telephone does in a second.
	rounds    = 600_000
	chunkSize = 1 << 20
	saltSize  = 16
	checkSize = 16
)

// params are what the page has to know beside the password. All of it is bound
// to every chunk.
type params struct {
	salt  [saltSize]byte
	check [checkSize]byte
}

// bound is the associated data of every chunk; page.js writes the same.
func (p params) bound() []byte {
	return fmt.Appendf(nil, "letterlock form 1\nrounds=%d\nchunk=%d\nsalt=%s\n", rounds, chunkSize, base64.StdEncoding.EncodeToString(p.salt[:]))
}

// sealer encrypts what is written to it, in chunks.
type sealer struct {
	w     io.Writer
	aead  cipher.AEAD
	bound []byte
	chunk []byte // plaintext not yet encrypted
	out   []byte
	n     uint64 // chunks written
}

// newSealer derives a key for one message; nothing else is ever encrypted with
// it, so that nonces may count.
func newSealer(w io.Writer, password Password) (*sealer, params, error) {
	var p params
	rand.Read(p.salt[:])
	stretched, err := pbkdf2.Key(sha256.New, password.Reveal(), p.salt[:], rounds, 32)
	if err != nil {
		return nil, p, err
	}
	check, err := hkdf.Key(sha256.New, stretched, p.salt[:], "letterlock form 1 check", checkSize)
	if err != nil {
		return nil, p, err
	}
	copy(p.check[:], check)
	key, err := hkdf.Key(sha256.New, stretched, p.salt[:], "letterlock form 1 key", 32)
	if err != nil {
		return nil, p, err
	}
	clear(stretched)
	defer clear(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, p, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, p, err
	}
	return &sealer{w: w, aead: aead, bound: p.bound(), chunk: make([]byte, 0, chunkSize), out: make([]byte, 0, chunkSize+aead.Overhead())}, p, nil
}

// Write implements io.Writer. A full chunk waits until more comes, since the
// last one is another.
func (s *sealer) Write(b []byte) (int, error) {
	n := len(b)
	for len(b) > 0 {
		if len(s.chunk) == chunkSize {
			if err := s.flush(false); err != nil {
				return 0, err
			}
		}
		m := min(len(b), chunkSize-len(s.chunk))
		s.chunk, b = append(s.chunk, b[:m]...), b[m:]
	}
	return n, nil
}

// Close writes the last chunk, which may be empty. It doesn't close w.
func (s *sealer) Close() error {
	err := s.flush(true)
	clear(s.chunk[:cap(s.chunk)])
	return err
}

func (s *sealer) flush(last bool) error {
	var nonce [12]byte
	binary.BigEndian.PutUint64(nonce[3:11], s.n)
	if last {
		nonce[11] = 1
	}
	s.n++
	s.out = s.aead.Seal(s.out[:0], nonce[:], s.chunk, s.bound)
	s.chunk = s.chunk[:0]
	_, err := s.w.Write(s.out)
	return err
}

package store

import (
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"
)

// sealer seals bytes for a store whose server is not to read them: nonce, then
// XChaCha20-Poly1305, bound to the table and the column.
//
// The nonce is random, except in columns that are looked up: there it is a MAC
// of column and bytes, so that equal bytes are sealed equally (and seen to be
// equal) and different ones never share a nonce.
type sealer struct {
	aead  cipher.AEAD
	nonce [32]byte
}

func newSealer(k *keys) (*sealer, error) {
	key := k.expand("letterlock store sealed v1")
	aead, err := chacha20poly1305.NewX(key[:])
	return &sealer{aead, k.expand("letterlock store sealed nonce v1")}, err
}

// place is what bytes are bound to.
func place(table, column string) []byte {
	return []byte("letterlock sealed v1\x00" + table + "\x00" + column)
}

func (s *sealer) seal(b []byte, t target) []byte {
	at := place(t.table, t.name)
	nonce := make([]byte, chacha20poly1305.NonceSizeX, chacha20poly1305.NonceSizeX+len(b)+chacha20poly1305.Overhead)
	if t.lookup {
		h := hmac.New(sha256.New, s.nonce[:])
		h.Write(at)
		h.Write([]byte{0}) // no column's name has one
		h.Write(b)
		copy(nonce, h.Sum(nil))
	} else {
		rand.Read(nonce)
	}
	return s.aead.Seal(nonce, nonce, b, at)
}

// open gives what was sealed for the column in one of tables, in memory of its
// own; ErrTampered where that was not done.
func (s *sealer) open(sealed []byte, column string, tables ...string) ([]byte, error) {
	if len(sealed) >= chacha20poly1305.NonceSizeX {
		nonce, text := sealed[:chacha20poly1305.NonceSizeX], sealed[chacha20poly1305.NonceSizeX:]
		for _, table := range tables {
			if b, err := s.aead.Open([]byte{}, nonce, text, place(table, column)); err == nil {
				return b, nil
			}
		}
	}
	return nil, fmt.Errorf("opening %s.%s: %w", tables[0], column, ErrTampered)
}

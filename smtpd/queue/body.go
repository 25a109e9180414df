package queue

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/internal/store"
)

// piece is the bytes of a body in one row of queue_piece, before it is sealed.
const piece = 256 << 10

// sealer seals the bodies of one entry. Whatever the store does with its pages,
// a body is never there in the clear: held mail is plaintext, and some stores
// are other people's servers.
//
// AES-256-GCM under a key of the entry's own with random nonces; each piece is
// bound to the entry, its number and the size of the whole, so that pieces can
// be neither moved, swapped nor left out.
type sealer struct {
	aead cipher.AEAD
	id   string
	size int64
}

func (q *Queue) sealer(id string, size int64) (*sealer, error) {
	h := hmac.New(sha256.New, q.bodies[:])
	h.Write([]byte(id))
	block, err := aes.NewCipher(h.Sum(nil))
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	return &sealer{aead, id, size}, err
}

func (s *sealer) context(n int) []byte {
	return fmt.Appendf(nil, "letterlock queue piece v1 %s %d of %d bytes", s.id, n, s.size)
}

// putBody seals a body into the store.
func (q *Queue) putBody(tx store.Tx, id string, body message.Source) error {
	s, err := q.sealer(id, body.Size())
	if err != nil {
		return err
	}
	buf := make([]byte, min(piece, body.Size()))
	var sealed []byte
	for n, off := 0, int64(0); off < body.Size(); n++ {
		b := buf[:min(int64(len(buf)), body.Size()-off)]
		if _, err := body.ReadAt(b, off); err != nil && err != io.EOF {
			return fmt.Errorf("reading a body for the queue: %w", err)
		}
		sealed = s.aead.Seal(sealed[:0], nil, b, s.context(n))
		if _, err := tx.Exec(`INSERT INTO queue_piece (id, n, data) VALUES (?, ?, ?)`, id, n, sealed); err != nil {
			return err
		}
		off += int64(len(b))
	}
	return nil
}

// body reads the body of an entry into w: all of it, or an error.
func (q *Queue) body(ctx context.Context, id string, size int64, w io.Writer) error {
	s, err := q.sealer(id, size)
	if err != nil {
		return err
	}
	var got int64
	for n := 0; got < size; n++ {
		var data []byte
		err := q.c.Store.View(ctx, func(tx store.Tx) error {
			return tx.Row(`SELECT data FROM queue_piece WHERE id = ? AND n = ?`, []any{id, n}, &data)
		})
		if errors.Is(err, store.ErrNoRow) {
			return errors.New("the stored message is incomplete")
		}
		if err != nil {
			return err
		}
		text, err := s.aead.Open(data[:0], nil, data, s.context(n))
		if err != nil {
			return fmt.Errorf("opening piece %d of the stored message: %w", n, store.ErrTampered)
		}
		if _, err := w.Write(text); err != nil {
			return err
		}
		got += int64(len(text))
	}
	return nil
}

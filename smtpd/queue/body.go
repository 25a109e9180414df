package queue

import (
	"context"
	"errors"
	"fmt"
	"io"

	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/internal/store"
)

// piece is the bytes of a body in one row of queue_body.
const piece = 256 << 10

func putBody(tx store.Tx, id string, body message.Source) error {
	buf := make([]byte, min(piece, body.Size()))
	for n, off := int64(0), int64(0); off < body.Size(); n++ {
		b := buf[:min(int64(len(buf)), body.Size()-off)]
		if _, err := body.ReadAt(b, off); err != nil && err != io.EOF {
			return fmt.Errorf("reading a body for the queue: %w", err)
		}
		if _, err := tx.Exec(`INSERT INTO queue_body (id, n, data) VALUES (?, ?, ?)`, id, n, b); err != nil {
			return err
		}
		off += int64(len(b))
	}
	return nil
}

// body reads the body of an entry into w.
func (q *Queue) body(ctx context.Context, id string, w io.Writer) error {
	for n := 0; ; n++ {
		var data []byte
		err := q.c.Store.View(ctx, func(tx store.Tx) error {
			return tx.Row(`SELECT data FROM queue_body WHERE id = ? AND n = ?`, []any{id, n}, &data)
		})
		if errors.Is(err, store.ErrNoRow) {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := w.Write(data); err != nil {
			return err
		}
	}
}

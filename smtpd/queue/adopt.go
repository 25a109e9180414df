package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/internal/store"
)

// adopt takes over what the tables before queue_item held, one entry at a time.
// Those had no seal and no MAC of ours; nothing has written to them since. An
// entry that was being sent or prepared is left to recover, as any is.
func (q *Queue) adopt(ctx context.Context) error {
	for {
		err := q.update(ctx, func(tx store.Tx) error {
			var id, account, submission string
			var due int64
			var b []byte
			if err := tx.Row(`SELECT id, account, submission, due, entry FROM queue_entry ORDER BY id LIMIT 1`, nil, &id, &account, &submission, &due, &b); err != nil {
				return err
			}
			var e Entry
			if err := json.Unmarshal(b, &e); err != nil {
				return fmt.Errorf("queue entry %s: %w", id, err)
			}
			e.ID, e.Account, e.Submission, e.Next = id, account, submission, time.UnixMicro(due)
			var body message.Source
			if e.Size <= 1<<30 {
				var text []byte
				if err := tx.Rows(`SELECT data FROM queue_body WHERE id = ? ORDER BY n`, []any{id}, func(scan func(...any) error) error {
					var piece []byte
					err := scan(&piece)
					text = append(text, piece...)
					return err
				}); err != nil {
					return err
				}
				if len(text) > 0 {
					body = message.Bytes(text)
				}
			}
			if _, err := q.put(tx, Change{Entry: e, Body: body}, q.c.Now()); err != nil {
				return err
			}
			if _, err := tx.Exec(`DELETE FROM queue_body WHERE id = ?`, id); err != nil {
				return err
			}
			_, err := tx.Exec(`DELETE FROM queue_entry WHERE id = ?`, id)
			return err
		})
		if errors.Is(err, store.ErrNoRow) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

package index

import (
	"context"
	"fmt"
	"time"

	"letterlock.org/letterlock/internal/store"
)

// keepFrozen is how long a frozen verdict outlives the last message with its
// bytes, at least: a message that another program moves, or that comes back out
// of a backup, is shown as it was.
const keepFrozen = 60 * 24 * time.Hour

// Between two looks at what may go, and between two notes that a message is
// still there, lies this much.
const (
	pruneEvery = 24 * time.Hour
	noteEvery  = 30 * 24 * time.Hour
)

// prune drops frozen verdicts that no message has had for long. Sweep does it,
// when it is known which mailboxes there are.
func (l *Library) prune(ctx context.Context) error {
	now := l.c.Now()
	l.mu.Lock()
	due := now.Sub(l.pruned) >= pruneEvery
	l.mu.Unlock()
	if !due {
		return nil
	}
	err := l.c.Store.Update(ctx, func(tx store.Tx) error {
		_, err := tx.Exec(`UPDATE index_frozen SET seen = ? WHERE account = ? AND seen < ? AND (seen = 0 OR EXISTS (
			SELECT 1 FROM index_row r JOIN index_mailbox b ON b.id = r.mailbox
			WHERE r.raw = index_frozen.raw AND b.account = index_frozen.account))`, now, l.c.Account, now.Add(-noteEvery))
		if err != nil {
			return err
		}
		_, err = tx.Exec(`DELETE FROM index_frozen WHERE account = ? AND seen < ?`, l.c.Account, now.Add(-noteEvery-keepFrozen))
		return err
	})
	if err != nil {
		return fmt.Errorf("dropping verdicts of messages that are gone: %w", err)
	}
	l.mu.Lock()
	l.pruned = now
	l.mu.Unlock()
	return nil
}

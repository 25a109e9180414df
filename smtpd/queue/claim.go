package queue

import (
	"context"
	"errors"
	"slices"

	"letterlock.org/letterlock/internal/store"
)

// claim is a submission that a session of this node works on.
type claim struct {
	seen   []string // IDs of the entries that Earlier has given
	stored bool     // the store has it too, for other nodes
}

// Claim takes a submission for one session at a time, on whatever node; "" is
// always free.
func (q *Queue) Claim(key string) (release func(), ok bool) {
	if key == "" {
		return func() {}, true
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.claims[key] != nil {
		return nil, false
	}
	q.claims[key] = &claim{}
	return func() { q.unclaim(key) }, true
}

// unclaim ends a claim. The store's is gone already if the session settled what
// it had begun.
func (q *Queue) unclaim(key string) {
	q.mu.Lock()
	stored := q.claims[key].stored
	delete(q.claims, key)
	q.mu.Unlock()
	if !stored {
		return
	}
	q.async.Add(1)
	q.writeLater(func(tx store.Tx) (int64, error) {
		_, err := tx.Exec(`DELETE FROM queue_claim WHERE submission = ? AND node = ?`, key, q.c.Node)
		return 0, err
	}, func(err error) {
		defer q.async.Done()
		if err != nil {
			q.c.Logger.Error("journal not written", "err", err)
		}
	})
}

// Earlier returns the entries of the same submission, from an earlier attempt.
// Of one that another node works on right now it is ErrBusy.
func (q *Queue) Earlier(ctx context.Context, key string) (es []Entry, err error) {
	if key == "" {
		return nil, nil
	}
	var ids []string
	err = q.c.Store.View(ctx, func(tx store.Tx) error {
		es, ids = nil, nil
		if q.c.Shared {
			if err := q.elsewhere(tx, key); err != nil {
				return err
			}
		}
		rs, err := q.rowsIn(tx, `WHERE hash = ? AND hash <> 0`, hash(key))
		for _, r := range rs {
			if r.Submission == key {
				es, ids = append(es, r.Entry), append(ids, r.ID)
			}
		}
		return err
	})
	q.mu.Lock()
	defer q.mu.Unlock()
	if c := q.claims[key]; c != nil {
		c.seen = ids
	}
	return es, err
}

// elsewhere is ErrBusy if another living node has claimed a submission.
func (q *Queue) elsewhere(tx store.Tx, key string) error {
	var one int64
	err := tx.Row(`SELECT 1 FROM queue_claim c JOIN queue_node n ON n.node = c.node
		WHERE c.submission = ? AND c.node <> ? AND n.until > ?`, []any{key, q.c.Node, q.c.Now().UnixMicro()}, &one)
	if errors.Is(err, store.ErrNoRow) {
		return nil
	}
	if err == nil {
		err = ErrBusy
	}
	return err
}

// claimIn takes a submission for this node, in the transaction that begins to
// send it. Whoever comes second sees either the claim or what became of it.
func (q *Queue) claimIn(tx store.Tx, key string) error {
	n, err := tx.Exec(`INSERT INTO queue_claim (submission, node) VALUES (?, ?) ON CONFLICT (submission) DO NOTHING`, key, q.c.Node)
	if err != nil {
		return err
	}
	if n == 0 {
		return ErrBusy
	}
	q.mu.Lock()
	var seen []string
	if c := q.claims[key]; c != nil {
		seen, c.stored = c.seen, true
	}
	q.mu.Unlock()
	now, err := q.rowsIn(tx, `WHERE hash = ? AND hash <> 0`, hash(key))
	for _, r := range now {
		if r.Submission == key && !slices.Contains(seen, r.ID) {
			return ErrBusy
		}
	}
	return err
}

// unclaimIn ends the claims of what is settled by changes.
func (q *Queue) unclaimIn(tx store.Tx, changes []Change) error {
	if !q.c.Shared {
		return nil
	}
	for i, c := range changes {
		key := c.Entry.Submission
		if key == "" || !c.Forget && (c.Entry.State == Sending || c.Entry.State == Prepared) || i > 0 && changes[i-1].Entry.Submission == key {
			continue
		}
		q.mu.Lock()
		_, ours := q.claims[key]
		q.mu.Unlock()
		if !ours {
			continue
		}
		if _, err := tx.Exec(`DELETE FROM queue_claim WHERE submission = ? AND node = ?`, key, q.c.Node); err != nil {
			return err
		}
	}
	return nil
}

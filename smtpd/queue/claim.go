package queue

import (
	"context"
	"errors"
	"slices"
	"sync"

	"letterlock.org/letterlock/internal/store"
)

// claim is what one session works on: a submission, for some recipients. MTAs
// hand in one message in several transactions at once, each for other people.
type claim struct {
	submission string
	recipients []string // address.Keys
	seen       []string // IDs of the entries that Earlier has given
}

// Claim takes a submission for those recipients (address.Key) for one session
// of this node at a time; the key "" is always free.
func (q *Queue) Claim(key string, recipients ...string) (release func(), ok bool) {
	if key == "" {
		return func() {}, true
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, c := range q.claims[key] {
		if overlap(c.recipients, recipients) {
			return nil, false
		}
	}
	c := &claim{submission: key, recipients: recipients}
	q.claims[key] = append(q.claims[key], c)
	return sync.OnceFunc(func() { q.unclaim(c) }), true
}

func overlap(a, b []string) bool {
	return slices.ContainsFunc(a, func(x string) bool { return slices.Contains(b, x) })
}

func (q *Queue) unclaim(c *claim) {
	q.mu.Lock()
	defer q.mu.Unlock()
	left := slices.DeleteFunc(q.claims[c.submission], func(o *claim) bool { return o == c })
	if q.claims[c.submission] = left; len(left) == 0 {
		delete(q.claims, c.submission)
	}
}

// claimOf is the claim of this node that covers those recipients, nil without.
// The caller holds mu.
func (q *Queue) claimOf(key string, recipients []string) *claim {
	for _, c := range q.claims[key] {
		if overlap(c.recipients, recipients) {
			return c
		}
	}
	return nil
}

// Earlier returns the entries of the same submission, from earlier attempts,
// whoever they are for. If another node sends it to one of recipients right now,
// or it isn't settled whether that was given up, it is ErrBusy.
func (q *Queue) Earlier(ctx context.Context, key string, recipients ...string) (es []Entry, err error) {
	if key == "" || q.seen != nil && q.seen.unseen(q.hash(key)) {
		return nil, nil
	}
	var ids []string
	memory := q.recallSubmission(key)
	err = q.c.Store.View(ctx, func(tx store.Tx) error {
		es, ids = nil, nil
		rs, err := q.rowsIn(tx, `WHERE hash = ? AND hash <> 0`, q.hash(key))
		if err != nil {
			return err
		}
		m := memory.clone()
		if err := q.search(tx, &m, q.hash(key)); err != nil {
			return err
		}
		if rs, err = q.reread(tx, m, rs, func(e *Entry) bool { return e.Submission == key }); err != nil {
			return err
		}
		for _, r := range rs {
			if r.Submission != key {
				continue
			}
			if elsewhere, err := q.elsewhere(tx, r, recipients); err != nil {
				return err
			} else if elsewhere {
				return ErrBusy
			}
			es, ids = append(es, r.Entry), append(ids, r.ID)
		}
		return err
	})
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range es { // what is settled, and not yet written
		e, ok := q.settled[es[i].ID]
		if !ok {
			e, ok = memory.settled[es[i].ID]
		}
		switch {
		case !ok:
		case e.State == Prepared && overlap(keysOf(e), recipients):
			return nil, ErrBusy // it is about to be forgotten, unless it has gone on
		case e.State != Prepared && es[i].State == Sending:
			es[i] = e
		}
	}
	if c := q.claimOf(key, recipients); c != nil {
		c.seen = ids
	}
	return es, err
}

// elsewhere tells whether another node that lives is sending an entry to one of
// those recipients.
func (q *Queue) elsewhere(tx store.Tx, r row, recipients []string) (bool, error) {
	if r.node == "" || r.node == q.c.Node || r.State != Sending && r.State != Prepared || !overlap(keysOf(r.Entry), recipients) {
		return false, nil
	}
	var one int64
	err := tx.Row(`SELECT 1 FROM queue_node WHERE node = ? AND until > ?`, []any{r.node, q.c.Now().UnixMicro()}, &one)
	if errors.Is(err, store.ErrNoRow) {
		return false, nil
	}
	return err == nil, err
}

func keysOf(e Entry) (keys []string) {
	for _, r := range e.Recipients {
		keys = append(keys, r.Key)
	}
	return keys
}

// alone makes sure, in the transaction that begins to send a submission, that
// nothing has become of it since Earlier looked. The lock keeps other nodes out
// until that transaction has ended; whoever comes second sees the first's rows.
func (q *Queue) alone(tx store.Tx, key string, changes []Change) error {
	if err := tx.Lock("queue " + key); err != nil {
		return err
	}
	var ours, seen, fresh []string
	for _, c := range changes {
		ours = append(ours, keysOf(c.Entry)...)
		fresh = append(fresh, c.Entry.ID)
	}
	q.mu.Lock()
	if c := q.claimOf(key, ours); c != nil {
		seen = append(seen, c.seen...)
	}
	q.mu.Unlock()
	rs, err := q.rowsIn(tx, `WHERE hash = ? AND hash <> 0`, q.hash(key))
	for _, r := range rs {
		if r.Submission != key || slices.Contains(fresh, r.ID) || !overlap(keysOf(r.Entry), ours) {
			continue
		}
		if !slices.Contains(seen, r.ID) {
			return ErrBusy
		}
		if err := q.supersede(tx, r, ours); err != nil {
			return err
		}
	}
	return err
}

// supersede has an earlier row of a submission mean nothing any more to those who
// get it now. What a dead node had only prepared goes: should that node only have
// stood still, it finds that it has lost it. If the row has gone on since it was
// looked at, it is ErrBusy.
func (q *Queue) supersede(tx store.Tx, r row, ours []string) error {
	if r.State != Prepared {
		if slices.ContainsFunc(r.Recipients, func(rc Recipient) bool { return rc.State != Failed && slices.Contains(ours, rc.Key) }) {
			return ErrBusy
		}
		return nil
	}
	if r.node == q.c.Node {
		return nil
	}
	n, err := tx.Exec(`DELETE FROM queue_item WHERE id = ? AND state = 'prepared'`, r.ID)
	if err == nil && n == 0 {
		return ErrBusy
	}
	if err == nil {
		_, err = tx.Exec(`DELETE FROM queue_piece WHERE id = ?`, r.ID)
	}
	return err
}

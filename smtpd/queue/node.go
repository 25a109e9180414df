package queue

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"letterlock.org/letterlock/internal/store"
)

// A node is one running process with this queue. What it works on has its name;
// it renews one row of its own, and where that has run out, the others finish
// what it left. Nodes' clocks must agree within a fraction of [Config.Lease];
// where they don't, or where a node stands still for longer, entries become
// Unknown without need: they are told of, and never sent twice. What a node
// whose clock was ahead had in hand when it died waits for as much longer.

// renew says that this node lives. It does nothing on a store of our own.
func (q *Queue) renew(ctx context.Context) error {
	if !q.c.Shared {
		return nil
	}
	now := q.c.Now()
	err := q.update(ctx, func(tx store.Tx) error { return q.renewIn(tx, now) })
	if err == nil {
		q.lease.renewed(now, q.c.Lease)
	}
	return err
}

func (q *Queue) renewIn(tx store.Tx, now time.Time) error {
	_, err := tx.Exec(`INSERT INTO queue_node (node, until) VALUES (?, ?) ON CONFLICT (node) DO UPDATE SET until = excluded.until`,
		q.c.Node, now.Add(q.c.Lease).UnixMicro())
	return err
}

// heartbeat renews until ctx ends, and finishes what dead nodes left. Neither
// waits for the other: what a dead node left may be locked by a transaction that
// it left open, until the database notices.
func (q *Queue) heartbeat(ctx context.Context) {
	if !q.c.Shared {
		return
	}
	var beside sync.WaitGroup
	defer beside.Wait()
	beside.Go(func() {
		q.beat(ctx, "others' work not looked at", func() error { return errors.Join(q.recover(ctx), q.count(ctx)) })
	})
	q.beat(ctx, "queue node not renewed", func() error { return q.renew(ctx) })
}

// beat does something four times in the time of a lease until ctx ends.
func (q *Queue) beat(ctx context.Context, failed string, do func() error) {
	t := time.NewTicker(q.c.Lease / 4)
	defer t.Stop()
	for {
		if err := do(); err != nil && ctx.Err() == nil {
			q.c.Logger.Error(failed, "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// part gives back what this node has claimed and not begun, when it ends.
func (q *Queue) part(ctx context.Context) error {
	if !q.c.Shared {
		return nil
	}
	return q.update(ctx, func(tx store.Tx) error {
		if _, err := tx.Exec(`UPDATE queue_item SET node = '' WHERE node <> '' AND node = ? AND state IN ('waiting', 'held')`, q.c.Node); err != nil {
			return err
		}
		_, err := tx.Exec(`DELETE FROM queue_node WHERE node = ?`, q.c.Node)
		return err
	})
}

// recover settles what nodes left that live no more: on a store of our own, all
// that any process before this one left; otherwise what those left whose lease
// has run out. What was being sent becomes Unknown, what was only prepared goes,
// and what waits is free again.
func (q *Queue) recover(ctx context.Context) error {
	dead, err := q.dead(ctx)
	if err != nil {
		return err
	}
	for _, node := range dead {
		if err := q.inherit(ctx, node); err != nil {
			return err
		}
	}
	return nil
}

// dead lists the nodes that have left work and live no more.
func (q *Queue) dead(ctx context.Context) (dead []string, err error) {
	err = q.c.Store.View(ctx, func(tx store.Tx) error {
		dead = nil
		for last := ""; ; {
			err := tx.Row(`SELECT node FROM queue_item WHERE node <> '' AND node > ? ORDER BY node LIMIT 1`, []any{last}, &last)
			if errors.Is(err, store.ErrNoRow) {
				break
			}
			if err != nil {
				return err
			}
			dead = append(dead, last)
		}
		if !q.c.Shared {
			return nil
		}
		var living []string
		err := tx.Rows(`SELECT node, until FROM queue_node`, nil, func(scan func(...any) error) error {
			var node string
			var until int64
			err := scan(&node, &until)
			if until > q.c.Now().UnixMicro() || node == q.c.Node {
				living = append(living, node)
			} else {
				dead = append(dead, node)
			}
			return err
		})
		dead = slices.DeleteFunc(dead, func(n string) bool { return slices.Contains(living, n) })
		return err
	})
	slices.Sort(dead)
	return slices.Compact(dead), err
}

// inherit settles what one node left, in pages.
func (q *Queue) inherit(ctx context.Context, node string) error {
	for {
		ids, err := q.ids(ctx, `SELECT id FROM queue_item WHERE node <> '' AND node = ? LIMIT 100`, node)
		if err != nil {
			return err
		}
		for _, id := range ids {
			if err := q.inheritOne(ctx, node, id); err != nil {
				return err
			}
		}
		if len(ids) == 0 {
			return q.update(ctx, func(tx store.Tx) error {
				_, err := tx.Exec(`DELETE FROM queue_node WHERE node = ?`, node)
				return err
			})
		}
	}
}

// inheritOne takes one entry of a dead node over, unless somebody else did.
func (q *Queue) inheritOne(ctx context.Context, node, id string) error {
	var changes []Change
	var before Entry
	err := q.write(func(tx store.Tx, p *page) (int64, error) {
		changes = nil
		n, err := tx.Exec(`UPDATE queue_item SET node = ? WHERE id = ? AND node = ?`, q.c.Node, id, node)
		if n == 0 || err != nil {
			return 0, err
		}
		rs, err := q.rowsIn(tx, `WHERE id = ?`, id)
		if err != nil {
			return 0, err
		}
		if len(rs) == 0 { // somebody has tampered with it
			_, err := tx.Exec(`UPDATE queue_item SET node = '' WHERE id = ?`, id)
			return 0, err
		}
		before = rs[0].Entry
		c := left(before)
		if c.Forget && c.Entry.About != "" {
			if err := q.needed(tx, &c); err != nil {
				return 0, err
			}
		}
		changes = []Change{c}
		return q.apply(changes)(tx, p)
	})
	if err == nil && len(changes) > 0 {
		q.waiting(changes)
		q.record(before, changes[0].Entry)
	}
	return err
}

// needed has a notice that a dead node had only prepared go on its way, if the
// message whose password it tells may have arrived: nobody else knows it.
func (q *Queue) needed(tx store.Tx, c *Change) error {
	about, err := q.rowOf(tx, q.recallID(c.Entry.About), c.Entry.About)
	if errors.Is(err, ErrNoEntry) || err == nil && about.State != Sending && about.State != Unknown && about.State != Sent {
		return nil
	}
	if err == nil {
		c.Entry.State, c.Forget = Waiting, false
	}
	return err
}

// left is what becomes of an entry whose node died; e's recipients stay as they are.
func left(e Entry) Change {
	if e.State == Prepared {
		return Change{Entry: e, Forget: true}
	}
	e.Recipients = slices.Clone(e.Recipients)
	for i, r := range e.Recipients {
		if r.State == Sending {
			e.Recipients[i].State = Unknown
			e.Recipients[i].Code, e.Recipients[i].Status = 451, "4.4.2"
			e.Recipients[i].Text = "letterlock stopped while the mail server was answering"
		}
	}
	if e.Report {
		e.Attempts++
		e.Recipients = reportAgain(e)
	}
	if e.State != Held {
		e.State = Overall(e.Recipients)
	}
	return Change{Entry: e}
}

package queue

import (
	"context"
	"errors"
	"time"

	"letterlock.org/letterlock/internal/store"
)

// chores are what is done beside sending: telling that mail is late, giving it
// up, deciding again about what is held, forgetting what is old.
func (q *Queue) chores(ctx context.Context) {
	deciding := make(chan struct{}, 4)
	for ctx.Err() == nil {
		wait := time.Minute
		for _, chore := range []func(context.Context) (time.Time, error){
			q.ring,
			func(ctx context.Context) (time.Time, error) { return q.redecide(ctx, deciding) },
			q.tidy,
		} {
			next, err := chore(ctx)
			if err != nil && ctx.Err() == nil {
				q.c.Logger.Error("queue not tended", "err", err)
			}
			if err == nil && !next.IsZero() {
				wait = min(wait, max(next.Sub(q.c.Now()), 10*time.Millisecond))
			}
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-q.tend:
		}
		timer.Stop()
	}
	for range cap(deciding) {
		deciding <- struct{}{}
	}
}

// ring looks at the entries whose alarm has come, and says when the next does.
func (q *Queue) ring(ctx context.Context) (next time.Time, err error) {
	now := q.c.Now()
	ids, err := q.ids(ctx, `SELECT id FROM queue_item WHERE alarm > 0 AND alarm <= ? ORDER BY alarm LIMIT 100`, now.UnixMicro())
	if err != nil {
		return next, err
	}
	for _, id := range ids {
		// Who has it now looks for itself whether it has expired.
		if ok, err := q.own(ctx, id); err != nil {
			return next, err
		} else if !ok {
			next = now.Add(time.Second)
			continue
		}
		err := q.ringOne(ctx, id, now)
		q.disown(id)
		if err != nil && !errors.Is(err, ErrNoEntry) {
			return next, err
		}
	}
	if len(ids) == 100 {
		return now, nil
	}
	var alarm int64
	err = q.c.Store.View(ctx, func(tx store.Tx) error {
		return tx.Row(`SELECT alarm FROM queue_item WHERE alarm > 0 AND alarm > ? ORDER BY alarm LIMIT 1`, []any{now.UnixMicro()}, &alarm)
	})
	if errors.Is(err, store.ErrNoRow) {
		return next, nil
	}
	if at := time.UnixMicro(alarm); next.IsZero() || at.Before(next) {
		next = at
	}
	return next, err
}

// lastChance is how long what waits has, when its time is over, for one more attempt:
// the machine may have slept through all of it.
const lastChance = time.Hour

// ringOne gives an entry up, or tells the sender that it is late.
func (q *Queue) ringOne(ctx context.Context, id string, now time.Time) error {
	r, err := q.row(ctx, id)
	if err != nil {
		return err
	}
	e := r.Entry
	c := Change{Entry: e, Known: true}
	switch {
	case e.State != Waiting && e.State != Held:
		return nil
	case !now.Before(e.Expires) && e.State == Waiting && !e.Last:
		c.Entry.Last, c.Entry.Next, c.Entry.Expires = true, now, now.Add(lastChance)
	case !now.Before(e.Expires):
		c.Entry.Recipients = expire(e.Recipients, e.State)
		c.Entry.State = Overall(c.Entry.Recipients)
		q.c.Logger.Info("queue expired", "entry", id, "account", e.Account, "reason", e.LastError)
	case e.State == Held || e.Warned || e.Report:
		return nil
	default:
		c.Entry.Warned, c.Notice = true, NoticeDelayed
	}
	if err := q.Settle([]Change{c}); err != nil {
		return err
	}
	q.record(e, c.Entry)
	return nil
}

// tidy forgets what is settled and was touched too long ago to be repeated.
// IDs begin with the time, so that only what is old is looked at.
func (q *Queue) tidy(ctx context.Context) (time.Time, error) {
	now := q.c.Now()
	if now.Sub(q.purged).Abs() < time.Hour { // more ahead, the clock was set back since
		return q.purged.Add(time.Hour), nil
	}
	before := now.Add(-q.c.Remember)
	n := int64(0)
	err := q.update(ctx, func(tx store.Tx) (err error) {
		const old = `SELECT id FROM queue_item WHERE id < ? AND touched < ? AND node = '' AND state IN ('sent', 'failed', 'unknown') ORDER BY id LIMIT 1000`
		if _, err = tx.Exec(`DELETE FROM queue_piece WHERE id IN (`+old+`)`, idAt(before), before.UnixMicro()); err != nil {
			return err
		}
		n, err = tx.Exec(`DELETE FROM queue_item WHERE id IN (`+old+`)`, idAt(before), before.UnixMicro())
		return err
	})
	if err != nil || n == 1000 {
		return now, err
	}
	if err := q.tidyBook(ctx, before); err != nil {
		return now, err
	}
	q.purged = now
	if n > 0 && !q.c.Shared {
		err = q.count(ctx)
	}
	return now.Add(time.Hour), err
}

// tidyBook closes the daybook's open volume when it is old, and removes what was
// closed before.
func (q *Queue) tidyBook(ctx context.Context, before time.Time) error {
	if q.book == nil {
		return nil
	}
	err := q.write(func(_ store.Tx, p *page) (int64, error) {
		p.close = p.close || p.now.Sub(q.book.opened).Abs() > q.c.Remember/8
		return 0, nil
	})
	for more := true; more && err == nil && ctx.Err() == nil; {
		err = q.update(ctx, func(tx store.Tx) (err error) {
			more, err = q.retire(tx, q.c.Now(), before)
			return err
		})
	}
	return err
}

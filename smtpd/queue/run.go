package queue

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/internal/store"
)

// Sender submits entries that wait. It is called concurrently.
type Sender interface {
	// Send submits body to those of e's recipients that are Waiting and
	// returns all of them with their new states. Right before the final dot it
	// must call attempt with the recipients that the upstream accepted, and
	// not send the dot if that fails. An error means that nothing was sent.
	Send(ctx context.Context, e Entry, body message.Source, attempt Attempt) ([]Recipient, error)
}

// Attempt syncs that the recipients with those Keys may now get the message.
type Attempt func(ctx context.Context, keys []string) error

// Run sends what waits until ctx ends, and then waits for attempts under way.
func (q *Queue) Run(ctx context.Context, s Sender) error {
	var workers sync.WaitGroup
	defer workers.Wait()
	slots := make(chan struct{}, q.c.Workers)
	for {
		wait := q.dispatch(ctx, s, slots, &workers)
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-q.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// dispatch starts workers for what is due and says when to look again.
func (q *Queue) dispatch(ctx context.Context, s Sender, slots chan struct{}, workers *sync.WaitGroup) time.Duration {
	q.purge(ctx)
	es, err := q.entries(ctx, `WHERE state = 'waiting' ORDER BY due LIMIT 100`)
	if err != nil {
		q.c.Logger.Error("queue not read", "err", err)
		return time.Minute
	}
	wait := time.Minute
	for _, e := range es {
		if until := e.Next.Sub(q.c.Now()); until > 0 {
			wait = min(wait, max(until, time.Second))
			continue
		}
		if !q.take(e.ID) {
			continue
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			q.leave(e.ID)
			return wait
		}
		workers.Go(func() {
			defer func() { <-slots; q.leave(e.ID); q.Wake() }()
			q.attempt(ctx, s, e)
		})
	}
	return wait
}

func (q *Queue) take(id string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.busy[id] {
		return false
	}
	q.busy[id] = true
	return true
}

func (q *Queue) leave(id string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.busy, id)
}

// attempt sends one entry once and settles what became of it.
func (q *Queue) attempt(ctx context.Context, s Sender, old Entry) {
	// It may have been dropped or sent since it was listed.
	es, err := q.entries(ctx, `WHERE id = ? AND state = 'waiting'`, old.ID)
	if err != nil || len(es) == 0 {
		return
	}
	e, start := es[0], q.c.Now()
	if !e.Next.Before(start.Add(time.Microsecond)) {
		return
	}
	if !start.Before(e.Expires) {
		e.Recipients = expire(e.Recipients)
	} else {
		e = q.send(ctx, s, e)
	}
	e.Attempts++
	e.State = Overall(e.Recipients)
	if e.State == Waiting {
		e.Next = q.c.Now().Add(Backoff(e.Attempts))
	}
	if err := q.Settle(context.WithoutCancel(ctx), []Change{{Entry: e}}); err != nil {
		q.c.Logger.Error("journal not written", "entry", e.ID, "err", err)
	}
	q.c.Count("queue-" + string(e.State))
	q.c.Logger.Info("queue attempt", "entry", e.ID, "account", e.Account, "outcome", e.State,
		"attempts", e.Attempts, "reason", e.LastError, "took", q.c.Now().Sub(start))
}

// send gives the entry to the sender and takes over its answer.
func (q *Queue) send(ctx context.Context, s Sender, e Entry) Entry {
	body := message.NewSpool(message.SpoolOptions{Limit: e.Size + 1})
	defer body.Close()
	if err := q.body(ctx, e.ID, body); err != nil {
		e.LastError = fmt.Sprintf("reading the queue: %v", err)
		return e
	}
	if body.Size() != e.Size {
		e.LastError = "the stored message is incomplete"
		return e
	}
	rs, err := s.Send(ctx, e, body, func(ctx context.Context, keys []string) error {
		return q.Settle(ctx, []Change{{Entry: sending(e, keys)}})
	})
	if err != nil {
		e.LastError = err.Error()
		return e
	}
	e.Recipients, e.LastError = rs, ""
	for _, r := range rs {
		if r.State != Sent {
			e.LastError = fmt.Sprintf("%d %s %s", r.Code, r.Status, r.Text)
		}
	}
	return e
}

// sending is e with those recipients Sending.
func sending(e Entry, keys []string) Entry {
	e.Recipients = append([]Recipient(nil), e.Recipients...)
	for i := range e.Recipients {
		for _, k := range keys {
			if e.Recipients[i].Key == k && e.Recipients[i].State == Waiting {
				e.Recipients[i].State = Sending
			}
		}
	}
	e.State = Sending
	return e
}

// expire gives up the recipients that wait. RFC 3463, Section 3.5: X.4.7.
func expire(rs []Recipient) []Recipient {
	rs = append([]Recipient(nil), rs...)
	for i := range rs {
		if rs[i].State == Waiting {
			rs[i].State = Failed
			rs[i].Code, rs[i].Status = 554, "5.4.7"
			rs[i].Text = "delivery time expired; last answer: " + rs[i].Text
		}
	}
	return rs
}

// Backoff is how long to wait after that many attempts: one minute doubled
// each time up to an hour, give or take a quarter.
func Backoff(attempts int) time.Duration {
	d := time.Minute << min(max(attempts-1, 0), 6)
	d = min(d, time.Hour)
	return d*3/4 + rand.N(d/2)
}

// purge forgets what is settled and was touched too long ago to be repeated.
func (q *Queue) purge(ctx context.Context) {
	now := q.c.Now()
	before := now.Add(-q.c.Remember).UnixMicro()
	if q.purged.After(now.Add(-time.Hour)) {
		return
	}
	q.purged = now
	var one int64
	err := q.c.Store.View(ctx, func(tx store.Tx) error {
		return tx.Row(`SELECT 1 FROM queue_entry WHERE state IN ('sent', 'failed', 'unknown') AND touched < ? LIMIT 1`, []any{before}, &one)
	})
	if errors.Is(err, store.ErrNoRow) || err != nil {
		return
	}
	es, err := q.entries(ctx, `WHERE state IN ('sent', 'failed', 'unknown') AND touched < ? LIMIT 1000`, before)
	if err != nil {
		return
	}
	changes := make([]Change, len(es))
	for i, e := range es {
		changes[i] = Change{Entry: e, Forget: true}
	}
	if err := q.Settle(ctx, changes); err != nil {
		q.c.Logger.Error("queue not purged", "err", err)
	}
}

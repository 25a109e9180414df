package queue

import (
	"context"
	"errors"
	"slices"

	"letterlock.org/letterlock/audit"
	"letterlock.org/letterlock/internal/store"
)

// Show returns one entry, whatever its state.
func (q *Queue) Show(ctx context.Context, id string) (Entry, error) {
	r, err := q.row(ctx, id)
	return r.Entry, err
}

// droppedText is of a recipient whom a person gave up.
const droppedText = "dropped by hand"

// Dropped tells that a person gave the recipient up: Sent means only then that nobody
// sends it any more.
func (r Recipient) Dropped() bool {
	return r.State == Sent && r.Text == droppedText && r.Code/100 != 2
}

// Dropped tells that a person gave the entry up, and that nobody got it.
func (e Entry) Dropped() bool {
	return len(e.Recipients) > 0 && !slices.ContainsFunc(e.Recipients, func(r Recipient) bool { return !r.Dropped() })
}

// inState is an ErrNoEntry about an entry that there is.
type inState string

func (s inState) Error() string        { return "it is " + string(s) }
func (s inState) Is(target error) bool { return target == ErrNoEntry }

func stands(e Entry) inState {
	if e.Dropped() {
		return "given up"
	}
	return inState(e.State)
}

// Drop gives up what waits, is held or is unknown: nothing more is sent, nobody
// is told, and the client's repetition of it counts as delivered.
func (q *Queue) Drop(ctx context.Context, id string) error {
	var dropped []Recipient
	e, err := q.change(ctx, id, func(r *Recipient, _ bool) {
		r.State, r.Code, r.Status, r.Text = Sent, 0, "", droppedText
		dropped = append(dropped, *r)
	}, Waiting, Held, Unknown)
	if err == nil {
		q.c.Audit.Append(records(e, Entry{Recipients: dropped}, audit.Dropped)...)
	}
	return err
}

// Retry sends what waits now, and what is Unknown again, knowing that it may
// arrive twice. An unknown entry without body can only be sent by the client:
// its repetition is then accepted.
func (q *Queue) Retry(ctx context.Context, id string) error {
	_, err := q.change(ctx, id, again, Waiting, Unknown)
	return err
}

// Release decides now about what is held, and returns who stays held and why.
// It doesn't go around the rules: what they would encrypt goes; with clear, what
// they let go in clear too. ErrNotServing means that it will be looked at later,
// without clear.
func (q *Queue) Release(ctx context.Context, id string, clear bool) (stay []Recipient, err error) {
	q.mu.Lock()
	idle := q.decider == nil
	q.mu.Unlock()
	if !idle {
		return q.decide(ctx, id, clear, false)
	}
	if err := q.dueNow(ctx, `id = ? AND state = 'held'`, id); err != nil {
		return nil, err
	}
	return nil, ErrNotServing
}

func again(r *Recipient, body bool) {
	if body {
		r.State = Waiting
	} else {
		r.State = "" // left out of what was delivered
	}
}

// change sets the recipients of an entry that are in one of the states, and returns
// the entry as it is then.
func (q *Queue) change(ctx context.Context, id string, set func(r *Recipient, body bool), states ...State) (Entry, error) {
	if ok, err := q.own(ctx, id); err != nil {
		return Entry{}, err
	} else if !ok {
		if _, err := q.row(ctx, id); err != nil {
			return Entry{}, err
		}
		return Entry{}, ErrWorking
	}
	defer q.disown(id)
	r, err := q.row(ctx, id)
	if err != nil {
		return Entry{}, err
	}
	e, found := r.Entry, false
	var left []Recipient
	for _, rc := range e.Recipients {
		for _, s := range states {
			if rc.State == s {
				set(&rc, r.body > 0)
				found = true
				break
			}
		}
		if rc.State != "" {
			left = append(left, rc)
		}
	}
	if !found {
		return Entry{}, stands(e)
	}
	e.Recipients, e.Next = left, q.c.Now()
	e.State = Overall(left)
	if e.State == Waiting && !e.Next.Before(e.Expires) {
		e.Expires = e.Next.Add(q.c.Lifetime) // a person wants it tried
	}
	q.c.Logger.Info("queue changed by hand", "entry", id, "account", e.Account, "was", r.State, "is", string(stands(e)))
	return e, q.Settle([]Change{{Entry: e, Forget: len(left) == 0}})
}

// Hurry has what waits for an account tried now, such as after its first login.
func (q *Queue) Hurry(ctx context.Context, account string) error {
	err := q.dueNow(ctx, `account = ? AND state = 'waiting' AND node = ''`, account)
	if errors.Is(err, ErrNoEntry) {
		return nil
	}
	q.mu.Lock()
	q.hurried = append(q.hurried, account)
	q.mu.Unlock()
	q.Wake()
	return err
}

// dueNow makes entries due; ErrNoEntry if there were none.
func (q *Queue) dueNow(ctx context.Context, where string, arg any) error {
	var n int64
	err := q.update(ctx, func(tx store.Tx) (err error) {
		n, err = tx.Exec(`UPDATE queue_item SET due = ? WHERE `+where, q.c.Now().UnixMicro(), arg)
		return err
	})
	if err == nil && n == 0 {
		err = ErrNoEntry
	}
	return err
}

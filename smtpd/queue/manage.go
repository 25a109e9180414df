package queue

import "context"

// List returns every entry that still concerns somebody: all but Sent ones.
func (q *Queue) List(ctx context.Context) ([]Entry, error) {
	return q.entries(ctx, `WHERE state <> 'sent' ORDER BY touched`)
}

// Drop gives up what waits, is held or is unknown: nothing more is sent, nobody
// is told, and the client's repetition of it counts as delivered.
func (q *Queue) Drop(ctx context.Context, id string) error {
	return q.change(ctx, id, func(r *Recipient, _ bool) { r.State = Sent; r.Text = "dropped by hand" }, Waiting, Held, Unknown)
}

// Retry sends what waits now, and what is Unknown again, knowing that it may
// arrive twice. An unknown entry without body can only be sent by the client:
// its repetition is then accepted.
func (q *Queue) Retry(ctx context.Context, id string) error {
	return q.change(ctx, id, again, Waiting, Unknown)
}

// Release lets go what is held.
func (q *Queue) Release(ctx context.Context, id string) error {
	return q.change(ctx, id, again, Held)
}

func again(r *Recipient, body bool) {
	if body {
		r.State = Waiting
	} else {
		r.State = "" // left out of what was delivered
	}
}

// change sets the recipients of an entry that are in one of the states.
func (q *Queue) change(ctx context.Context, id string, set func(r *Recipient, body bool), states ...State) error {
	if !q.take(id) {
		return ErrNoEntry
	}
	defer q.leave(id)
	es, err := q.entries(ctx, `WHERE id = ?`, id)
	if err != nil {
		return err
	}
	if len(es) == 0 {
		return ErrNoEntry
	}
	bodies, err := q.entries(ctx, `WHERE id = ? AND body > 0`, id)
	if err != nil {
		return err
	}
	e, found := es[0], false
	var left []Recipient
	for _, r := range e.Recipients {
		for _, s := range states {
			if r.State == s || e.State == Held && s == Held {
				set(&r, len(bodies) > 0)
				found = true
				break
			}
		}
		if r.State != "" {
			left = append(left, r)
		}
	}
	if !found {
		return ErrNoEntry
	}
	e.Recipients, e.Next = left, q.c.Now()
	e.State = Overall(left)
	return q.Settle(ctx, []Change{{Entry: e, Forget: len(left) == 0}})
}

// Hurry has what waits for an account tried now, such as after its first login.
func (q *Queue) Hurry(ctx context.Context, account string) error {
	es, err := q.entries(ctx, `WHERE account = ? AND state = 'waiting'`, account)
	if err != nil {
		return err
	}
	for _, e := range es {
		if !q.take(e.ID) {
			continue
		}
		err := q.due(ctx, e.ID)
		q.leave(e.ID)
		if err != nil {
			return err
		}
	}
	return nil
}

// due makes an entry that waits due; the caller has taken it.
func (q *Queue) due(ctx context.Context, id string) error {
	es, err := q.entries(ctx, `WHERE id = ? AND state = 'waiting'`, id)
	if err != nil || len(es) == 0 {
		return err
	}
	es[0].Next = q.c.Now()
	return q.Settle(ctx, []Change{{Entry: es[0]}})
}

package queue

import (
	"context"
	"errors"
	"time"

	"letterlock.org/letterlock/audit"
	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/internal/store"
)

// Decider decides again about what is held.
type Decider interface {
	// Decide runs the rules again for the recipients of e, a Held entry, whose
	// body is the message as it was submitted. Nothing of it may go in clear
	// unless clear is set, by a person, and the rules let it. It is called
	// concurrently. An error leaves all held.
	Decide(ctx context.Context, e Entry, body message.Source, clear bool) (Verdict, error)
}

// Verdict is what was decided about a held message.
type Verdict struct {
	// Go are Waiting entries, with bodies, for the recipients who get theirs now.
	Go []Change
	// Stay are the others, with the reason in Text.
	Stay []Recipient
	// Close frees the bodies; nil if there is nothing to free.
	Close func()
}

// ErrNotServing means that nothing decides about held mail in this process: it
// is looked at as soon as serve runs.
var ErrNotServing = errors.New("held mail is decided by serve, which does not run")

// redecide looks at what is held and due, and says when the next is.
func (q *Queue) redecide(ctx context.Context, slots chan struct{}) (next time.Time, err error) {
	q.mu.Lock()
	idle := q.decider == nil
	q.mu.Unlock()
	if idle {
		return next, nil
	}
	now := q.c.Now()
	if err := q.bringNear(ctx, `state = 'held'`); err != nil {
		return next, err
	}
	ids, err := q.ids(ctx, `SELECT id FROM queue_item WHERE state = 'held' AND node = '' AND due <= ? ORDER BY due LIMIT 50`, now.UnixMicro())
	if err != nil {
		return next, err
	}
	for _, id := range ids {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return next, ctx.Err()
		}
		go func() {
			defer func() { <-slots; q.Wake() }()
			if _, err := q.decide(ctx, id, false, true); err != nil && ctx.Err() == nil && !errors.Is(err, ErrWorking) && !errors.Is(err, ErrNoEntry) {
				q.c.Logger.Error("held mail not decided", "entry", id, "err", err)
			}
		}()
	}
	if len(ids) > 0 {
		return now.Add(time.Second), nil
	}
	var due int64
	err = q.c.Store.View(ctx, func(tx store.Tx) error {
		return tx.Row(`SELECT due FROM queue_item WHERE state = 'held' AND node = '' AND due > ? ORDER BY due LIMIT 1`, []any{now.UnixMicro()}, &due)
	})
	if errors.Is(err, store.ErrNoRow) {
		return next, nil
	}
	return time.UnixMicro(due), err
}

// decide decides about one held entry now and returns who stays; where onlyDue is
// set, not if it isn't due any more, since somebody else did it.
func (q *Queue) decide(ctx context.Context, id string, clear, onlyDue bool) (stay []Recipient, err error) {
	q.mu.Lock()
	d := q.decider
	q.mu.Unlock()
	if ok, err := q.own(ctx, id); err != nil {
		return nil, err
	} else if !ok {
		return nil, ErrWorking
	}
	defer q.disown(id)
	r, err := q.row(ctx, id)
	if err != nil {
		return nil, err
	}
	if r.State != Held {
		return nil, stands(r.Entry)
	}
	if onlyDue && r.Next.After(q.c.Now()) {
		return r.Recipients, nil
	}
	body := message.NewSpool(message.SpoolOptions{Limit: r.Size + 1})
	defer body.Close()
	if err := q.body(ctx, id, r.Size, body); err != nil {
		return nil, err
	}
	v, err := q.verdict(ctx, d, r.Entry, body, clear)
	if v.Close != nil {
		defer v.Close()
	}
	e := r.Entry
	e.Attempts++
	e.Next = q.c.Now().Add(jitter(q.c.Recheck))
	changes := append(v.Go, Change{Entry: e, due: r.Next, Known: true})
	held := &changes[len(changes)-1]
	switch {
	case err != nil:
		if ctx.Err() != nil {
			return nil, err
		}
		changes = []Change{{Entry: e, due: r.Next, Known: true}}
		held = &changes[0]
		held.Entry.LastError = err.Error()
		v.Go, v.Stay = nil, e.Recipients
	case len(v.Stay) == 0:
		held.Forget = true
	default:
		held.Entry.Recipients, held.Entry.LastError = v.Stay, v.Stay[0].Text
	}
	if serr := q.Settle(changes); serr != nil {
		return nil, serr
	}
	for _, c := range v.Go {
		q.c.Audit.Append(records(c.Entry, c.Entry, audit.Queued)...)
	}
	q.c.Logger.Info("held mail", "entry", id, "account", e.Account, "released", len(e.Recipients)-len(v.Stay), "held", len(v.Stay), "reason", held.Entry.LastError)
	return v.Stay, err
}

// Learned has what is held for an address decided again at once: a certificate
// of it has become known.
func (q *Queue) Learned(ctx context.Context, address string) error {
	// Most certificates are nobody's who is waited for.
	ids, err := q.ids(ctx, `SELECT id FROM queue_waits WHERE address = ?`, address)
	if err != nil || len(ids) == 0 {
		return err
	}
	now := q.c.Now().UnixMicro()
	err = q.update(ctx, func(tx store.Tx) error {
		for _, id := range ids {
			if _, err := tx.Exec(`UPDATE queue_item SET due = ? WHERE id = ? AND state = 'held'`, now, id); err != nil {
				return err
			}
		}
		return nil
	})
	q.Wake()
	return err
}

// dueAgain is when an entry that stays held is due: at once, if that was asked for
// while it was being decided about by what was known before.
func (q *Queue) dueAgain(tx store.Tx, c Change, due int64) (int64, error) {
	if c.due.IsZero() {
		return due, nil
	}
	var now int64
	err := tx.Row(`SELECT due FROM queue_item WHERE id = ?`, []any{c.Entry.ID}, &now)
	if errors.Is(err, store.ErrNoRow) {
		return due, nil
	}
	if err == nil && now != c.due.UnixMicro() {
		return now, nil
	}
	return due, err
}

// putWaits keeps note of whose certificates a held entry waits for.
func (q *Queue) putWaits(tx store.Tx, c Change) error {
	if c.Entry.State != Held && len(c.Entry.Hold) == 0 {
		return nil
	}
	if _, err := tx.Exec(`DELETE FROM queue_waits WHERE id = ?`, c.Entry.ID); err != nil {
		return err
	}
	if c.Forget || c.Entry.State != Held {
		return nil
	}
	for _, r := range c.Entry.Recipients {
		if r.State != Held {
			continue
		}
		if _, err := tx.Exec(`INSERT INTO queue_waits (address, id) VALUES (?, ?) ON CONFLICT (address, id) DO NOTHING`, r.Key, c.Entry.ID); err != nil {
			return err
		}
	}
	return nil
}

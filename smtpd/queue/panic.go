package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"letterlock.org/letterlock/audit"
	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/internal/mishap"
)

// A panic in what decides about one message or sends it is an error of that message:
// otherwise it would end everybody's sessions, and again after every start.

// verdict is d.Decide.
func (q *Queue) verdict(ctx context.Context, d Decider, e Entry, body message.Source, clear bool) (v Verdict, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = q.panicked(e, p)
		}
	}()
	return d.Decide(ctx, e, body, clear)
}

// errBegun means that nothing was sent, and that the journal may say it is on its way.
var errBegun = errors.New("given up before the final dot")

// give is s.Send, with an attempt that is in the journal before its final dot. Where
// that may have been sent when it panicked, nobody knows what became of it.
func (q *Queue) give(ctx context.Context, s Sender, e Entry, body message.Source) (rs []Recipient, err error) {
	var out []string
	begun := false
	defer func() {
		if p := recover(); p != nil {
			if err = q.panicked(e, p); out != nil {
				rs, err = unknown(e.Recipients, out), nil
			}
		}
	}()
	rs, err = s.Send(ctx, e, body, func(ctx context.Context, keys []string) error {
		going := sending(e, keys)
		if err := q.c.Audit.Before(ctx, records(e, going, audit.Sending)...); err != nil {
			return err
		}
		begun = true
		err := q.Settle([]Change{{Entry: going, Known: true}})
		if err == nil {
			out = keys
		}
		return err
	})
	if err != nil && begun {
		err = fmt.Errorf("%w: %w", errBegun, err)
	}
	return rs, err
}

func (q *Queue) panicked(e Entry, p any) error {
	err := errors.New(mishap.Text(p))
	q.c.Logger.Error("queue entry", "entry", e.ID, "err", err)
	return err
}

// unknown is rs with those Unknown who waited and have one of the keys.
func unknown(rs []Recipient, keys []string) []Recipient {
	rs = slices.Clone(rs)
	for i := range rs {
		if r := &rs[i]; r.State == Waiting && slices.Contains(keys, r.Key) {
			r.State, r.Code, r.Status, r.Text = Unknown, 451, "4.4.2", "letterlock failed while the mail server was answering"
		}
	}
	return rs
}

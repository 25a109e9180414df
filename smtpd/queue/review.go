package queue

import (
	"context"
	"errors"
	"fmt"

	"letterlock.org/letterlock/audit"
	"letterlock.org/letterlock/internal/message"
)

// Reviewer is a [Sender] that is asked, before each attempt at a copy which anybody
// can read, whether that may still go: while it waited the rules may have become
// stricter, or a certificate may have come.
type Reviewer interface {
	// Review asks the rules as they are now about those recipients of e, a Clear
	// entry, who are Waiting; body is what would be sent. It is called concurrently.
	// After an error nothing of e goes now.
	Review(ctx context.Context, e Entry, body message.Source) (Review, error)
}

// Review is what the rules say now of a copy that anybody can read. The zero value
// lets all of it go.
type Review struct {
	// Go are entries, with bodies, in the place of those who don't get this copy any
	// more: Waiting ones, of which nobody else can read anything, and Held ones.
	Go []Change
	// Refused are those who get nothing; each has the answer.
	Refused []Recipient
	// Later: nothing goes until the next attempt. Those Waiting have the reason.
	Later []Recipient
	// Close frees the bodies; nil if there is nothing to free.
	Close func()
}

// errReviewed means that there was no attempt, since not all who waited still do.
var errReviewed = errors.New("the rules have changed what is sent")

// errUnwritten means the same, and that the journal could not be told: nothing is to
// be written of what was known before, for it may have been told nevertheless.
var errUnwritten = errors.New("journal not written")

// review has the rules asked about an entry that is about to be sent. It returns it
// with what was answered where it isn't sent now; errReviewed where it has settled
// what becomes of it.
func (q *Queue) review(ctx context.Context, s Sender, e Entry, body message.Source) (_ Entry, later bool, err error) {
	reviewer, ok := s.(Reviewer)
	if !ok || !e.Clear || e.Report {
		return e, false, nil
	}
	v, err := q.reviewed(ctx, reviewer, e, body)
	if v.Close != nil {
		defer v.Close()
	}
	switch {
	case err != nil:
		return e, false, fmt.Errorf("asking the rules again: %w", err)
	case len(v.Go)+len(v.Refused) > 0:
		return q.instead(e, v)
	case len(v.Later) > 0:
		e.Recipients = replaced(e.Recipients, v.Later)
		e.LastError = v.Later[0].Text
		return e, true, nil
	}
	return e, false, nil
}

// reviewed is r.Review.
func (q *Queue) reviewed(ctx context.Context, r Reviewer, e Entry, body message.Source) (v Review, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = q.panicked(e, p)
		}
	}()
	return r.Review(ctx, e, body)
}

// instead settles, in one sync, what the rules have in the place of a copy that
// doesn't go any more. Those who still get it have their attempt then.
func (q *Queue) instead(e Entry, v Review) (Entry, bool, error) {
	gone := map[string]bool{}
	for _, c := range v.Go {
		for _, r := range c.Entry.Recipients {
			if !c.Entry.Report {
				gone[r.Key] = true
			}
		}
	}
	before := e
	e.Recipients = nil
	for _, r := range replaced(before.Recipients, v.Refused) {
		if r.State != Waiting || !gone[r.Key] {
			e.Recipients = append(e.Recipients, r)
		}
	}
	e.State, e.Next = Overall(e.Recipients), q.c.Now()
	for _, r := range v.Refused {
		e.LastError = fmt.Sprintf("%d %s %s", r.Code, r.Status, r.Text)
	}
	changes := append(v.Go, Change{Entry: e, Known: true, Forget: len(e.Recipients) == 0})
	if err := q.Settle(changes); err != nil {
		return before, false, fmt.Errorf("%w: %w", errUnwritten, err)
	}
	sealed, held := 0, 0
	for _, c := range v.Go {
		outcome, n := audit.Queued, &sealed
		if c.Entry.State == Held {
			outcome, n = audit.Held, &held
		}
		if !c.Entry.Report {
			*n += len(c.Entry.Recipients)
		}
		q.c.Audit.Append(records(c.Entry, c.Entry, outcome)...)
	}
	q.record(before, e)
	q.c.Count("queue-reviewed")
	q.c.Logger.Info("queued mail not sent in clear", "entry", e.ID, "account", e.Account, "sealed", sealed, "held", held, "refused", len(v.Refused))
	return e, false, errReviewed
}

// replaced is rs with those of by in the place of the recipients who have their keys.
func replaced(rs, by []Recipient) []Recipient {
	rs = append([]Recipient(nil), rs...)
	for i := range rs {
		for _, r := range by {
			if r.Key == rs[i].Key && rs[i].State == Waiting {
				rs[i] = r
			}
		}
	}
	return rs
}

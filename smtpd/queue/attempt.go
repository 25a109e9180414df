package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"letterlock.org/letterlock/audit"
	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/internal/meter"
)

// attempt sends one entry once and settles what became of it. One whose time is over
// has its last attempt. The caller owns the entry. err is the sender's, and nothing
// was sent then.
func (q *Queue) attempt(ctx context.Context, s Sender, id string) (settled bool, err error) {
	// It may have been dropped or sent since it was listed.
	r, rerr := q.row(ctx, id)
	start := q.c.Now()
	if rerr != nil || r.State != Waiting || r.Next.After(start) {
		return true, nil
	}
	e, err := q.send(ctx, s, r)
	ending := ctx.Err() != nil && err != nil
	if ending && !errors.Is(err, errBegun) {
		return false, err // it is as it was
	}
	if errors.Is(err, errReviewed) {
		return e.State != Waiting, nil
	}
	if errors.Is(err, ErrLost) {
		q.c.Logger.Warn("queue attempt given up", "entry", e.ID, "err", err)
		return true, nil
	}
	if errors.Is(err, errUnwritten) {
		return false, fmt.Errorf("%w: %w", ErrUpstream, err)
	}
	e.Attempts++
	if e.Last || !start.Before(e.Expires) {
		e.Recipients = expire(e.Recipients, Waiting)
	}
	e.Recipients = reportAgain(e)
	e.State = Overall(e.Recipients)
	if e.State == Waiting {
		e.Next = q.c.Now().Add(Backoff(e.Attempts))
	}
	if serr := q.persist(ctx, Change{Entry: e, Known: true, IfOpen: ending}); serr != nil { // another node may have told of it
		q.c.Logger.Error("journal not written", "entry", e.ID, "err", serr)
	}
	q.record(r.Entry, e)
	q.c.Count("queue-" + string(e.State))
	q.c.Meter.Count(meter.QueueAttempts, string(e.State))
	q.c.Logger.Info("queue attempt", "entry", e.ID, "account", e.Account, "outcome", e.State,
		"attempts", e.Attempts, "reason", e.LastError, "took", q.c.Now().Sub(start))
	return e.State != Waiting, err
}

// reportTries is how often a report goes whose answer was lost.
const reportTries = 3

// reportAgain has a report of ours wait again where nobody knows whether it
// arrived: it is all that the sender hears of a message that has not, so that
// two of it are better than none.
func reportAgain(e Entry) []Recipient {
	if !e.Report || e.Attempts >= reportTries {
		return e.Recipients
	}
	rs := slices.Clone(e.Recipients)
	for i := range rs {
		if rs[i].State == Unknown {
			rs[i].State = Waiting
		}
	}
	return rs
}

// persist settles what is known of a final dot: a store that fails for a while
// must not make it Unknown, nor leave it on its way for as long as this node lives.
func (q *Queue) persist(ctx context.Context, c Change) (err error) {
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 10*time.Second) {
		if err = q.Settle([]Change{c}); err == nil || errors.Is(err, ErrLost) {
			return err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return err
		}
	}
}

// send gives the entry to the sender and takes over its answer.
func (q *Queue) send(ctx context.Context, s Sender, r row) (Entry, error) {
	e := r.Entry
	body := message.NewSpool(message.SpoolOptions{Limit: e.Size + 1})
	defer body.Close()
	if err := q.body(ctx, e.ID, e.Size, body); err != nil {
		e.LastError = fmt.Sprintf("reading the queue: %v", err)
		e.Recipients = unasked(e.Recipients, err)
		return e, nil
	}
	e, later, err := q.review(ctx, s, e, body)
	if later || errors.Is(err, errReviewed) || errors.Is(err, errUnwritten) {
		return e, err
	}
	var rs []Recipient
	if err == nil {
		rs, err = q.give(ctx, s, e, body)
	}
	if err != nil {
		e.LastError = err.Error()
		e.Recipients = unasked(e.Recipients, err)
		return e, err
	}
	e.Recipients, e.LastError = rs, ""
	for _, r := range rs {
		if r.State != Sent {
			e.LastError = fmt.Sprintf("%d %s %s", r.Code, r.Status, r.Text)
		}
	}
	return e, nil
}

// unasked is rs where an attempt did not come to an answer about those who wait: what
// was answered earlier is not why they get nothing now. Reports have the text, and the
// chain of the error is for the log.
func unasked(rs []Recipient, err error) []Recipient {
	status, text := "4.3.0", "letterlock could not hand the message over"
	if errors.Is(err, ErrUpstream) {
		status, text = "4.4.1", "the mail server could not be reached, or lets nobody in"
	}
	rs = slices.Clone(rs)
	for i := range rs {
		if r := &rs[i]; r.State == Waiting {
			r.Code, r.Status, r.Text = 0, status, text
		}
	}
	return rs
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

// expire gives up the recipients in one state. RFC 3463, Section 3.5: X.4.7.
func expire(rs []Recipient, s State) []Recipient {
	rs = append([]Recipient(nil), rs...)
	for i := range rs {
		if rs[i].State == s {
			last := "delivery time expired: "
			switch {
			case s == Held:
				last = "held for too long: "
			case rs[i].Code != 0:
				last = "delivery time expired; last answer: "
			}
			rs[i].State = Failed
			rs[i].Code, rs[i].Status, rs[i].Text = 554, "5.4.7", last+rs[i].Text
		}
	}
	return rs
}

// record tells the audit log what has become of recipients.
func (q *Queue) record(before, after Entry) {
	for state, outcome := range map[State]audit.Outcome{Sent: audit.Sent, Failed: audit.Failed, Unknown: audit.Unknown} {
		changed := after
		changed.Recipients = nil
		for _, r := range after.Recipients {
			if r.State == state && stateOf(before, r.Key) != state {
				changed.Recipients = append(changed.Recipients, r)
			}
		}
		if rs := records(after, changed, outcome); len(rs) > 0 {
			q.c.Audit.Append(rs...)
		}
	}
}

func stateOf(e Entry, key string) State {
	for _, r := range e.Recipients {
		if r.Key == key {
			return r.State
		}
	}
	return ""
}

// records are the audit's records of those recipients of e that some has; for
// Sending only those that are.
func records(e, some Entry, outcome audit.Outcome) (rs []audit.Record) {
	if e.Report {
		return nil
	}
	for _, r := range some.Recipients {
		if outcome == audit.Sending && r.State != Sending {
			continue
		}
		record := audit.Record{Account: e.Account, Sender: e.From, Recipient: r.Address, Message: e.MessageID, Entry: e.ID,
			Outcome: outcome, Code: r.Code, Status: r.Status}
		if r.Decided != nil {
			record.Decided = *r.Decided
		}
		rs = append(rs, record)
	}
	return rs
}

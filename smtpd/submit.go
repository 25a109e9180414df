package smtpd

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/smtpd/queue"
)

// Send implements queue.Sender: one attempt at an entry that waits.
func (s *Server) Send(ctx context.Context, e queue.Entry, body message.Source, attempt queue.Attempt) ([]queue.Recipient, error) {
	term := s.c.Queue.Term()
	a, err := s.account(ctx, e.Account)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", queue.ErrUpstream, err)
	}
	if e.Report && a.Notify != nil {
		return s.notify(ctx, a, e, body)
	}
	still := func() error { return s.c.Queue.Still(ctx, e, term) }
	for {
		rs, err := s.sendOver(ctx, a, e, body, attempt, still)
		if !errors.Is(err, errFull) {
			return rs, err
		}
	}
}

// sendOver is Send over one connection.
func (s *Server) sendOver(ctx context.Context, a *Account, e queue.Entry, body message.Source, attempt queue.Attempt, still func() error) ([]queue.Recipient, error) {
	c, err := s.fresh(ctx, a)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", queue.ErrUpstream, err)
	}
	whole := false
	defer func() {
		if !whole { // after a panic too
			c.close()
		}
	}()
	rs, err := sendEntry(ctx, c, e, body, attempt, still)
	if err != nil {
		return rs, err
	}
	whole = true
	s.pool.put(a.Upstream, c)
	if e.Clear {
		s.sentClear(ctx, a, e, rs, body)
	}
	return rs, nil
}

// sentClear notes that a copy went in clear which had waited.
func (s *Server) sentClear(ctx context.Context, a *Account, e queue.Entry, rs []queue.Recipient, body message.Source) {
	was := map[string]queue.State{}
	for _, r := range e.Recipients {
		was[r.Key] = r.State
	}
	gone := func(r queue.Recipient) bool {
		return was[r.Key] == queue.Waiting && (r.State == queue.Sent || r.State == queue.Unknown)
	}
	if _, ok := a.Opened.(ClearRecord); !ok || !slices.ContainsFunc(rs, gone) {
		return
	}
	if root, err := message.Parse(body, message.Limits{}); err == nil {
		a.toldClear(ctx, root.Header, s.c.Logger)
	}
}

// fresh is a connection that is known to be alive.
func (s *Server) fresh(ctx context.Context, a *Account) (*client, error) {
	for {
		c, err := s.upstream(ctx, a)
		if err != nil || !c.reused {
			return c, err
		}
		if r, err := c.ask("NOOP", c.t.Command); err == nil && r.ok() {
			return c, nil
		}
		c.close()
	}
}

// notify puts a report into the sender's own mailbox.
func (s *Server) notify(ctx context.Context, a *Account, e queue.Entry, body message.Source) ([]queue.Recipient, error) {
	to, err := address.Parse(e.From)
	if err != nil {
		return nil, err
	}
	text, err := message.ReadAll(body, 1<<20)
	if err != nil {
		return nil, err
	}
	if err := a.Notify(ctx, to, text); err != nil {
		return nil, fmt.Errorf("delivering a report: %w", err)
	}
	rs := slices.Clone(e.Recipients)
	for i := range rs {
		rs[i].State = queue.Sent
	}
	return rs, nil
}

// sendEntry runs one transaction. Recipients may part here: each has its own
// answer, and the body goes to those that the upstream took. still tells, right
// before the final dot, whether the entry is ours.
func sendEntry(ctx context.Context, c *client, e queue.Entry, body message.Source, attempt queue.Attempt, still func() error) ([]queue.Recipient, error) {
	mail, err := c.mailLine(e.From, mailParams{EightBit: e.EightBit, UTF8: e.UTF8, Ret: e.Ret, Envid: e.Envid, Size: body.Size()})
	if err != nil {
		return nil, err
	}
	rs := slices.Clone(e.Recipients)
	var lines []string
	var asked []*queue.Recipient
	for i := range rs {
		if rs[i].State == queue.Waiting {
			lines = append(lines, rcptLine(rs[i].Address, rs[i].Notify, rs[i].Orcpt, c.caps))
			asked = append(asked, &rs[i])
		}
	}
	replies, err := c.begin(mail, lines)
	if err != nil {
		return nil, err
	}
	if replies[0].Code == 421 { // it says nothing of this message
		return nil, fmt.Errorf("%w: %w", queue.ErrUpstream, replies[0])
	}
	if !replies[0].ok() {
		mark(asked, replies[0])
		return rs, nil
	}
	var taken []*queue.Recipient
	var keys []string
	for i, r := range asked {
		if answer := replies[i+1]; answer.ok() {
			taken, keys = append(taken, r), append(keys, r.Key)
		} else {
			mark(asked[i:i+1], answer.atRcpt(len(taken)))
		}
	}
	if len(taken) == 0 {
		return rs, nil
	}
	if err := c.data(body); err != nil {
		var r reply
		if !errors.As(err, &r) {
			return nil, err
		}
		mark(taken, r)
		return rs, nil
	}
	if err := c.hold(); err != nil {
		return nil, err
	}
	if err := attempt(ctx, keys); err != nil {
		return nil, fmt.Errorf("writing the journal: %w", err)
	}
	failpoint("queue attempt")
	if err := still(); err != nil {
		return nil, fmt.Errorf("before the end of the message: %w", err)
	}
	if !c.quiet() {
		defer c.close()
		r, said := c.lastWords()
		if !said {
			r = reply{Code: 451, Status: "4.4.2", Text: "the mail server ended the transaction"}
		}
		mark(taken, r)
		return rs, nil
	}
	r, err := c.final()
	failpoint("queue attempted")
	if err != nil {
		for _, t := range taken {
			t.State, t.Code, t.Status, t.Text = queue.Unknown, 451, "4.4.2", "no answer to the end of the message"
		}
		return rs, nil
	}
	mark(taken, r)
	return rs, nil
}

// mark notes an answer about recipients.
func mark(rs []*queue.Recipient, r reply) {
	for _, rc := range rs {
		rc.Code, rc.Status, rc.Text = r.Code, r.Status, r.Text
		switch {
		case r.ok():
			rc.State = queue.Sent
		case r.Code/100 == 5:
			rc.State = queue.Failed
		}
	}
}

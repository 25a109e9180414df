package smtpd

import (
	"context"
	"errors"
	"fmt"

	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/policy"
	"letterlock.org/letterlock/smtpd/queue"
)

// maxOpen is how many upstream transactions are held open at one time.
const maxOpen = 3

// failpoint is called at the steps between which a crash must lose nothing.
var failpoint = func(step string) {}

// delivery takes the groups of one message to the upstream.
//
// All transactions get their bodies first, without the final dot; the journal is
// synced; then they are committed one by one. A failure before the first commit
// aborts everything and is the client's answer. After it nothing may be refused
// anymore, as the client would send to everyone again: what failed for a while
// goes to the queue, what failed for good is reported.
type delivery struct {
	s       *session
	sub     submission
	groups  []*group
	open    []*flight // held open, in the order of groups
	later   []*flight // for the queue
	unknown []string  // recipients of whom nobody knows
	sent    int       // recipients
}

// flight is a group on its way.
type flight struct {
	g     *group
	c     *client // its transaction, open; nil for the queue
	entry queue.Entry
}

func (d *delivery) run(ctx context.Context) error {
	q := d.s.server.c.Queue
	if len(d.groups) > 1 {
		var total int64
		for _, g := range d.groups {
			total += g.body.Size()
		}
		release, err := q.Reserve(total)
		if err != nil {
			return d.s.fault("making room in the queue", err)
		}
		defer release()
	}
	defer d.finish()
	if len(d.groups) == 1 {
		return d.single(ctx)
	}
	for i, g := range d.groups {
		if err := d.start(ctx, i, g); err != nil {
			d.abort()
			return d.s.fault("handing the message to the mail server", err)
		}
	}
	failpoint("opened")
	if err := q.Begin(ctx, d.changes()); err != nil {
		d.abort()
		return d.s.fault("writing the journal", err)
	}
	failpoint("journalled")
	return d.commit(ctx)
}

// single is the usual case: its journal is written while the body is on its way.
func (d *delivery) single(ctx context.Context) error {
	g := d.groups[0]
	f := &flight{g: g, entry: d.entry(g, queue.Sending)}
	d.open = []*flight{f}
	begun := make(chan error, 1)
	go func() { begun <- d.s.server.c.Queue.Begin(ctx, d.changes()) }()
	c, err := d.s.open(ctx, g, true)
	jerr := <-begun
	f.c = c
	if err != nil || jerr != nil {
		d.abort()
		if jerr == nil {
			d.forget()
			return d.s.fault("handing the message to the mail server", err)
		}
		return d.s.fault("writing the journal", jerr)
	}
	failpoint("journalled")
	return d.commit(ctx)
}

// start opens the transaction of a group, or leaves it to the queue: beyond
// maxOpen, and where the upstream takes no further connection from us.
func (d *delivery) start(ctx context.Context, i int, g *group) error {
	if i < maxOpen {
		c, err := d.s.open(ctx, g, i == 0)
		if err == nil {
			d.open = append(d.open, &flight{g: g, c: c, entry: d.entry(g, queue.Sending)})
			if err = c.hold(); err == nil {
				return nil
			}
		}
		if !errors.Is(err, errNoConnection) || i == 0 {
			return err
		}
	}
	d.later = append(d.later, &flight{g: g, entry: d.entry(g, queue.Prepared)})
	return nil
}

// entry is the journal's row for a group.
func (d *delivery) entry(g *group, state queue.State) queue.Entry {
	s, now := d.s, d.s.server.c.Now()
	e := queue.Entry{
		ID: queue.NewID(), Account: s.account.key(), Submission: d.sub.key, From: s.envelopeFrom(), MessageID: d.sub.messageID,
		Clear: clearCopy(g.action), EightBit: g.eight, UTF8: s.env.opts.UTF8, Ret: string(s.env.opts.Return), Envid: s.env.opts.EnvelopeID,
		State: state, Created: now, Next: now, Expires: now.Add(s.server.c.Queue.Lifetime()), Size: g.body.Size(),
	}
	rs := queue.Waiting
	if state == queue.Sending {
		rs = queue.Sending
	}
	for _, r := range g.rcpts {
		e.Recipients = append(e.Recipients, queue.Recipient{Address: r.address.String(), Key: r.address.Key(), Notify: r.notify, Orcpt: r.orcpt, State: rs})
	}
	return e
}

// changes are the journal's rows as they stand, with bodies where the queue
// will need them.
func (d *delivery) changes() (cs []queue.Change) {
	for _, f := range d.open {
		var body message.Source
		if f.entry.State == queue.Waiting {
			body = f.g.body
		}
		cs = append(cs, queue.Change{Entry: f.entry, Body: body, Bare: true})
	}
	for _, f := range d.later {
		cs = append(cs, queue.Change{Entry: f.entry, Body: f.g.body})
	}
	return cs
}

// commit sends the final dots and settles what came of them.
func (d *delivery) commit(ctx context.Context) error {
	for i, f := range d.open {
		failpoint(fmt.Sprintf("commit %d", i))
		r, err := d.final(f)
		failpoint(fmt.Sprintf("committed %d", i))
		switch {
		case err != nil:
			f.set(queue.Unknown, reply{Code: 451, Status: "4.4.2", Text: "no answer to the end of the message"})
			d.s.log.Warn("submission", "outcome", "unknown", "err", err)
			for _, rc := range f.g.rcpts {
				d.unknown = append(d.unknown, rc.address.String())
			}
		case r.ok():
			f.set(queue.Sent, r)
			d.sent += len(f.g.rcpts)
		case r.temporary():
			f.set(queue.Waiting, r)
		default:
			f.set(queue.Failed, r)
		}
		if d.sent == 0 { // the first commit: it decides for all
			return d.failed(ctx, r, err)
		}
	}
	for _, f := range d.later {
		f.entry.State = queue.Waiting
	}
	return d.done(ctx)
}

// final commits one transaction. An upstream that has already hung up while the
// transaction was open can't have taken the message.
func (d *delivery) final(f *flight) (reply, error) {
	var err error
	if len(d.open) > 1 { // of one group, the end of the body and the dot are one write
		err = f.c.hold()
	}
	if err != nil || !f.c.quiet() {
		f.c.close()
		return reply{Code: 451, Status: "4.4.2", Text: "the mail server ended the transaction"}, nil
	}
	return f.c.final()
}

// failed answers where the first commit failed: nobody got anything, or nobody
// knows whether the first group did.
func (d *delivery) failed(ctx context.Context, r reply, err error) error {
	first := d.open[0]
	d.abort()
	if err == nil {
		d.forget()
		d.s.log.Info("submission", "outcome", "refused", "reason", "upstream: "+r.Error())
		d.s.server.c.Count("upstream-refused")
		return upstreamReply(r)
	}
	changes := []queue.Change{{Entry: first.entry}}
	for _, f := range append(d.open[1:], d.later...) {
		changes = append(changes, queue.Change{Entry: f.entry, Forget: true})
	}
	if err := d.s.server.c.Queue.Settle(ctx, changes); err != nil {
		d.s.log.Error("journal not written", "err", err)
	}
	d.s.server.c.Count("unknown")
	return ambiguous(d.unknown)
}

// forget takes the rows out of the journal again: nothing was sent.
func (d *delivery) forget() {
	cs := d.changes()
	for i := range cs {
		cs[i].Forget, cs[i].Body = true, nil
	}
	if err := d.s.server.c.Queue.Settle(context.WithoutCancel(d.s.ctx), cs); err != nil {
		d.s.log.Error("journal not written", "err", err)
	}
}

// done settles the journal after the last commit and answers.
func (d *delivery) done(ctx context.Context) error {
	q := d.s.server.c.Queue
	waiting, failed := 0, 0
	for _, f := range append(d.open[:len(d.open):len(d.open)], d.later...) {
		switch f.entry.State {
		case queue.Waiting:
			waiting += len(f.g.rcpts)
		case queue.Failed:
			failed += len(f.g.rcpts)
		}
	}
	if waiting+failed+len(d.unknown) == 0 && len(d.groups) == 1 {
		q.SettleLater(d.changes())
	} else if err := q.Settle(ctx, d.changes()); err != nil {
		// The journal knows who has it, or that we don't: a repetition goes to
		// the others only.
		d.s.log.Error("journal not written", "err", err)
		return temporary("4.3.0", "only some recipients got the message and the others could not be kept in the queue; send it again unchanged, it goes to nobody twice")
	}
	failpoint("settled")
	d.log(waiting, failed)
	if len(d.unknown) > 0 {
		return ambiguous(d.unknown)
	}
	if waiting+failed > 0 {
		return answer(250, "2.0.0", fmt.Sprintf("sent to %d recipients; %d wait in the queue, %d were refused and are reported by mail", d.sent, waiting, failed))
	}
	return answer(250, "2.0.0", "sent")
}

// log states the transaction's outcome on one line, without content.
func (d *delivery) log(waiting, failed int) {
	outcome := "sent"
	switch {
	case len(d.unknown) > 0:
		outcome = "unknown"
	case waiting > 0:
		outcome = "queued"
	case failed > 0:
		outcome = "partly-refused"
	}
	actions := map[policy.Action]int{}
	for _, g := range d.groups {
		actions[g.action] += len(g.rcpts)
	}
	s := d.s
	s.server.c.Count(outcome)
	s.log.Info("submission", "outcome", outcome, "recipients", d.sent, "waiting", waiting, "failed", failed, "unknown", len(d.unknown),
		"groups", len(d.groups), "actions", fmt.Sprint(actions), "size", d.sub.src.Size(), "took", s.server.c.Now().Sub(s.env.started))
}

// set gives all recipients of a flight one state.
func (f *flight) set(state queue.State, r reply) {
	f.entry.State = state
	f.entry.LastError = ""
	if state != queue.Sent {
		f.entry.LastError = r.Error()
	}
	f.entry.Recipients = append([]queue.Recipient(nil), f.entry.Recipients...)
	for i := range f.entry.Recipients {
		rc := &f.entry.Recipients[i]
		rc.State, rc.Code, rc.Status, rc.Text = state, r.Code, r.Status, r.Text
	}
	f.entry.Attempts = 1
	if state == queue.Waiting {
		f.entry.Next = f.entry.Created.Add(queue.Backoff(1))
	}
}

// abort makes every open transaction void by closing its connection.
func (d *delivery) abort() {
	for _, f := range d.open {
		if f.c != nil {
			f.c.close()
		}
	}
}

// finish gives connections back.
func (d *delivery) finish() {
	s := d.s
	s.env.probe = nil
	for _, f := range d.open {
		if f.c != nil && f.c != s.up {
			s.server.pool.put(s.account.Upstream, f.c)
		}
	}
	if s.up != nil && s.up.broken {
		s.up.close()
		s.up = nil
	}
}

package smtpd

import (
	"context"
	"errors"
	"sync/atomic"

	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/policy"
	"letterlock.org/letterlock/smtpd/queue"
)

// maxOpen is how many upstream transactions are held open at one time.
const maxOpen = 3

// failpoints is called at the steps between which a crash must lose nothing; only
// tests set it.
var failpoints atomic.Pointer[func(step string)]

func failpoint(step string) {
	if f := failpoints.Load(); f != nil {
		(*f)(step)
	}
}

// delivery takes the groups of one message to the upstream.
//
// All transactions get their bodies first, without the final dot; the journal is
// synced; then they are committed one by one. A failure before the first commit
// aborts everything and is the client's answer. After it nothing may be refused
// anymore, as the client would send to everyone again: what failed for a while
// goes to the queue, what failed for good is reported.
//
// What is held, and what the sender is told beside, shares the fate of the
// groups: it is in the journal before the first commit, and counts after it.
type delivery struct {
	s       *session
	sub     submission
	groups  []*group         // to be sent
	open    []*flight        // held open, in the order of groups
	begun   *queue.Beginning // of the only one; nil where there are more
	later   []*flight        // for the queue
	unknown []string         // recipients of whom nobody knows
	sent    int              // recipients
	term    queue.Term
}

// flight is a group on its way.
type flight struct {
	g      *group
	c      *client // its transaction, open; nil for the queue
	entry  queue.Entry
	body   message.Source // what the queue needs of it
	dotted bool           // its final dot may have been sent
	told   bool           // the audit log knows what became of it
	// after is what becomes of one of the queue as soon as another is committed.
	after queue.State
	about *group // whose notice it is; nil for what isn't one
}

func (s *session) newDelivery(sub submission, groups []*group, unknown []string) *delivery {
	d := &delivery{s: s, sub: sub, unknown: unknown, term: s.server.c.Queue.Term()}
	for _, g := range groups {
		if g.action == policy.Hold {
			d.later = append(d.later, &flight{g: g, body: g.body, entry: s.heldEntry(sub, g), after: queue.Held})
			continue
		}
		d.groups = append(d.groups, g)
		if g.notice != nil {
			d.later = append(d.later, &flight{g: &group{}, body: g.notice, entry: s.noticeEntry(g), after: queue.Waiting, about: g})
		}
	}
	return d
}

func (d *delivery) run(ctx context.Context) error {
	q := d.s.server.c.Queue
	var total int64
	if len(d.groups)+len(d.later) > 1 {
		for _, g := range d.groups {
			total += g.body.Size()
		}
	}
	for _, f := range d.later {
		total += f.body.Size()
	}
	release, err := q.Reserve(total)
	if err != nil {
		return d.s.fault("making room in the queue", err)
	}
	defer release()
	if len(d.groups) == 0 {
		return d.hold(ctx)
	}
	defer d.finish()
	defer d.rescue()
	if len(d.groups) == 1 && len(d.later) == 0 {
		return d.single(ctx)
	}
	for i, g := range d.groups {
		if err := d.start(ctx, i, g); err != nil {
			d.abort()
			return d.s.fault("handing the message to the mail server", err)
		}
	}
	failpoint("opened")
	d.relate()
	d.s.came()
	if err := q.Begin(d.changes()); err != nil {
		d.abort()
		return d.s.fault("writing the journal", err)
	}
	failpoint("journalled")
	return d.commit(ctx)
}

// single is the usual case: its journal is written while the body is on its way.
func (d *delivery) single(ctx context.Context) error {
	g := d.groups[0]
	f := &flight{g: g}
	d.open = []*flight{f}
	d.begun = d.begin(ctx, f)
	d.s.came()
	d.begun.Hurry()
	c, err := d.s.open(ctx, g, true)
	jerr := d.begun.Wait()
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
			d.open = append(d.open, &flight{g: g, c: c, body: g.body, entry: d.s.entry(d.sub, g, queue.Sending)})
			if err = c.hold(); err == nil {
				return nil
			}
		}
		if !errors.Is(err, errNoConnection) || i == 0 {
			return err
		}
	}
	d.later = append(d.later, &flight{g: g, body: g.body, entry: d.s.entry(d.sub, g, queue.Prepared), after: queue.Waiting})
	return nil
}

// relate has each notice name the entry whose password it tells.
func (d *delivery) relate() {
	for _, n := range d.later {
		for _, f := range append(d.open[:len(d.open):len(d.open)], d.later...) {
			if n.about != nil && f.g == n.about {
				n.entry.About = f.entry.ID
			}
		}
	}
}

// changes are the journal's rows as they stand, with bodies where the queue
// will need them.
func (d *delivery) changes() (cs []queue.Change) {
	for _, f := range d.open {
		d.s.keepFacts(&f.entry, d.sub, f.g)
		c := queue.Change{Entry: f.entry, Bare: true, Known: true}
		if f.entry.State == queue.Waiting {
			c.Body = f.g.body
		}
		cs = append(cs, c)
	}
	for _, f := range d.later {
		d.s.keepFacts(&f.entry, d.sub, f.g)
		c := queue.Change{Entry: f.entry, Body: f.body, Known: true}
		if f.entry.State == queue.Held {
			c.Notice = queue.NoticeHeld
		}
		cs = append(cs, c)
	}
	return cs
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

// rescue settles what a panic leaves under way, which nobody else does as long as
// the process lives. What was surely not sent is left to the client.
func (d *delivery) rescue() {
	p := recover()
	if p == nil {
		return
	}
	d.abort()
	if d.begun != nil { // what it wrote after us would stay
		d.begun.Wait()
	}
	for _, f := range d.open {
		if f.dotted && f.entry.State == queue.Sending {
			f.set(queue.Unknown, reply{Code: 451, Status: "4.4.2", Text: "letterlock failed while the mail server was answering"})
		}
	}
	d.recordOut()
	d.s.settleSurely(d.known())
	panic(p)
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

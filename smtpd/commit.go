package smtpd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"

	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/policy"
	"letterlock.org/letterlock/smtpd/queue"
)

// commit sends the final dots and settles what came of them.
func (d *delivery) commit(ctx context.Context) error {
	d.sending()
	if err := d.s.server.c.Audit.Before(ctx, d.records(d.open)...); err != nil {
		d.abort()
		d.forget()
		return d.s.fault("writing the audit log", err)
	}
	for i, f := range d.open {
		failpoint("commit " + strconv.Itoa(i))
		if err := d.s.server.c.Queue.Still(ctx, f.entry, d.term); err != nil {
			return d.overtaken(i, err)
		}
		f.dotted = true
		r, err := d.final(f)
		failpoint("committed " + strconv.Itoa(i))
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
	d.settleLater()
	return d.done(ctx)
}

// overtaken answers where this node stood still before a final dot, and another
// may have settled what is left: it is not sent here.
func (d *delivery) overtaken(from int, cause error) error {
	for _, f := range d.open[from:] {
		f.c.close()
	}
	if from == 0 {
		d.forget()
		return d.s.fault("before the end of the message", cause)
	}
	d.s.log.Warn("submission", "outcome", "overtaken", "recipients", d.sent, "err", cause)
	d.record(d.open[:from]...)
	d.leave()
	return d.notKept()
}

// leave settles what is known of each group for itself, where another node may
// have settled some of them. What was not sent is left to the client.
func (d *delivery) leave() {
	for i, c := range d.known() {
		c.IfOpen = i >= len(d.open)
		d.s.server.c.Queue.SettleLater([]queue.Change{c})
	}
}

// final commits one transaction. An upstream that has already hung up while the
// transaction was open can't have taken the message.
func (d *delivery) final(f *flight) (reply, error) {
	var err error
	if len(d.open) > 1 { // of one group, the end of the body and the dot are one write
		err = f.c.hold()
	}
	if err != nil || !f.c.quiet() {
		defer f.c.close()
		if r, said := f.c.lastWords(); said {
			return r, nil
		}
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
	d.record(first)
	changes := []queue.Change{{Entry: first.entry, Known: true}}
	for _, f := range append(d.open[1:], d.later...) {
		c := queue.Change{Entry: f.entry, Forget: true, Known: f.about == first.g}
		if f.about == first.g { // whoever may have the message needs its password told
			c.Entry.State, c.Body, c.Forget = f.after, f.body, false
		}
		changes = append(changes, c)
	}
	d.s.settleSurely(changes)
	d.s.server.c.Count("unknown")
	return ambiguous(d.unknown)
}

// forget takes the rows out of the journal again: nothing was sent.
func (d *delivery) forget() {
	cs := d.changes()
	for i := range cs {
		cs[i].Forget, cs[i].Body, cs[i].Known = true, nil, false
	}
	d.s.settleSurely(cs)
}

// settleSurely settles what nobody waits for any more; a store that fails now
// gets it later.
func (s *session) settleSurely(cs []queue.Change) {
	q := s.server.c.Queue
	if err := q.Settle(cs); err != nil {
		s.log.Error("journal not written", "err", err)
		q.SettleLater(cs)
	}
}

// known are the changes of which the client need not be told: it sends the
// message again, to all who have not got it for certain.
func (d *delivery) known() (cs []queue.Change) {
	for _, f := range append(d.open[:len(d.open):len(d.open)], d.later...) {
		c := queue.Change{Entry: f.entry, IfOpen: true, Bare: f.c != nil, Forget: !f.out()}
		if f.about != nil && d.out(f.about) { // whoever may have the message needs its password told
			c.Entry.State, c.Forget = f.after, false
		}
		cs = append(cs, c)
	}
	return cs
}

// out tells whether a flight has arrived, or may have.
func (f *flight) out() bool { return f.entry.State == queue.Sent || f.entry.State == queue.Unknown }

func (d *delivery) out(g *group) bool {
	return slices.ContainsFunc(d.open, func(f *flight) bool { return f.g == g && f.out() })
}

// done settles the journal after the last commit and answers.
func (d *delivery) done(ctx context.Context) error {
	q := d.s.server.c.Queue
	waiting, failed := 0, 0
	for _, f := range append(d.open[:len(d.open):len(d.open)], d.later...) {
		switch f.entry.State {
		case queue.Waiting: // of a notice it has no recipients
			waiting += len(f.g.rcpts)
		case queue.Failed:
			failed += len(f.g.rcpts)
		}
	}
	held := d.held()
	if waiting+failed+len(d.unknown)+len(d.later) == 0 && len(d.groups) == 1 {
		q.SettleLater(d.changes())
	} else if err := q.Settle(d.changes()); err != nil {
		// The journal knows who has it, or that we don't: a repetition goes to
		// the others only.
		d.s.log.Error("journal not written", "err", err)
		if errors.Is(err, queue.ErrLost) {
			d.leave()
		} else {
			q.SettleLater(d.known())
		}
		if waiting+failed+len(d.later) > 0 {
			d.recordOut()
			return d.notKept()
		}
	}
	failpoint("settled")
	d.record(append(d.open[:len(d.open):len(d.open)], d.later...)...)
	d.toldClear(ctx)
	d.log(waiting, failed, held)
	if len(d.unknown) > 0 {
		return ambiguous(d.unknown)
	}
	if waiting+failed+held > 0 {
		return answer(250, "2.0.0", fmt.Sprintf("sent to %d recipients; %d wait in the queue, %d are held until they have a certificate, %d were refused; mail tells more", d.sent, waiting, held, failed))
	}
	return answer(250, "2.0.0", "sent")
}

// toldClear notes what of this was sent readable by anyone.
func (d *delivery) toldClear(ctx context.Context) {
	if slices.ContainsFunc(d.open, func(f *flight) bool { return f.entry.Clear && f.out() }) {
		d.s.account.toldClear(ctx, d.sub.root.Header, d.s.log)
	}
}

// toldClear notes the Message-ID of what was sent readable by anyone: not of what only
// waits to be, since that may be sealed yet. Without the note answers are refused that
// might go: no reason to fail now. What is forwarded as it came (RFC 5322, Section
// 3.6.6) has the ID that somebody else gave it, who may have taken one of our letters'.
func (a *Account) toldClear(ctx context.Context, h message.Header, log *slog.Logger) {
	rec, ok := a.Opened.(ClearRecord)
	if !ok || resent(h) {
		return
	}
	if err := rec.SentClear(ctx, ownIDs(h)...); err != nil {
		log.Warn("not noted what was sent in clear", "err", err)
	}
}

// notKept answers where some have the message, and the rest of it could not be
// put into the queue.
func (d *delivery) notKept() error {
	again := "send it again unchanged, it goes to nobody twice"
	if d.sub.key == "" {
		again = "it has no Message-ID, so who got it gets it once more when it is sent again"
	}
	return temporary("4.3.0", "only some recipients got the message and the others could not be kept in the queue; "+again)
}

// log states the transaction's outcome on one line, without content.
func (d *delivery) log(waiting, failed, held int) {
	outcome := "sent"
	switch {
	case len(d.unknown) > 0:
		outcome = "unknown"
	case waiting > 0:
		outcome = "queued"
	case failed > 0:
		outcome = "partly-refused"
	case held > 0:
		outcome = "partly-held"
	}
	s := d.s
	s.server.c.Count(outcome)
	if !s.log.Enabled(s.ctx, slog.LevelInfo) {
		return
	}
	s.log.LogAttrs(s.ctx, slog.LevelInfo, "submission", slog.String("outcome", outcome), slog.Int("recipients", d.sent), slog.Int("waiting", waiting),
		slog.Int("held", held), slog.Int("failed", failed), slog.Int("unknown", len(d.unknown)), slog.Int("groups", len(d.groups)),
		slog.String("actions", d.actions()), slog.Int64("size", d.sub.src.Size()), slog.Duration("took", s.server.c.Now().Sub(s.env.started)))
}

// actions says what was done for how many, as fmt prints a map.
func (d *delivery) actions() string {
	if len(d.groups) == 1 {
		g := d.groups[0]
		return "map[" + string(g.action) + ":" + strconv.Itoa(len(g.rcpts)) + "]"
	}
	n := map[policy.Action]int{}
	for _, g := range d.groups {
		n[g.action] += len(g.rcpts)
	}
	return fmt.Sprint(n)
}

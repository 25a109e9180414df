package smtpd

import (
	"letterlock.org/letterlock/audit"
	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/policy"
	"letterlock.org/letterlock/smtpd/queue"
	"letterlock.org/letterlock/smtpd/wire"
)

// entry is the journal's row for a group.
func (s *session) entry(sub submission, g *group, state queue.State) queue.Entry {
	now := s.server.c.Now()
	e := queue.Entry{
		ID: queue.NewID(), Account: s.account.key(), Submission: sub.key, From: s.envelopeFrom(), MessageID: sub.messageID, Date: dateOf(sub.root.Header),
		Clear: clearCopy(g.action), EightBit: g.eight, UTF8: s.env.opts.UTF8, Ret: string(s.env.opts.Return), Envid: s.env.opts.EnvelopeID,
		State: state, Created: now, Next: now, Expires: now.Add(s.server.c.Queue.Lifetime()), Size: g.body.Size(), Reporter: s.account.reporter(),
	}
	rs := queue.Waiting
	if state == queue.Sending || state == queue.Held {
		rs = state
	}
	for _, r := range g.rcpts {
		e.Recipients = append(e.Recipients, queue.Recipient{Address: r.address.String(), Key: r.address.Key(), Notify: r.notify, Orcpt: r.orcpt,
			State: rs, Decided: decided(s.env.named[r.named], g)})
	}
	return e
}

// noticeEntry is the row for what the sender is told beside a group.
func (s *session) noticeEntry(g *group) queue.Entry {
	now := s.server.c.Now()
	to := g.notify
	e := queue.Entry{
		ID: queue.NewID(), Account: s.account.key(), From: to.String(), Report: true, State: queue.Prepared,
		Created: now, Next: now, Expires: now.Add(s.server.c.Queue.Lifetime()), Size: g.notice.Size(),
		Recipients: []queue.Recipient{{Address: to.String(), Key: to.Key(), Notify: "NEVER", State: queue.Waiting}},
	}
	if s.account.reporter() != "" {
		e.From = ""
	}
	return e
}

// reporter is whom reports are from: the relay's postmaster, or nobody but the
// sender.
func (a *Account) reporter() string {
	if a.Relay == nil || len(a.Addresses) == 0 {
		return ""
	}
	return "postmaster@" + a.Addresses[0].Domain
}

// decided is what the audit log is told of a recipient.
func decided(d policy.Decision, g *group) *audit.Decided {
	out := &audit.Decided{Rule: d.Rule, Action: string(d.Action), SignedAs: g.signer}
	if d.Would != "" {
		out.Action, out.DryRun = string(d.Would), true
	}
	for _, c := range d.Certificates {
		out.Certificates = append(out.Certificates, c.Fingerprint())
	}
	return out
}

// dateOf is the message's date as it is written; "" for one that is too long to be
// a date.
func dateOf(h message.Header) string {
	if date := h.Get("Date"); len(date) <= 100 {
		return date
	}
	return ""
}

// mailParamsOf are the parameters of MAIL that an entry was submitted with.
func mailParamsOf(e queue.Entry) wire.MailParams {
	p := wire.MailParams{UTF8: e.UTF8, Return: e.Ret, EnvelopeID: e.Envid}
	if e.EightBit {
		p.Body = wire.Body8Bit
	}
	return p
}

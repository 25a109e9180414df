package smtpd

import (
	"slices"

	"letterlock.org/letterlock/audit"
	"letterlock.org/letterlock/smtpd/queue"
)

// outcomes are what the audit log calls the states that a session leaves.
var outcomes = map[queue.State]audit.Outcome{
	queue.Sending: audit.Sending, queue.Sent: audit.Sent, queue.Waiting: audit.Queued,
	queue.Held: audit.Held, queue.Unknown: audit.Unknown, queue.Failed: audit.Failed,
}

// records are the audit's records of some flights as they stand.
func (d *delivery) records(fs []*flight) (rs []audit.Record) {
	if d.s.server.c.Audit == audit.Discard {
		return nil
	}
	for _, f := range fs {
		e := &f.entry
		outcome, known := outcomes[e.State]
		if !known || e.Report {
			continue
		}
		for _, r := range e.Recipients {
			record := audit.Record{Account: e.Account, Sender: e.From, Recipient: r.Address, Message: e.MessageID, Entry: e.ID,
				Outcome: outcome, Code: r.Code, Status: r.Status}
			if r.Decided != nil {
				record.Decided = *r.Decided
			}
			rs = append(rs, record)
		}
	}
	return rs
}

// record tells the audit log what has become of some flights, of each once.
func (d *delivery) record(fs ...*flight) {
	fs = slices.DeleteFunc(slices.Clone(fs), func(f *flight) bool { return f.told })
	d.s.server.c.Audit.Append(d.records(fs)...)
	for _, f := range fs {
		f.told = true
		d.s.toldOf(f.g.rcpts)
	}
}

// recordOut tells it of those that have arrived, or may have.
func (d *delivery) recordOut() {
	d.record(slices.DeleteFunc(slices.Clone(d.open), func(f *flight) bool { return !f.out() })...)
}

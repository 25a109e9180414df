package smtpd

import (
	"errors"

	"letterlock.org/letterlock/audit"
)

// fate is what the audit log is yet to be told of somebody who was named in a
// transaction. It is told at the end of the transaction, once: a recipient who is
// refused and named again has one record, and where the message came for others
// it carries that message's ID.
type fate struct {
	reply *ownReply // why he gets nothing; nil as long as he is not refused
	// told: records say already what becomes of his copy, those of a delivery or of
	// an earlier attempt at the same message.
	told bool
	// entry is that of the Sending record that was written before the final dot.
	entry   string
	decided *audit.Decided
}

// fate is that of the one named at a place of envelope.named; nil if nobody wants to
// know.
func (s *session) fate(named int) *fate {
	if s.server.c.Audit == audit.Discard {
		return nil
	}
	if missing := len(s.env.named) - len(s.env.fates); missing > 0 {
		s.env.fates = append(s.env.fates, make([]fate, missing)...)
	}
	return &s.env.fates[named]
}

// asked notes what a recipient was answered at RCPT; a second try counts.
func (s *session) asked(n *nominee) {
	if n.considered {
		s.note(n.recipient, refusing(n.reply))
	}
}

// ended notes how the message was answered: after a refusal nobody has it but those
// of whom the audit log was told.
func (s *session) ended(reply error) {
	if no := refusing(reply); no != nil {
		for _, r := range s.env.rcpts {
			s.note(r, no)
		}
	}
}

func (s *session) note(r recipient, no *ownReply) {
	f := s.fate(r.named)
	if f == nil {
		return
	}
	if f.reply = no; no != nil && f.entry == "" {
		d := s.env.named[r.named]
		d.Certificates = nil // nothing that was encrypted to them was to leave yet
		f.decided = decided(d, &group{})
	}
}

// refusing is a reply that refuses; nil for any other.
func refusing(reply error) *ownReply {
	var r *ownReply
	if errors.As(reply, &r) && r.Code/100 > 3 {
		return r
	}
	return nil
}

// toldOf notes of whom the audit log was told.
func (s *session) toldOf(rs []recipient) {
	for _, r := range rs {
		if f := s.fate(r.named); f != nil {
			f.told = true
		}
	}
}

// sending notes under which entry the audit log knows the copies whose final dots
// are about to be sent.
func (d *delivery) sending() {
	for _, fl := range d.open {
		for i, r := range fl.g.rcpts {
			if f := d.s.fate(r.named); f != nil {
				f.entry, f.decided = fl.entry.ID, fl.entry.Recipients[i].Decided
			}
		}
	}
}

// tellFates tells the audit log of everybody who was named in the transaction and
// got nothing.
func (s *session) tellFates() {
	var rs []audit.Record
	for i, f := range s.env.fates {
		if f.reply == nil || f.told {
			continue
		}
		r := audit.Record{Account: s.account.key(), Sender: s.envelopeFrom(), Recipient: s.env.named[i].Recipient.String(),
			Message: s.env.messageID, Entry: f.entry, Decided: *f.decided, Outcome: audit.Deferred, Code: f.reply.Code, Status: f.reply.Status}
		if f.reply.Code/100 == 5 {
			r.Outcome = audit.Refused
		}
		rs = append(rs, r)
	}
	if len(rs) > 0 {
		s.server.c.Audit.Append(rs...)
	}
}

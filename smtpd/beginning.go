package smtpd

import (
	"context"

	"letterlock.org/letterlock/policy"
	"letterlock.org/letterlock/smtpd/queue"
)

// beginning is the journal's entry of the only copy of a short message, given to
// the queue before the copy is made: with sessions that do so at the same time it
// shares a sync, and who comes to its final dot after that waits for none. What
// isn't sent after all is withdrawn.
type beginning struct {
	entry queue.Entry
	*queue.Beginning
}

// mayBeginEarly tells whether the only copy of a message is surely sent, as soon
// as it is made. A long one takes long to be made, and after a crash meanwhile it
// would be one of which nobody knows whether it was sent.
func mayBeginEarly(sub submission, groups []*group) bool {
	return len(groups) == 1 && groups[0].action == policy.Encrypt && sub.src.Size() < aheadFrom
}

// beginEarly gives the queue the entry of a group whose body is about to be made;
// until then its size is that of the submission.
func (s *session) beginEarly(ctx context.Context, sub submission, g *group) {
	e := s.entry(sub, g, queue.Sending)
	e.Size = sub.src.Size()
	g.begun = &beginning{e, s.server.c.Queue.Prepare(queue.Change{Entry: e, Bare: true})}
	failpoint("prepared")
}

// begin is the beginning of a flight, early or not.
func (d *delivery) begin(ctx context.Context, f *flight) *queue.Beginning {
	if b := f.g.begun; b != nil {
		f.g.begun = nil
		f.entry = b.entry
		f.entry.Size = f.g.body.Size()
		return b.Beginning
	}
	f.entry = d.s.entry(d.sub, f.g, queue.Sending)
	return d.s.server.c.Queue.Prepare(d.changes()...)
}

// withdraw takes back what has begun and is not sent.
func (s *session) withdraw(groups []*group) {
	s.came()
	for _, g := range groups {
		if b := g.begun; b != nil && b.Withdraw() {
			s.settleSurely([]queue.Change{{Entry: b.entry, Bare: true, Forget: true}})
		}
	}
}

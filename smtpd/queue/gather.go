package queue

import "time"

// enoughGathered is how many writes wait for no more.
const enoughGathered = 64

// gather waits, before a batch is written, for the sessions that have claimed a
// submission and not begun it: a sync for each would cost the processors more than
// all else that the journal does. Meanwhile messages are on their way to the
// upstream. Who is alone doesn't wait.
func (q *Queue) gather() {
	q.mu.Lock()
	if q.book == nil || q.gathered() {
		q.mu.Unlock()
		return
	}
	here := make(chan struct{})
	q.here = here
	q.mu.Unlock()
	t := time.NewTimer(q.c.Gather)
	defer t.Stop()
	select {
	case <-here:
	case <-t.C:
	case <-q.closing:
	}
	q.mu.Lock()
	q.here = nil
	q.mu.Unlock()
}

// gathered tells whether nobody is to be waited for. The caller holds mu.
func (q *Queue) gathered() bool { return q.coming <= 0 || len(q.pending) >= enoughGathered }

// came notes that a session has come to Begin. The caller holds mu.
func (q *Queue) came(with *Entry) {
	if with == nil {
		return
	}
	for _, c := range q.claims[with.Submission] {
		if overlap(c.recipients, keysOf(*with)) {
			q.begun(c)
		}
	}
}

// begun notes that the session of a claim doesn't keep others waiting any longer.
// The caller holds mu.
func (q *Queue) begun(c *claim) {
	if !c.begun {
		c.begun = true
		q.coming--
	}
	if q.here != nil && q.gathered() {
		close(q.here)
		q.here = nil
	}
}

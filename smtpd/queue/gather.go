package queue

import (
	"sync"
	"time"
)

// enoughGathered is how many writes wait for no more.
const enoughGathered = 64

// Expect tells that a session reads a message of which it will soon begin an
// entry, so that who begins one now may wait for it, and share its sync; see
// Config.Gather. The function returned says that it has, or won't. It may be
// called twice.
func (q *Queue) Expect() (came func()) {
	q.mu.Lock()
	q.coming++
	q.mu.Unlock()
	return sync.OnceFunc(func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		if q.coming--; q.here != nil && q.gathered() {
			close(q.here)
			q.here = nil
		}
	})
}

// gather waits, before a batch is written, for the sessions that are expected: a
// sync costs the processors as much as half of all else that a submission does,
// and until they come these sessions keep them busy. Who is alone doesn't wait.
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

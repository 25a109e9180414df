package queue

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"letterlock.org/letterlock/internal/message"
)

// ErrUpstream, wrapped in an error of Send, means that the fault is not the
// entry's: the account's mail server can't be reached or lets nobody in. What
// else waits for it isn't tried for a while, and keeps its place.
var ErrUpstream = errors.New("the mail server takes nothing now")

// Sender submits entries that wait. It is called concurrently.
type Sender interface {
	// Send submits body to those of e's recipients that are Waiting and
	// returns all of them with their new states. Right before the final dot it
	// must call attempt with the recipients that the upstream accepted, and
	// not send the dot if that fails. An error means that nothing was sent.
	Send(ctx context.Context, e Entry, body message.Source, attempt Attempt) ([]Recipient, error)
}

// Attempt syncs that the recipients with those Keys may now get the message.
type Attempt func(ctx context.Context, keys []string) error

// finished is what a worker has to tell.
type finished struct {
	id      string
	lane    lane
	trouble bool  // counted among the troubled
	settled bool  // nothing of it waits any more
	err     error // of Send
}

// Run sends what waits until ctx ends, and then waits for attempts under way.
// A Sender that is a [Decider] as well decides about what is held, one that is a
// [Reviewer] about what waits to go in clear.
func (q *Queue) Run(ctx context.Context, s Sender) error {
	var beside sync.WaitGroup
	defer beside.Wait()
	beside.Go(func() { q.heartbeat(ctx) })
	beside.Go(func() { q.fillFilter(ctx) })
	beside.Go(func() { q.hear(ctx) })
	if d, ok := s.(Decider); ok {
		q.mu.Lock()
		q.decider = d
		q.mu.Unlock()
	}
	beside.Go(func() { q.chores(ctx) })

	sch := newSchedule()
	done := make(chan finished, q.c.Workers)
	for ctx.Err() == nil {
		wait := q.dispatch(ctx, s, sch, done)
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-q.wake:
		case <-timer.C:
		case f := <-done:
			sch.finish(f, q.c.Now())
		}
		timer.Stop()
	}
	for sch.running > 0 {
		sch.finish(<-done, q.c.Now())
	}
	for _, g := range sch.lanes { // claimed, never begun
		for _, id := range g.ready {
			q.free(context.WithoutCancel(ctx), id)
		}
	}
	return nil
}

// dispatch starts workers for what is due and says when to look again.
func (q *Queue) dispatch(ctx context.Context, s Sender, sch *schedule, done chan finished) time.Duration {
	now := q.c.Now()
	q.listen(sch)
	unfinished, err := q.sweep(ctx, sch, now)
	if err != nil && ctx.Err() == nil {
		q.c.Logger.Error("queue not read", "err", err)
	}
	for started := true; started && sch.running < q.c.Workers; {
		started = false
		for l, g := range sch.lanes { // in random order, so nobody is always last
			if sch.running < q.c.Workers && q.startOne(ctx, s, sch, l, g, now, done) {
				started = true
			}
		}
	}
	if unfinished {
		return 0
	}
	return sch.wait(now, q.c.Workers)
}

// startOne starts a worker in a lane that may have one.
func (q *Queue) startOne(ctx context.Context, s Sender, sch *schedule, l lane, g *queueing, now time.Time, done chan finished) bool {
	up := sch.line(l.account)
	trouble := g.trouble || up.failures > 0
	switch {
	case now.Before(up.paused), up.failures > 0 && up.running > 0:
		return false
	case up.running >= q.c.PerAccount, g.running >= q.c.PerDomain:
		return false
	case trouble && (g.running > 0 || sch.troubled >= max(1, q.c.Workers/2)):
		return false
	}
	if err := q.fill(ctx, l, g, now); err != nil {
		if ctx.Err() == nil {
			q.c.Logger.Error("queue not read", "err", err)
		}
		g.next = now.Add(time.Minute)
		return false
	}
	for n := len(g.ready); n > 0; n-- {
		id := g.ready[0]
		g.ready = g.ready[1:]
		if !q.take(id) { // a chore or a person has it; it may be ours to give back
			g.ready = append(g.ready, id)
			continue
		}
		g.running++
		up.running++
		sch.running++
		if trouble {
			sch.troubled++
		}
		go func() {
			f := finished{id: id, lane: l, trouble: trouble}
			defer func() { q.disown(id); done <- f }()
			f.settled, f.err = q.attempt(ctx, s, id)
		}()
		return true
	}
	return false
}

// finish notes what a worker tells.
func (s *schedule) finish(f finished, now time.Time) {
	g, up := s.lane(f.lane), s.line(f.lane.account)
	g.running--
	up.running--
	s.running--
	if f.trouble {
		s.troubled--
	}
	g.trouble = !f.settled
	g.more = true // its own next attempt too
	if errors.Is(f.err, ErrUpstream) {
		up.failures++
		d := min(5*time.Second<<min(up.failures-1, 6), 5*time.Minute)
		up.paused = now.Add(d*3/4 + rand.N(d/2))
	} else if f.err == nil {
		up.failures, up.paused = 0, time.Time{}
	}
}

// wait is how long nothing happens, unless somebody tells us.
func (s *schedule) wait(now time.Time, workers int) time.Duration {
	wait := sweepEvery
	if s.running >= workers {
		return wait
	}
	for l, g := range s.lanes {
		at := g.next
		if len(g.ready) > 0 || g.more {
			at = s.line(l.account).paused
			if at.IsZero() {
				continue // it waits for a worker of its own kind
			}
		}
		if !at.IsZero() {
			wait = min(wait, max(at.Sub(now), 10*time.Millisecond))
		}
	}
	return wait
}

// Backoff is how long to wait after that many attempts: one minute doubled
// each time up to an hour, give or take a quarter.
func Backoff(attempts int) time.Duration {
	return jitter(min(time.Minute<<min(max(attempts-1, 0), 6), time.Hour))
}

// jitter is d, give or take a quarter.
func jitter(d time.Duration) time.Duration { return d*3/4 + rand.N(d/2) }

package queue

import (
	"context"
	"strings"
	"time"
)

// channel is where nodes on one store tell each other what has begun to wait. It is a
// hint: what gets lost, the sweep finds.
const channel = "queue"

// tell hints the other nodes at a lane.
func (q *Queue) tell(l lane) {
	if !q.c.Shared {
		return
	}
	if err := q.c.Store.Notify(context.Background(), channel, q.c.Node+"\t"+l.account+"\t"+l.domain); err != nil {
		q.c.Logger.Debug("other nodes not told", "err", err)
	}
}

// hear takes the hints of other nodes until ctx ends. A payload that isn't one says
// that some got lost: then all is looked at.
func (q *Queue) hear(ctx context.Context) {
	if !q.c.Shared {
		return
	}
	err := q.c.Store.Listen(ctx, channel, func(payload string) {
		parts := strings.Split(payload, "\t")
		switch {
		case len(parts) != 3:
			q.mu.Lock()
			q.missed = true
			q.mu.Unlock()
			signal(q.wake)
		case parts[0] != q.c.Node:
			q.noted(lane{parts[1], parts[2]})
		}
	})
	if err != nil && ctx.Err() == nil {
		q.c.Logger.Warn("other nodes are not heard", "err", err)
	}
}

// noted has Run look into a lane.
func (q *Queue) noted(l lane) {
	q.mu.Lock()
	if len(q.hints) < maxLanes { // the sweep finds the others
		q.hints[l] = true
	}
	q.mu.Unlock()
	signal(q.wake)
}

// madeAt is when an ID was made, as NewID does; zero of another.
func madeAt(id string) time.Time {
	var ms int64
	for i := range 12 {
		if i >= len(id) {
			return time.Time{}
		}
		n := strings.IndexByte("0123456789abcdef", id[i])
		if n < 0 {
			return time.Time{}
		}
		ms = ms<<4 | int64(n)
	}
	return time.UnixMilli(ms)
}

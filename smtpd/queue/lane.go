package queue

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"letterlock.org/letterlock/internal/store"
)

// lane is what may be slow without stalling others: what waits for one account,
// which is one upstream, and for recipients at one domain ("" for several).
type lane struct{ account, domain string }

// Bounds of what Run keeps in memory: IDs of a lane that are due, lanes, and
// lanes that one look into the store finds.
const (
	maxReady = 32
	maxLanes = 4096
	sweepBy  = 256
)

// sweepEvery is how often all lanes are looked for, besides those we hear of.
const sweepEvery = time.Minute

// tooFar tells whether something is put off further than anything here waits until it
// is looked at again ([Backoff], [Config.Recheck]): a clock that was ahead said so. due
// was read before; the clock may go on meanwhile.
func (q *Queue) tooFar(due time.Time) (limit time.Time, far bool) {
	limit = q.c.Now().Add(3*time.Hour + 2*q.c.Recheck)
	return limit, due.After(limit)
}

// bringNear has what a clock that was set back since put off by far due now. It looks
// before it writes.
func (q *Queue) bringNear(ctx context.Context, where string, args ...any) error {
	where += ` AND node = '' AND due > ?`
	var last int64
	err := q.c.Store.View(ctx, func(tx store.Tx) error {
		return tx.Row(`SELECT due FROM queue_item WHERE `+where+` ORDER BY due DESC LIMIT 1`, append(args[:len(args):len(args)], 0), &last)
	})
	limit, far := q.tooFar(time.UnixMicro(last))
	if errors.Is(err, store.ErrNoRow) || err == nil && !far {
		return nil
	}
	if err != nil {
		return err
	}
	q.c.Logger.Warn("the clock was ahead: mail that it put off is looked at now")
	return q.update(ctx, func(tx store.Tx) error {
		_, err := tx.Exec(`UPDATE queue_item SET due = ? WHERE `+where, append(append([]any{q.c.Now().UnixMicro()}, args...), limit.UnixMicro())...)
		return err
	})
}

// schedule says who is next. Only Run's goroutine uses it.
type schedule struct {
	lanes    map[lane]*queueing
	lines    map[string]*line // by account
	running  int
	troubled int       // running in lanes that are in trouble
	cursor   lane      // where the sweep goes on; zero is the beginning
	swept    time.Time // when the last sweep began
}

// queueing is what is known of a lane.
type queueing struct {
	ready   []string  // due, oldest first
	more    bool      // the store may have more that are due
	next    time.Time // when the next will be due; zero if none is known
	running int
	// trouble: the last attempt did not settle its entry. Such lanes have one
	// worker each and half of all together.
	trouble bool
}

// line is an account's way to its upstream.
type line struct {
	running, failures int
	paused            time.Time // nothing is tried before
}

func newSchedule() *schedule {
	return &schedule{lanes: map[lane]*queueing{}, lines: map[string]*line{}}
}

func (s *schedule) lane(l lane) *queueing {
	if s.lanes[l] == nil {
		s.lanes[l] = &queueing{}
	}
	return s.lanes[l]
}

func (s *schedule) line(account string) *line {
	if s.lines[account] == nil {
		s.lines[account] = &line{}
	}
	return s.lines[account]
}

// hint tells Run, and those of other nodes, that something has begun to wait in a lane.
func (q *Queue) hint(l lane) {
	q.noted(l)
	q.tell(l)
}

// listen takes over what others have told since the last time.
func (q *Queue) listen(s *schedule) {
	q.mu.Lock()
	hints, hurried, missed := q.hints, q.hurried, q.missed
	q.hints, q.hurried, q.missed = map[lane]bool{}, nil, false
	q.mu.Unlock()
	if missed {
		s.swept = time.Time{}
	}
	for l := range hints {
		s.lane(l).more = true
	}
	for _, a := range hurried {
		*s.line(a) = line{running: s.line(a).running}
		for l, g := range s.lanes {
			if l.account == a {
				g.more = true
			}
		}
		s.swept = time.Time{}
	}
}

// sweep looks for lanes, a page at a time, by one search of the index each; and
// says whether it has more to do.
func (q *Queue) sweep(ctx context.Context, s *schedule, now time.Time) (more bool, err error) {
	if s.cursor == (lane{}) {
		if now.Sub(s.swept).Abs() < sweepEvery {
			return false, nil
		}
		s.swept = now
		s.forget()
		if err := q.strays(ctx, s); err != nil {
			return false, err
		}
	}
	var far []lane
	err = q.c.Store.View(ctx, func(tx store.Tx) error {
		far = nil
		for range sweepBy {
			l, due := lane{}, int64(0)
			err := tx.Row(`SELECT account, domain, due FROM queue_item WHERE state = 'waiting' AND node = ''
				AND (account, domain) > (?, ?) ORDER BY account, domain, due LIMIT 1`,
				[]any{s.cursor.account, s.cursor.domain}, &l.account, &l.domain, &due)
			if err != nil {
				return err
			}
			at := time.UnixMicro(due)
			if _, ahead := q.tooFar(at); ahead {
				at, far = now, append(far, l)
			}
			if len(s.lanes) < maxLanes || s.lanes[l] != nil {
				s.lane(l).next = at
			}
			s.cursor = l
		}
		return nil
	})
	for _, l := range far {
		if err := q.bringNear(ctx, `state = 'waiting' AND account = ? AND domain = ?`, l.account, l.domain); err != nil {
			return false, err
		}
	}
	if errors.Is(err, store.ErrNoRow) {
		s.cursor = lane{}
		return false, nil
	}
	return err == nil, err
}

// strays gives back what this node has claimed and nobody here works on: where a
// claim or its end failed, or its answer was lost, nobody else knows of it.
func (q *Queue) strays(ctx context.Context, s *schedule) error {
	if !q.c.Shared {
		return nil
	}
	ids, err := q.ids(ctx, `SELECT id FROM queue_item WHERE node <> '' AND node = ? AND state IN ('waiting', 'held') LIMIT 1000`, q.c.Node)
	if err != nil || len(ids) == 0 {
		return err
	}
	known := map[string]bool{}
	for _, g := range s.lanes {
		for _, id := range g.ready {
			known[id] = true
		}
	}
	for _, id := range ids {
		if !known[id] && q.take(id) {
			q.disown(id)
		}
	}
	return nil
}

// forget drops lanes in which nothing happens.
func (s *schedule) forget() {
	maps.DeleteFunc(s.lanes, func(_ lane, g *queueing) bool {
		return g.running == 0 && len(g.ready) == 0 && !g.more && g.next.IsZero()
	})
	maps.DeleteFunc(s.lines, func(_ string, l *line) bool { return l.running == 0 && l.failures == 0 })
}

// fill makes sure that a lane knows who is next.
func (q *Queue) fill(ctx context.Context, l lane, g *queueing, now time.Time) error {
	if len(g.ready) > 0 || !g.more && (g.next.IsZero() || g.next.After(now)) {
		return nil
	}
	limit := maxReady + g.running // those are still there
	ids, err := q.due(ctx, l, now, limit)
	if err != nil {
		return err
	}
	g.more = len(ids) == limit
	var taken []string
	q.mu.Lock()
	ids = slices.DeleteFunc(ids, func(id string) bool {
		if q.busy[id] {
			taken = append(taken, id)
		}
		return q.busy[id]
	})
	q.mu.Unlock()
	g.ready, g.next = ids, time.Time{}
	for _, id := range taken { // somebody here is about to own it, or was until now
		q.free(ctx, id)
		g.more = true
	}
	if g.more {
		return nil
	}
	return q.c.Store.View(ctx, func(tx store.Tx) error {
		var due int64
		err := tx.Row(`SELECT due FROM queue_item WHERE state = 'waiting' AND node = '' AND account = ? AND domain = ?
			AND due > ? ORDER BY due LIMIT 1`, []any{l.account, l.domain, now.UnixMicro()}, &due)
		if errors.Is(err, store.ErrNoRow) {
			return nil
		}
		g.next = time.UnixMicro(due)
		return err
	})
}

// due lists the first that are due in a lane; where others use the store, those
// that nobody else has, claimed for this node.
func (q *Queue) due(ctx context.Context, l lane, now time.Time, limit int) (ids []string, err error) {
	const query = `SELECT id FROM queue_item WHERE state = 'waiting' AND node = '' AND account = ? AND domain = ? AND due <= ? ORDER BY due LIMIT ?`
	if !q.c.Shared {
		return q.ids(ctx, query, l.account, l.domain, now.UnixMicro(), limit)
	}
	err = q.update(ctx, func(tx store.Tx) error {
		ids = nil
		err := tx.Rows(query+` FOR UPDATE SKIP LOCKED`, []any{l.account, l.domain, now.UnixMicro(), limit}, func(scan func(...any) error) error {
			var id string
			err := scan(&id)
			ids = append(ids, id)
			return err
		})
		for _, id := range ids {
			if err == nil {
				_, err = tx.Exec(`UPDATE queue_item SET node = ? WHERE id = ?`, q.c.Node, id)
			}
		}
		return err
	})
	return ids, err
}

// free gives back what this node has claimed, unless it has gone on since.
func (q *Queue) free(ctx context.Context, id string) {
	if !q.c.Shared {
		return
	}
	err := q.update(ctx, func(tx store.Tx) error {
		_, err := tx.Exec(`UPDATE queue_item SET node = '' WHERE id = ? AND node = ? AND state IN ('waiting', 'held')`, id, q.c.Node)
		return err
	})
	if err != nil {
		q.c.Logger.Error("queue entry not given back", "entry", id, "err", err)
	}
}

// own claims one entry for this node and this goroutine.
func (q *Queue) own(ctx context.Context, id string) (ok bool, err error) {
	if !q.take(id) {
		return false, nil
	}
	if !q.c.Shared {
		return true, nil
	}
	n := int64(0)
	err = q.update(ctx, func(tx store.Tx) (err error) {
		n, err = tx.Exec(`UPDATE queue_item SET node = ? WHERE id = ? AND node = ''`, q.c.Node, id)
		return err
	})
	if ok = err == nil && n > 0; !ok {
		q.leave(id)
	}
	return ok, err
}

// disown ends own.
func (q *Queue) disown(id string) {
	q.free(context.Background(), id)
	q.leave(id)
}

func (q *Queue) take(id string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.busy[id] {
		return false
	}
	q.busy[id] = true
	return true
}

func (q *Queue) leave(id string) {
	q.mu.Lock()
	delete(q.busy, id)
	q.mu.Unlock()
	signal(q.wake) // Run may have wanted it
}

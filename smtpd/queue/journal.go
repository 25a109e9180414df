package queue

import (
	"errors"
	"fmt"
	"time"

	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/internal/store"
)

// ErrLost means that another node has taken over what this one worked on.
var ErrLost = errors.New("another node has taken over this message")

// ErrBusy means that the same submission is being worked on, or was just now.
var ErrBusy = errors.New("the same message is being sent right now")

// Change is the new state of one entry.
type Change struct {
	Entry Entry
	// Body is stored where the entry had none; nil leaves what there is.
	Body message.Source
	// Forget removes the entry: nothing of it was sent and nobody waits.
	Forget bool
	// IfOpen: nothing is written unless the entry is Prepared or Sending still.
	IfOpen bool
	// Bare: the store has no body of it, so none is looked for; and no row,
	// unless it was Begun.
	Bare bool
	// Known: the journal has had the entry. Where it is gone, another node has
	// settled it meanwhile, and the change is ErrLost.
	Known bool
	// Notice tells the sender, in the same sync, that the recipients who wait
	// are late or held; "" tells nothing. Failures are told in any case.
	Notice Notice
	// due is when the held entry was due when it was decided about; who has
	// changed that since (see Learned) wants another decision.
	due time.Time
}

// Settle syncs what became of entries. Recipients that are Failed, and those
// that became Unknown after the client had left them to us, are reported to the
// sender by a new entry in the same sync, once. It ends with the sync, or its failure.
func (q *Queue) Settle(changes []Change) error {
	err := q.write(q.apply(changes))
	if err == nil {
		q.waiting(changes)
	}
	return err
}

// SettleLater is Settle without waiting for the sync, for what is already
// decided by the upstream's answer: if it gets lost, the entry becomes Unknown.
// It goes with the next write that somebody waits for. While the store fails it
// is tried again, until Close: nobody else knows what became of the entry. No
// recipient may be Failed, nor Unknown if the entry was Queued: that is reported,
// and reports are for Settle.
func (q *Queue) SettleLater(changes []Change) {
	q.async.Add(1)
	apply := q.apply(changes)
	q.mu.Lock()
	for _, c := range changes {
		if c.Forget { // nobody has been promised anything; see Earlier
			c.Entry.State = Prepared
		}
		q.settled[c.Entry.ID] = c.Entry
	}
	q.mu.Unlock()
	q.untilWritten(apply, lazyWrites, func(err error) {
		defer q.async.Done()
		q.mu.Lock()
		for _, c := range changes {
			delete(q.settled, c.Entry.ID)
		}
		q.mu.Unlock()
		if err != nil {
			q.c.Logger.Error("journal not written", "err", err)
		}
	})
}

// untilWritten is writeLater that tries again while the store fails, once more
// when the queue is closed, and not where another node has taken over.
func (q *Queue) untilWritten(f func(store.Tx, *page) (int64, error), wait time.Duration, done func(error)) {
	q.writeLater(f, func(err error) {
		select {
		case <-q.closing:
			done(err)
			return
		default:
		}
		if err == nil || errors.Is(err, ErrLost) {
			done(err)
			return
		}
		q.c.Logger.Warn("journal not written yet", "err", err)
		go func() {
			select {
			case <-time.After(wait):
			case <-q.closing:
			}
			q.untilWritten(f, min(2*wait, 10*time.Second), done)
		}()
	})
}

// waiting tells Run what has begun to wait.
func (q *Queue) waiting(changes []Change) {
	for i := range changes {
		e := &changes[i].Entry
		switch {
		case e.State == Waiting:
			q.hint(lane{e.Account, domain(e)})
		case e.State == Held:
			signal(q.tend)
		}
		if e.State == Failed || e.State == Unknown || changes[i].Notice != "" { // a report waits
			q.hint(lane{e.Account, domainOf(e.From)})
		}
	}
}

// apply makes the statements of some changes. The function that it returns may
// run more than once.
func (q *Queue) apply(changes []Change) func(store.Tx, *page) (int64, error) {
	now := q.c.Now()
	var reports []report
	for i := range changes {
		c := &changes[i]
		c.Entry.Queued = c.Entry.Queued || c.Entry.State == Waiting || c.Entry.State == Held
		if c.Forget {
			continue
		}
		reports = append(reports, reportsOn(&c.Entry, c.Notice, now, q.c.Lifetime)...)
	}
	return func(tx store.Tx, p *page) (grown int64, err error) {
		for _, c := range changes {
			if p != nil && q.enter(p, &c) {
				continue
			}
			n, err := q.put(tx, c, now)
			if err != nil {
				return 0, err
			}
			grown += n
		}
		for _, r := range reports {
			n, err := q.put(tx, Change{Entry: r.entry, Body: message.Bytes(r.body)}, now)
			if err != nil {
				return 0, err
			}
			grown += n
		}
		return grown, nil
	}
}

// put writes one entry and keeps its body as long as it may be sent again. It
// returns by how many bytes the bodies grew.
func (q *Queue) put(tx store.Tx, c Change, now time.Time) (int64, error) {
	e := c.Entry
	q.note(&e)
	if c.IfOpen {
		var state string
		err := tx.Row(`SELECT state FROM queue_item WHERE id = ? FOR UPDATE`, []any{e.ID}, &state)
		if errors.Is(err, store.ErrNoRow) || err == nil && State(state) != Prepared && State(state) != Sending {
			return 0, nil
		}
		if err != nil {
			return 0, err
		}
	}
	had, err := q.mine(tx, c)
	if err != nil {
		return 0, err
	}
	keep := !c.Forget && (e.State == Prepared || e.State == Waiting || e.State == Held || e.State == Sending || e.State == Unknown)
	has := had
	if had > 0 && !keep {
		if _, err := tx.Exec(`DELETE FROM queue_piece WHERE id = ?`, e.ID); err != nil {
			return 0, err
		}
		has = 0
	}
	if err := q.putWaits(tx, c); err != nil {
		return 0, err
	}
	if c.Forget {
		_, err := tx.Exec(`DELETE FROM queue_item WHERE id = ?`, e.ID)
		return has - had, err
	}
	if had == 0 && keep && c.Body != nil {
		if err := q.putBody(tx, e.ID, c.Body); err != nil {
			return 0, err
		}
		has = c.Body.Size()
	}
	b, err := q.encode(e)
	if err != nil {
		return 0, err
	}
	var due int64
	var node, where string
	switch e.State {
	case Waiting, Held:
		due, where = e.Next.UnixMicro(), domain(&e)
		if due, err = q.dueAgain(tx, c, due); err != nil {
			return 0, err
		}
	case Sending, Prepared:
		node = q.c.Node
	}
	_, err = tx.Exec(`INSERT INTO queue_item (id, account, domain, hash, state, node, due, alarm, touched, body, entry)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET domain = excluded.domain, state = excluded.state, node = excluded.node, due = excluded.due,
			alarm = excluded.alarm, touched = excluded.touched, body = excluded.body, entry = excluded.entry`,
		e.ID, e.Account, where, q.hash(e.Submission), string(e.State), node, due, q.alarm(&e), now.UnixMicro(), has, b)
	return has - had, err
}

// mine returns the bytes of the body that an entry has in the store, after it
// has made sure that no other node has taken the entry over. What we know of a
// final dot counts even then, unless somebody has acted on the entry since.
func (q *Queue) mine(tx store.Tx, c Change) (had int64, err error) {
	if c.Bare && !q.c.Shared {
		return 0, nil
	}
	var state, node string
	err = tx.Row(`SELECT body, state, node FROM queue_item WHERE id = ? FOR UPDATE`, []any{c.Entry.ID}, &had, &state, &node)
	switch {
	case errors.Is(err, store.ErrNoRow) && !c.Known:
		return 0, nil
	case err != nil && !errors.Is(err, store.ErrNoRow):
		return 0, err
	case err != nil: // it was there
	case !q.c.Shared || node == q.c.Node:
		return had, nil
	case State(state) == Unknown && node == "" && (c.Forget || c.Entry.State != Sending):
		return had, nil
	}
	return 0, fmt.Errorf("entry %s: %w", c.Entry.ID, ErrLost)
}

// Overall is the state of an entry with these recipients.
func Overall(rs []Recipient) State {
	seen := map[State]bool{}
	for _, r := range rs {
		seen[r.State] = true
	}
	for _, s := range []State{Sending, Waiting, Held, Unknown, Failed} {
		if seen[s] {
			return s
		}
	}
	return Sent
}

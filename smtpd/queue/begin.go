package queue

import (
	"errors"
	"slices"

	"letterlock.org/letterlock/internal/store"
)

// Begin syncs entries before the first final dot: Sending ones without body,
// Prepared ones with it. After an error nothing may be sent; ErrBusy means that
// another node has the same submission.
func (q *Queue) Begin(changes []Change) error {
	if len(changes) == 0 {
		return nil
	}
	return q.orForget(changes, q.tryBegin(changes))
}

func (q *Queue) tryBegin(changes []Change) error {
	for i := range changes {
		changes[i].Known = false
	}
	first := &changes[0].Entry
	if !q.c.Shared || first.Submission == "" {
		return q.Settle(changes)
	}
	apply := q.apply(changes)
	return q.write(func(tx store.Tx, p *page) (int64, error) {
		if err := q.alone(tx, first.Submission, changes); err != nil {
			return 0, err
		}
		return apply(tx, p)
	})
}

// orForget returns err, the outcome of beginning. Where that is unknown, what may
// have begun is forgotten as soon as the store answers again: as long as this node
// lives, nobody else settles it. What is Held stays, since another node may have told
// the client by now that it is.
func (q *Queue) orForget(changes []Change, err error) error {
	if !errors.Is(err, store.ErrUnsettled) {
		return err
	}
	var forget []Change
	for _, c := range changes {
		if c.Entry.State == Sending || c.Entry.State == Prepared {
			forget = append(forget, Change{Entry: c.Entry, Bare: c.Bare, Forget: true, IfOpen: true})
		}
	}
	if len(forget) > 0 {
		q.SettleLater(forget)
	}
	return err
}

// Beginning is a Begin that goes with a sync which somebody else wants, if one
// comes before it is hurried: while a session makes its copy, others reach their
// final dots. A sync for each would cost the processors more than all else that
// the journal does. For use by one goroutine.
type Beginning struct {
	q       *Queue
	changes []Change
	w       *write     // nil until something can be written
	done    chan error // of w
	over    bool       // err is what done said
	err     error
}

// Prepare prepares Begin of those entries, which must be given as to Begin. What
// it returns is waited for, or withdrawn.
func (q *Queue) Prepare(changes ...Change) *Beginning {
	b := &Beginning{q: q, changes: changes, done: make(chan error, 1)}
	if q.book == nil { // what Begin looks at may be another node's a moment later
		return b
	}
	for i := range changes {
		changes[i].Known = false
	}
	b.w = &write{f: q.apply(changes), done: func(err error) { b.done <- q.orForget(changes, err) }}
	q.mu.Lock()
	q.pending = append(q.pending, b.w)
	q.mu.Unlock()
	return b
}

// Hurry has it synced now, if it isn't already, or about to be.
func (b *Beginning) Hurry() {
	if b.w == nil {
		b.w = &write{taken: true}
		go func() { b.done <- b.q.Begin(b.changes) }()
		return
	}
	b.q.mu.Lock()
	defer b.q.mu.Unlock()
	if !b.w.taken {
		b.q.urgent()
	}
}

// Wait is Begin's return.
func (b *Beginning) Wait() error {
	if !b.over {
		b.Hurry()
		b.err, b.over = <-b.done, true
	}
	return b.err
}

// Withdraw undoes what was never waited for. It tells whether the journal has it, so
// that it has to be settled.
func (b *Beginning) Withdraw() (begun bool) {
	if b.w == nil {
		return false
	}
	b.q.mu.Lock()
	taken := b.w.taken
	if !taken {
		b.q.pending = slices.DeleteFunc(b.q.pending, func(w *write) bool { return w == b.w })
	}
	b.q.mu.Unlock()
	return taken && b.Wait() == nil
}

package queue

import (
	"context"
	"errors"
	"slices"
	"strings"

	"letterlock.org/letterlock/internal/store"
)

// listPage is how many entries are read at once.
const listPage = 200

// listed are the states of entries that still concern somebody.
var listed = []State{Sending, Prepared, Waiting, Held, Unknown, Failed}

// Each calls f for every entry that still concerns somebody, all but Sent ones, the
// oldest first; state "" is every state. It reads them in pages, and holds no
// transaction while f runs. An entry that is there from the beginning to the end
// comes once, whatever becomes of its state meanwhile; with one state, if it has that
// all the time.
func (q *Queue) Each(ctx context.Context, state State, f func(Entry) error) error {
	l := lister{q: q, states: listed}
	if state != "" {
		l.states = []State{state}
	}
	if slices.Contains(l.states, Sending) {
		l.live = q.underway()
	}
	for !l.done {
		es, err := l.page(ctx)
		if err != nil {
			return err
		}
		for _, e := range es {
			if err := f(e); err != nil {
				return err
			}
		}
	}
	return nil
}

// List returns at most limit entries of one state, or of all but Sent, the oldest
// first.
func (q *Queue) List(ctx context.Context, state State, limit int) (es []Entry, err error) {
	enough := errors.New("enough")
	err = q.Each(ctx, state, func(e Entry) error {
		if len(es) == limit {
			return enough
		}
		es = append(es, e)
		return nil
	})
	if err == enough {
		err = nil
	}
	return es, err
}

// lister goes through the rows and what is under way in the daybook, in the order
// of IDs, which begin with the time.
type lister struct {
	q      *Queue
	states []State
	live   []Entry // of the daybook, those that were not listed yet
	first  bool    // the first page was read
	after  string  // the last ID that was listed
	done   bool
}

// page reads the next entries. What was live at the beginning and has its row now
// is listed as the row has it.
func (l *lister) page(ctx context.Context) (es []Entry, err error) {
	var ids []string
	var rows []row
	live := l.live
	err = l.q.c.Store.View(ctx, func(tx store.Tx) (err error) {
		if ids, err = l.ids(tx); err != nil {
			return err
		}
		if live = l.live; !l.first {
			if live, err = l.q.withoutRow(tx, live); err != nil {
				return err
			}
		}
		rows, err = l.rows(tx, ids)
		return err
	})
	if err != nil {
		return nil, err
	}
	l.first, l.done = true, len(ids) < listPage
	n := len(live)
	if !l.done {
		l.after = ids[len(ids)-1]
		n, _ = slices.BinarySearchFunc(live, l.after, func(e Entry, id string) int { return strings.Compare(e.ID, id) })
	}
	l.live = live[n:]
	if len(l.live) > 0 && l.live[0].ID == l.after { // its row was just listed
		l.live = l.live[1:]
	}
	return merge(rows, live[:n]), nil
}

// ids are those of the next rows. Each state has them in order in an index.
func (l *lister) ids(tx store.Tx) (ids []string, err error) {
	for _, s := range l.states {
		query, args := `SELECT id FROM queue_item WHERE state = ? AND state <> 'sent' AND state <> 'sending' AND id > ? ORDER BY id LIMIT ?`, []any{string(s), l.after, listPage}
		if s == Sending {
			query, args = `SELECT id FROM queue_item WHERE node <> '' AND state = 'sending' AND id > ? ORDER BY id LIMIT ?`, args[1:]
		}
		if err := tx.Rows(query, args, func(scan func(...any) error) error {
			var id string
			err := scan(&id)
			ids = append(ids, id)
			return err
		}); err != nil {
			return nil, err
		}
	}
	slices.Sort(ids)
	return ids[:min(len(ids), listPage)], nil
}

// rows reads the rows of a page.
func (l *lister) rows(tx store.Tx, ids []string) ([]row, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	args := make([]any, listPage) // one statement, however many there are
	for i := range args {
		args[i] = ids[min(i, len(ids)-1)]
	}
	rs, err := l.q.rowsIn(tx, `WHERE id IN (?`+strings.Repeat(`, ?`, listPage-1)+`) ORDER BY id`, args...)
	// In a shared store a statement sees what was written since the one before.
	return slices.DeleteFunc(rs, func(r row) bool { return !slices.Contains(l.states, r.State) }), err
}

// merge puts rows and live entries, both in the order of their IDs, into one list.
func merge(rows []row, live []Entry) []Entry {
	es := make([]Entry, 0, len(rows)+len(live))
	for _, r := range rows {
		for len(live) > 0 && live[0].ID <= r.ID {
			if live[0].ID < r.ID {
				es = append(es, live[0])
			}
			live = live[1:]
		}
		es = append(es, r.Entry)
	}
	return append(es, live...)
}

// withoutRow leaves out what has left the daybook.
func (q *Queue) withoutRow(tx store.Tx, live []Entry) (left []Entry, err error) {
	for _, e := range live {
		var one int64
		err := tx.Row(`SELECT 1 FROM queue_item WHERE id = ?`, []any{e.ID}, &one)
		if errors.Is(err, store.ErrNoRow) {
			left = append(left, e)
		} else if err != nil {
			return nil, err
		}
	}
	return left, nil
}

package queue

import (
	"errors"
	"slices"

	"letterlock.org/letterlock/internal/store"
)

// recollection is what memory knows of some entries in the daybook. It is taken
// before the store is asked, so that what moves from one to the other meanwhile
// is seen there.
type recollection struct {
	live    []Entry
	settled map[string]Entry // those of them that are settled, and not yet written
	pages   []int64          // of the open volume
}

// clone is for a function that may run again.
func (r recollection) clone() recollection {
	r.pages = slices.Clone(r.pages)
	return r
}

// recall finds what is live and what the open volume has.
func (q *Queue) recall(live func(*Entry) bool, sent func(place) bool) (r recollection) {
	if q.book == nil {
		return r
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	r.settled = map[string]Entry{}
	for id, l := range q.book.live {
		if live(l) {
			e := *l
			e.Recipients = slices.Clone(e.Recipients)
			r.live = append(r.live, e)
			if s, ok := q.settled[id]; ok {
				r.settled[id] = s
			}
		}
	}
	for _, p := range q.book.sent {
		if sent(p) {
			r.pages = append(r.pages, p.page)
		}
	}
	return r
}

// recallSubmission is recall for one submission.
func (q *Queue) recallSubmission(key string) recollection {
	hash := q.hash(key)
	return q.recall(func(e *Entry) bool { return e.Submission == key }, func(p place) bool { return hash != 0 && p.hash == hash })
}

// recallID is recall for one entry.
func (q *Queue) recallID(id string) recollection {
	of := sum(id)
	return q.recall(func(e *Entry) bool { return e.ID == id }, func(p place) bool { return p.id == of })
}

// search adds the pages of closed volumes that may have a submission.
func (q *Queue) search(tx store.Tx, r *recollection, hash int64) error {
	if q.book == nil || hash == 0 {
		return nil
	}
	return tx.Rows(`SELECT volume, data FROM queue_found WHERE bucket = ?`, []any{bucket(hash)}, func(scan func(...any) error) error {
		var volume int64
		var part []byte
		err := scan(&volume, &part)
		places(volume, part, func(p place) {
			if p.hash == hash {
				r.pages = append(r.pages, p.page)
			}
		})
		return err
	})
}

// searchID adds the pages of closed volumes that may have one entry.
func (q *Queue) searchID(tx store.Tx, r *recollection, id string) error {
	var volumes []int64
	if err := tx.Rows(`SELECT last, lo FROM queue_volume WHERE hi >= ? ORDER BY hi`, []any{id}, func(scan func(...any) error) error {
		var last int64
		var lo string
		err := scan(&last, &lo)
		if lo <= id {
			volumes = append(volumes, last)
		}
		return err
	}); err != nil {
		return err
	}
	want := sum(id)
	for _, v := range volumes {
		for i := range buckets {
			var part []byte
			err := tx.Row(`SELECT data FROM queue_found WHERE bucket = ? AND volume = ?`, []any{i, v}, &part)
			if errors.Is(err, store.ErrNoRow) {
				continue
			}
			if err != nil {
				return err
			}
			places(v, part, func(p place) {
				if p.id == want {
					r.pages = append(r.pages, p.page)
				}
			})
		}
	}
	return nil
}

// reread adds to es what r has of the daybook, where want says so and es has no
// entry of that ID: what left the daybook has its row. However old a page says that it
// is, it counts as long as it is there: the clock may have been wrong then.
func (q *Queue) reread(tx store.Tx, r recollection, es []row, want func(*Entry) bool) ([]row, error) {
	known := map[string]bool{}
	for _, e := range es {
		known[e.ID] = true
	}
	add := func(e Entry, node string) {
		if want(&e) && !known[e.ID] {
			known[e.ID] = true
			es = append(es, row{Entry: e, node: node})
		}
	}
	slices.Sort(r.pages)
	for _, seq := range slices.Compact(r.pages) {
		var data []byte
		err := tx.Row(`SELECT data FROM queue_page WHERE seq = ?`, []any{seq}, &data)
		if errors.Is(err, store.ErrNoRow) {
			continue // too old
		}
		if err != nil {
			return nil, err
		}
		var sent []Entry
		_, err = q.readPage(seq, data, func(e Entry) {
			if e.State == Sent {
				sent = append(sent, e)
			}
		}, func(string) {})
		if err = q.leaveAlone(err); err != nil {
			return nil, err
		}
		for _, e := range sent {
			add(e, "")
		}
	}
	for _, e := range r.live {
		add(e, q.c.Node)
	}
	return es, nil
}

package queue

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"letterlock.org/letterlock/internal/store"
)

// macSize is the bytes of a [store.Store.MAC] that stand before an entry.
const macSize = 32

// row is an entry as it is stored.
type row struct {
	Entry
	node string // who works on it; "" is nobody
	body int64  // bytes of its body in the store; 0 is none
}

// encode is an entry without what has columns of its own, behind its MAC: a
// recipient must not change while a message waits.
func (q *Queue) encode(e Entry) ([]byte, error) {
	id, account := e.ID, e.Account
	e.ID, e.Account = "", ""
	b, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	return append(q.mac(id, account, b), b...), nil
}

func (q *Queue) mac(id, account string, entry []byte) []byte {
	return q.c.Store.MAC("queue entry", []byte(id), []byte(account), entry)
}

const columns = `SELECT id, account, state, node, due, body, entry FROM queue_item `

// decode scans a row of columns.
func (q *Queue) decode(scan func(...any) error) (r row, err error) {
	var id, account, state string
	var due int64
	var b []byte
	if err := scan(&id, &account, &state, &r.node, &due, &r.body, &b); err != nil {
		return r, err
	}
	if len(b) < macSize {
		return r, fmt.Errorf("queue entry %s: %w", id, store.ErrTampered)
	}
	if err := store.Verify(q.c.Store, b[:macSize], "queue entry", []byte(id), []byte(account), b[macSize:]); err != nil {
		return r, fmt.Errorf("queue entry %s: %w", id, err)
	}
	if err := json.Unmarshal(b[macSize:], &r.Entry); err != nil {
		return r, fmt.Errorf("queue entry %s: %w", id, err)
	}
	if string(r.State) != state {
		return r, fmt.Errorf("queue entry %s: its state: %w", id, store.ErrTampered)
	}
	r.ID, r.Account, r.Next = id, account, time.UnixMicro(due)
	return r, nil
}

// rowsIn reads rows within a transaction. One that doesn't decode is logged and
// left out: it must not stop the others.
func (q *Queue) rowsIn(tx store.Tx, where string, args ...any) (rs []row, err error) {
	err = tx.Rows(columns+where, args, func(scan func(...any) error) error {
		r, err := q.decode(scan)
		if errors.Is(err, store.ErrTampered) {
			q.c.Logger.Error("queue entry left alone", "err", err)
			return nil
		}
		if err == nil {
			rs = append(rs, r)
		}
		return err
	})
	return rs, err
}

// row reads one entry; ErrNoEntry if there is none.
func (q *Queue) row(ctx context.Context, id string) (r row, err error) {
	memory := q.recallID(id)
	err = q.c.Store.View(ctx, func(tx store.Tx) (err error) {
		r, err = q.rowOf(tx, memory, id)
		return err
	})
	return r, err
}

// rowOf is row within a transaction that began after q.recallID.
func (q *Queue) rowOf(tx store.Tx, memory recollection, id string) (row, error) {
	rs, err := q.rowsIn(tx, `WHERE id = ?`, id)
	if err == nil && len(rs) == 0 && q.book != nil {
		r := memory.clone()
		if err = q.searchID(tx, &r, id); err == nil {
			rs, err = q.reread(tx, r, nil, func(e *Entry) bool { return e.ID == id })
		}
	}
	if err == nil && len(rs) == 0 {
		err = ErrNoEntry
	}
	if err != nil {
		return row{}, err
	}
	return rs[0], nil
}

// ids reads a column of IDs.
func (q *Queue) ids(ctx context.Context, query string, args ...any) (ids []string, err error) {
	err = q.c.Store.View(ctx, func(tx store.Tx) error {
		ids = nil
		return tx.Rows(query, args, func(scan func(...any) error) error {
			var id string
			err := scan(&id)
			ids = append(ids, id)
			return err
		})
	})
	return ids, err
}

// hash is the indexed part of a submission's key: collisions cost a look at the
// entry. 0 means that it is never recognised.
//
// The key is a hash of the message, by which whoever can read the column could
// try guesses at its text. The server of a shared store can, and gets a MAC.
func (q *Queue) hash(submission string) int64 {
	if len(submission) < 16 {
		return 0
	}
	if q.c.Shared {
		return int64(binary.BigEndian.Uint64(q.c.Store.MAC("queue submission", []byte(submission))))
	}
	n, _ := strconv.ParseUint(submission[:16], 16, 64)
	return int64(n)
}

// domain is where the recipients that wait are, if all are at one: see lane.
func domain(e *Entry) string {
	var d string
	for _, r := range e.Recipients {
		if r.State != Waiting {
			continue
		}
		of := r.Key[strings.LastIndexByte(r.Key, '@')+1:]
		if d != "" && of != d {
			return ""
		}
		d = of
	}
	return d
}

// alarm is when e must be looked at whether or not it was sent: to tell that it
// is late, or to give it up. Zero is never.
func (q *Queue) alarm(e *Entry) int64 {
	switch {
	case e.State != Waiting && e.State != Held:
		return 0
	case e.State == Held || e.Report || e.Warned:
		return e.Expires.UnixMicro()
	}
	late := e.Created.Add(q.c.WarnAfter)
	if late.After(e.Expires) {
		late = e.Expires
	}
	return late.UnixMicro()
}

package queue

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"letterlock.org/letterlock/internal/store"
)

// pageVersion is how pages are written, in their first byte.
const pageVersion = 1

// buckets is in how many parts a volume's index is, by the hash of the
// submission: looking for one reads the same part of all volumes.
const buckets = 64

func bucket(hash int64) int { return int(uint64(hash) % buckets) }

func (q *Queue) pageMAC(seq int64, text []byte) []byte {
	return q.c.Store.MAC("queue page", binary.BigEndian.AppendUint64(nil, uint64(seq)), text)
}

// readPage gives the entries in a page, in the order of their records, and calls
// gone for those that have left. ErrTampered if we have not written it.
func (q *Queue) readPage(seq int64, data []byte, entry func(Entry), gone func(id string)) (at time.Time, err error) {
	if len(data) <= macSize || store.Verify(q.c.Store, data[:macSize], "queue page", binary.BigEndian.AppendUint64(nil, uint64(seq)), data[macSize:]) != nil {
		return at, fmt.Errorf("page %d of the queue: %w", seq, store.ErrTampered)
	}
	if data[macSize] != pageVersion {
		return at, fmt.Errorf("page %d of the queue is of a version that this program doesn't know", seq)
	}
	u := uncompact{b: data[macSize+1:]}
	at = u.time()
	for len(u.b) > 0 && u.err == nil {
		switch u.number() {
		case recordEntry:
			if e := u.entry(); u.err == nil {
				entry(e)
			}
		case recordGone:
			if id := u.text(); u.err == nil {
				gone(id)
			}
		default:
			u.fail()
		}
	}
	if u.err != nil {
		return at, fmt.Errorf("page %d of the queue: %w", seq, u.err)
	}
	return at, nil
}

// leaveAlone logs that a page is damaged, which must not stop the others; any
// other error it returns.
func (q *Queue) leaveAlone(err error) error {
	if errors.Is(err, store.ErrTampered) || errors.Is(err, errCompact) {
		q.c.Logger.Error("queue page left alone", "err", err)
		return nil
	}
	return err
}

// load replays the open volume.
func (q *Queue) load(tx store.Tx) error {
	b := &daybook{live: map[string]*Entry{}, words: q.book.words, buf: q.book.buf}
	var last int64
	if err := tx.Row(`SELECT last FROM queue_volume WHERE last > 0 ORDER BY last DESC LIMIT 1`, nil, &last); err != nil && !errors.Is(err, store.ErrNoRow) {
		return err
	}
	b.openVolume(last+1, q.c.Now(), q.c.Volume)
	b.next = b.first
	err := tx.Rows(`SELECT seq, data FROM queue_page WHERE seq > ? ORDER BY seq`, []any{last}, func(scan func(...any) error) error {
		var seq int64
		var data []byte
		if err := scan(&seq, &data); err != nil {
			return err
		}
		p := &page{live: map[string]*Entry{}}
		at, err := q.readPage(seq, data,
			func(e Entry) {
				if p.live[e.ID] = &e; e.State == Sent {
					p.arrived(e.ID, q.hash(e.Submission))
				}
			},
			func(id string) { p.live[id] = nil })
		if err = q.leaveAlone(err); err != nil {
			return err
		}
		if seq == b.first {
			b.opened = at
		}
		for _, s := range p.sent {
			q.seen.add(s.hash)
		}
		b.take(p, seq, len(data))
		return nil
	})
	if err != nil {
		return err
	}
	for _, e := range b.live {
		q.seen.add(q.hash(e.Submission))
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	*q.book = *b
	return nil
}

// reopen replays what the last process left, and settles what it had under way.
func (q *Queue) reopen(ctx context.Context) error {
	if q.book == nil {
		return nil
	}
	if err := q.c.Store.View(ctx, q.load); err != nil {
		return err
	}
	var changes []Change
	before := q.underway()
	for _, e := range before {
		changes = append(changes, left(e))
	}
	for some := range slices.Chunk(changes, 100) {
		if err := q.Settle(some); err != nil {
			return err
		}
	}
	for i, c := range changes {
		q.record(before[i], c.Entry)
	}
	return nil
}

// closeVolume writes the index of the open volume, and writes into p what is
// still live.
func (q *Queue) closeVolume(tx store.Tx, p *page) error {
	b := q.book
	last := b.next - 1
	if _, err := tx.Exec(`INSERT INTO queue_volume (last, closed, lo, hi) VALUES (?, ?, ?, ?)`, last, p.now.UnixMicro(), b.lo, b.hi); err != nil {
		return err
	}
	var parts [buckets][]byte
	for _, s := range b.sent {
		part := &parts[bucket(s.hash)]
		*part = binary.BigEndian.AppendUint64(*part, uint64(s.hash))
		*part = binary.BigEndian.AppendUint32(*part, s.id)
		*part = binary.BigEndian.AppendUint32(*part, uint32(last-s.page))
	}
	for i, part := range parts {
		if len(part) == 0 {
			continue
		}
		if _, err := tx.Exec(`INSERT INTO queue_found (bucket, volume, data) VALUES (?, ?, ?)`, i, last, part); err != nil {
			return err
		}
	}
	for _, e := range q.underway() {
		if _, ok := p.live[e.ID]; !ok {
			p.write(&e)
			p.live[e.ID] = &e
		}
	}
	return nil
}

// placeSize is the bytes of a place in a volume's index: hash, sum of the ID, and
// by how many pages it is before the last.
const placeSize = 16

// places calls f for what a part of the index of a volume has.
func places(volume int64, part []byte, f func(place)) {
	for ; len(part) >= placeSize; part = part[placeSize:] {
		f(place{int64(binary.BigEndian.Uint64(part)), binary.BigEndian.Uint32(part[8:]),
			volume - int64(binary.BigEndian.Uint32(part[12:]))})
	}
}

// retire removes one closed volume that is too old for anybody to repeat
// something that is in it, a thousand pages at a time; more says whether it is
// to be called again. One that was closed by a clock that was set back since counts
// from now on, so that it doesn't keep all that follow.
func (q *Queue) retire(tx store.Tx, now, before time.Time) (more bool, err error) {
	var last, closed int64
	err = tx.Row(`SELECT last, closed FROM queue_volume WHERE last > 0 ORDER BY last LIMIT 1`, nil, &last, &closed)
	if err == nil && closed > now.UnixMicro() { // with all that are like it
		_, err = tx.Exec(`UPDATE queue_volume SET closed = ? WHERE last > 0 AND closed > ?`, now.UnixMicro(), now.UnixMicro())
		return false, err
	}
	if errors.Is(err, store.ErrNoRow) || err == nil && closed >= before.UnixMicro() {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	n, err := tx.Exec(`DELETE FROM queue_page WHERE seq IN (SELECT seq FROM queue_page WHERE seq <= ? ORDER BY seq LIMIT 1000)`, last)
	if err != nil || n == 1000 {
		return true, err
	}
	for i := range buckets {
		if _, err := tx.Exec(`DELETE FROM queue_found WHERE bucket = ? AND volume = ?`, i, last); err != nil {
			return false, err
		}
	}
	_, err = tx.Exec(`DELETE FROM queue_volume WHERE last = ?`, last)
	return true, err
}

package queue

import (
	"context"
	"sync/atomic"
	"time"

	"letterlock.org/letterlock/internal/store"
)

// filter tells of a submission that it has surely not been seen, without asking
// the store: a Bloom filter of 2 MiB with four bits each. With a million
// submissions remembered it errs for two in a thousand, which costs a query.
// Only where nobody else writes to the store it can know.
type filter struct {
	bits  [1 << 18]atomic.Uint64
	ready atomic.Bool // it has all that the store has
}

// at calls f for the words and bits of a hash, which is uniform already.
func (b *filter) at(hash int64, f func(word *atomic.Uint64, bit uint64) bool) bool {
	h := uint64(hash)
	step := h>>32 | 1
	for range 4 {
		n := h % (1 << 24)
		if !f(&b.bits[n/64], 1<<(n%64)) {
			return false
		}
		h += step
	}
	return true
}

// note has the filter know of a submission, before it is in the store.
func (q *Queue) note(e *Entry) {
	if h := q.hash(e.Submission); h != 0 && q.seen != nil {
		q.seen.add(h)
	}
}

func (b *filter) add(hash int64) {
	b.at(hash, func(word *atomic.Uint64, bit uint64) bool { word.Or(bit); return true })
}

// unseen is true only if the submission with that hash is not in the store.
func (b *filter) unseen(hash int64) bool {
	return b.ready.Load() && !b.at(hash, func(word *atomic.Uint64, bit uint64) bool { return word.Load()&bit != 0 })
}

// fillFilter reads the hashes of what is stored, in pages of the index. It runs
// beside everything else, once.
func (q *Queue) fillFilter(ctx context.Context) {
	if q.c.Shared {
		return
	}
	last, lastID := int64(-1<<63), ""
	for n := 5000; n == 5000; {
		n = 0
		err := q.c.Store.View(ctx, func(tx store.Tx) error {
			n = 0
			return tx.Rows(`SELECT hash, id FROM queue_item WHERE hash <> 0 AND (hash, id) > (?, ?) ORDER BY hash, id LIMIT 5000`,
				[]any{last, lastID}, func(scan func(...any) error) error {
					n++
					err := scan(&last, &lastID)
					q.seen.add(last)
					return err
				})
		})
		if err != nil {
			if ctx.Err() == nil {
				q.c.Logger.Error("queue not read", "err", err)
			}
			return // it stays unready, and queries are asked
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Millisecond): // others want the store too
		}
	}
	if err := q.fillFromVolumes(ctx); err != nil {
		if ctx.Err() == nil {
			q.c.Logger.Error("queue not read", "err", err)
		}
		return
	}
	q.seen.ready.Store(true)
}

// fillFromVolumes reads the index of the daybook's closed volumes.
func (q *Queue) fillFromVolumes(ctx context.Context) error {
	part, volume := int64(-1), int64(0)
	for n := 100; n == 100; {
		n = 0
		err := q.c.Store.View(ctx, func(tx store.Tx) error {
			n = 0
			return tx.Rows(`SELECT bucket, volume, data FROM queue_found WHERE (bucket, volume) > (?, ?) ORDER BY bucket, volume LIMIT 100`,
				[]any{part, volume}, func(scan func(...any) error) error {
					n++
					var data []byte
					err := scan(&part, &volume, &data)
					places(volume, data, func(p place) { q.seen.add(p.hash) })
					return err
				})
		})
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
	return nil
}

package server

import (
	"context"
	"crypto/sha256"
	"fmt"
	"sync"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/processors"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/keydir"
)

// served is what the handler answers: the rows of the store as of a version.
type served struct {
	reading sync.Mutex // held while rows are read, so that versions only rise

	mu      sync.RWMutex      // guards what follows, not what is in table
	numbers map[string]uint32 // of domains, in table
	table   *table
	version int64
	read    bool             // all was read once
	last    time.Time        // when rows were read last
	skipped map[string]error // rows that can't be read, by address, and are not answered
	// spelled are the hashes of the addresses whose spelling has more in it than
	// upper and lower case in ASCII, by address: another has another hash.
	spelled map[string]hash
}

// rereadAfter is after how long without reading everything is read again: what was
// withdrawn leaves a row behind for goneFor only.
const rereadAfter = goneFor / 2

// Channel is where a change is announced to other nodes of a shared store, as a
// hint to Refresh.
const Channel = "keydir"

// Refresh reads what other nodes changed since the last time; the first time it
// reads everything, which Add, Remove and the first look-up do too.
func (d *Directory) Refresh(ctx context.Context) error {
	err := d.enterOld(ctx)
	if err == nil {
		err = d.catchUp(ctx)
	}
	if err != nil {
		return fmt.Errorf("reading the published certificates: %w", err)
	}
	return nil
}

// ready reads everything if that wasn't done yet.
func (d *Directory) ready(ctx context.Context) error {
	d.mu.RLock()
	read := d.read
	d.mu.RUnlock()
	if read {
		return nil
	}
	return d.Refresh(ctx)
}

// Close frees the memory of the answers. No look-up may follow.
func (d *Directory) Close() { d.table.close() }

// catchUp reads the rows that are newer than what is answered. It leaves the
// answers as they were where it fails.
func (d *Directory) catchUp(ctx context.Context) error {
	d.reading.Lock()
	defer d.reading.Unlock()
	b := newBatches(d)
	now := d.now().Round(0) // a machine that sleeps counts too
	all := !d.read || now.Sub(d.last).Abs() > rereadAfter
	if all && d.table.len() > 0 { // of an earlier time, or of a reading that broke off
		b.seen = map[entryKey]bool{}
	}
	err := d.store.View(ctx, func(tx store.Tx) error { return d.readNewer(tx, b, all) })
	b.end()
	if err == nil {
		err = b.err
	}
	if err != nil {
		return err
	}
	if b.seen != nil {
		d.forgetOthers(b.seen)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.version, d.read, d.last = b.version, true, now
	return nil
}

// forgetOthers ends the answers that are not among those of a whole reading.
func (d *Directory) forgetOthers(seen map[entryKey]bool) {
	var old []entryKey
	_ = d.table.each(func(k entryKey, _ []byte) error { // which has no other errors
		if !seen[k] {
			old = append(old, k)
		}
		return nil
	})
	for _, k := range old {
		d.table.remove(k)
	}
}

func (d *Directory) readNewer(tx store.Tx, b *batches, all bool) error {
	if err := tx.Row("SELECT version FROM keydirserver_version WHERE id = 1", nil, &b.version); err != nil {
		return err
	}
	query, args := selectRows+" WHERE version > ?", []any{d.version}
	if all {
		query, args = selectRows+" WHERE gone = 0", nil
	}
	return tx.Rows(query, args, func(scan func(...any) error) error {
		r := row{}
		if err := scan(r.dest()...); err != nil {
			return err
		}
		return b.add(r)
	})
}

// batches checks rows and puts them into the table, on all cores: a start with
// a million certificates shall not take long.
type batches struct {
	d       *Directory
	version int64
	rows    []row
	full    chan []row
	workers sync.WaitGroup

	mu   sync.Mutex // guards what follows
	err  error
	seen map[entryKey]bool // what rows were of; nil where nobody wants to know
}

// batchRows is how many rows are handed over at a time.
const batchRows = 256

func newBatches(d *Directory) *batches { return &batches{d: d} }

// add takes a row. It says what went wrong with earlier ones.
func (b *batches) add(r row) error {
	if b.rows = append(b.rows, r); len(b.rows) < batchRows {
		return nil
	}
	if b.full == nil {
		b.full = make(chan []row, 2)
		for range processors.Count() {
			b.workers.Go(func() {
				for rows := range b.full {
					b.take(rows)
				}
			})
		}
	}
	b.full <- b.rows
	b.rows = make([]row, 0, batchRows)
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}

// end waits for all.
func (b *batches) end() {
	b.take(b.rows)
	if b.full != nil {
		close(b.full)
	}
	b.workers.Wait()
}

func (b *batches) take(rows []row) {
	for i := range rows {
		k, err := b.d.apply(&rows[i])
		if err == nil && b.seen == nil {
			continue
		}
		b.mu.Lock()
		if err != nil {
			b.err = err
		} else {
			b.seen[k] = true
		}
		b.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// apply makes a row the answer. One that was tampered with is left out.
func (d *Directory) apply(r *row) (k entryKey, err error) {
	a, err := r.check(d.store)
	d.mu.Lock()
	if err != nil {
		if d.skipped == nil {
			d.skipped = map[string]error{}
		}
		d.skipped[r.address] = err
		d.mu.Unlock()
		return k, nil
	}
	delete(d.skipped, r.address)
	k = entryKey{d.number(a.Domain), hashOfAddress(a)}
	before := k
	if !a.IsASCII() {
		before = d.respelled(r, k)
	}
	d.mu.Unlock()
	if before != k {
		d.table.remove(before)
	}
	if r.gone {
		d.table.remove(k)
		return k, nil
	}
	return k, d.table.put(k, r.body, tagOf(r.body))
}

// respelled notes by what spelling an address is answered, and gives the one by
// which it was. The caller holds mu.
func (d *Directory) respelled(r *row, k entryKey) (before entryKey) {
	before = k
	if h, ok := d.spelled[r.address]; ok {
		before.hash = h
	}
	if d.spelled == nil {
		d.spelled = map[string]hash{}
	}
	if d.spelled[r.address] = k.hash; r.gone {
		delete(d.spelled, r.address)
	}
	return before
}

// number is that of a domain. The caller holds mu.
func (d *Directory) number(domain string) uint32 {
	n, ok := d.numbers[domain]
	if !ok {
		n = uint32(len(d.numbers) + 1)
		d.numbers[domain] = n
	}
	return n
}

// key names an answer; ok is false where nothing is published for the domain.
func (d *Directory) key(domain string, h hash) (k entryKey, ok bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	n, ok := d.numbers[domain]
	return entryKey{n, h}, ok
}

// unread is how many rows are left out, and why the first that is found is.
func (d *Directory) unread() (n int, err error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	for _, err = range d.skipped {
		break
	}
	return len(d.skipped), err
}

// tagOf is a body's entity tag.
func tagOf(body []byte) [16]byte {
	sum := sha256.Sum256(body)
	return [16]byte(sum[:])
}

func hashOfAddress(a address.Address) hash {
	h, _ := hashOf(keydir.WKDHash(a.Local))
	return h
}

package queue

import (
	"hash/fnv"
	"maps"
	"slices"
	"time"

	"letterlock.org/letterlock/internal/store"
)

// daybook is the journal of what is sent at once and arrives, which is nearly
// all: there, what a submission writes is two records in a page, and a page is a
// row that everybody writes who shares a sync. What takes longer, or ends in any
// other way, leaves the daybook for a row of its own in queue_item, in the same
// transaction.
//
// A record is a whole [Entry], Sending or Sent, or says that an entry has left.
// The last record of an ID counts. Pages make a volume: the open one is replayed
// when the process starts, so what it says of live entries is in memory always. A
// volume is closed after about [Config.Volume] bytes, with an index of what was sent
// in it; what is still live is written anew into the next one. Closed volumes are
// only read where a submission seems to be a repetition, or a person asks.
//
// Only a store of our own has a daybook: other nodes would not see what is live.
type daybook struct {
	// Only the writer uses what follows, and New before it.
	stale  bool // what was written last may be other than what is known here
	next   int64
	first  int64     // of the open volume's pages
	bytes  int       // of them
	limit  int       // of bytes; then it is closed
	opened time.Time // when the first of them was written
	lo, hi string    // IDs of what is sent in it
	buf    []byte
	words  map[string]int

	// Queue.mu guards what follows.
	live map[string]*Entry // what is Sending, by ID; entries are not changed
	sent []place           // in the open volume
}

// place says in which page a Sent entry is.
type place struct {
	hash int64  // of the submission
	id   uint32 // sum of the ID
	page int64
}

func sum(id string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(id))
	return h.Sum32()
}

// page is what one transaction writes into the daybook.
type page struct {
	c      compact
	now    time.Time
	n      int               // records
	live   map[string]*Entry // what becomes of live entries; nil is that it isn't any more
	sent   []place           // their pages are not yet numbered
	lo, hi string
	close  bool // the open volume is closed before it
	closed bool // it was
}

// Kinds of records.
const (
	recordEntry = iota + 1
	recordGone
)

// newPage begins a page, within the transaction that may write it.
func (q *Queue) newPage(tx store.Tx) (*page, error) {
	b := q.book
	if b.stale {
		if err := q.load(tx); err != nil {
			return nil, err
		}
	}
	clear(b.words)
	p := &page{now: q.c.Now(), live: map[string]*Entry{}, close: b.bytes >= b.limit}
	p.c = compact{b: append(b.buf[:0], make([]byte, macSize)...), words: b.words}
	p.c.b = append(p.c.b, pageVersion)
	p.c.time(p.now)
	return p, nil
}

// enter writes a change into the page where it belongs there. Otherwise the row
// has to be written, and is the only one that counts from now on.
func (q *Queue) enter(p *page, c *Change) (entered bool) {
	e := &c.Entry
	q.mu.Lock()
	_, live := q.book.live[e.ID]
	q.mu.Unlock()
	if was, ok := p.live[e.ID]; ok {
		live = was != nil
	}
	switch {
	case begins(c, live):
		q.note(e)
		p.write(e)
		kept := *e
		p.live[e.ID] = &kept
		return true
	case live && arrived(c):
		p.write(e)
		p.arrived(e.ID, q.hash(e.Submission))
		return true
	case live:
		p.gone(e.ID)
		c.IfOpen, c.Known = false, false // it is
		return c.Forget
	}
	return false
}

// begins tells whether a change is the first of its entry, right before the only
// final dot that it is to need.
func begins(c *Change, live bool) bool {
	return c.Bare && c.Entry.State == Sending && plain(c) && (live || !c.IfOpen)
}

// arrived tells whether all recipients of an entry have it, so that nothing more
// will become of it.
func arrived(c *Change) bool {
	return c.Entry.State == Sent && plain(c) &&
		!slices.ContainsFunc(c.Entry.Recipients, func(r Recipient) bool { return r.State != Sent })
}

// plain is a change of nothing but the entry.
func plain(c *Change) bool {
	return !c.Forget && c.Body == nil && c.Notice == "" && !c.Entry.Queued && !c.Entry.Report && len(c.Entry.Hold) == 0
}

// write writes the record of an entry.
func (p *page) write(e *Entry) {
	p.n++
	p.c.number(recordEntry)
	p.c.entry(e)
}

// arrived notes where an entry is Sent.
func (p *page) arrived(id string, hash int64) {
	p.live[id] = nil
	p.sent = append(p.sent, place{hash: hash, id: sum(id)})
	p.lo, p.hi = span(p.lo, p.hi, id)
}

// span widens a range of IDs; "", "" is the empty one.
func span(lo, hi, id string) (string, string) {
	if lo == "" {
		return id, id
	}
	return min(lo, id), max(hi, id)
}

func (p *page) gone(id string) {
	p.n++
	p.c.number(recordGone)
	p.c.text(id)
	p.live[id] = nil
}

// putPage writes what was entered, as the last statement of a transaction.
func (q *Queue) putPage(tx store.Tx, p *page) error {
	b := q.book
	p.closed = p.close && b.next > b.first
	if p.closed {
		if err := q.closeVolume(tx, p); err != nil {
			return err
		}
	}
	if p.n == 0 && !p.closed {
		return nil
	}
	copy(p.c.b, q.pageMAC(b.next, p.c.b[macSize:]))
	_, err := tx.Exec(`INSERT INTO queue_page (seq, data) VALUES (?, ?)`, b.next, p.c.b)
	return err
}

// turn takes over what has been written.
func (q *Queue) turn(p *page) {
	b := q.book
	if b.buf = p.c.b; cap(b.buf) > 1<<20 {
		b.buf = nil
	}
	if p.n == 0 && !p.closed {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if p.closed {
		b.openVolume(b.next, p.now, q.c.Volume+2*len(p.c.b)) // what is still live was carried over
	}
	b.take(p, b.next, len(p.c.b))
}

// openVolume begins a volume with that page.
func (b *daybook) openVolume(first int64, now time.Time, limit int) {
	b.first, b.bytes, b.limit, b.opened = first, 0, limit, now
	b.lo, b.hi, b.sent = "", "", nil
}

// take adds a page to the open volume. The caller holds Queue.mu.
func (b *daybook) take(p *page, seq int64, size int) {
	for id, e := range p.live {
		if e == nil {
			delete(b.live, id)
		} else {
			b.live[id] = e
		}
	}
	for _, s := range p.sent {
		s.page = seq
		b.sent = append(b.sent, s)
	}
	if p.lo != "" {
		b.lo, b.hi = span(b.lo, b.hi, p.lo)
		b.lo, b.hi = span(b.lo, b.hi, p.hi)
	}
	b.bytes += size
	b.next = seq + 1
}

// underway lists what is live, the oldest first.
func (q *Queue) underway() (es []Entry) {
	if q.book == nil {
		return nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(q.book.live)) {
		es = append(es, *q.book.live[id])
	}
	return es
}

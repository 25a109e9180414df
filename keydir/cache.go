package keydir

import (
	"container/list"
	"sync"
	"time"

	"letterlock.org/letterlock/internal/address"
)

// cacheEntries bounds what is kept in memory: peers that were written to last.
const cacheEntries = 4096

// cached is what is known of one address, ready to be answered.
type cached struct {
	key     string
	peer    *peer
	finding Finding
	// finding holds from one to before the other, whatever the clock does; until is
	// zero if it must be made anew
	from, until time.Time
}

// cache keeps stored peers, least recently used out first. It never holds
// anything that is not in the store.
type cache struct {
	// mu guards everything below.
	mu      sync.Mutex
	max     int
	entries map[string]*list.Element // of *cached
	order   *list.List               // most recently used first
	writes  uint64                   // counts forget, so that a slow reader doesn't keep what was overwritten
}

func newCache(max int) *cache {
	return &cache{max: max, entries: make(map[string]*list.Element), order: list.New()}
}

// finding is the answer that still holds for the address at that time.
func (c *cache) finding(a address.Address, key string, now time.Time) (Finding, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries[key]
	if !ok {
		return Finding{}, false
	}
	c.order.MoveToFront(e)
	v := e.Value.(*cached)
	if now.Before(v.from) || !now.Before(v.until) {
		return Finding{}, false
	}
	f := v.finding
	f.Address = a
	return f, true
}

// peer is what is stored of an address; state must be given to put.
func (c *cache) peer(key string) (p *peer, state uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.entries[key]; ok {
		c.order.MoveToFront(e)
		return e.Value.(*cached).peer, c.writes
	}
	return nil, c.writes
}

// put keeps what was read since state, unless something was written since.
func (c *cache) put(v *cached, state uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.writes != state {
		return
	}
	if e, ok := c.entries[v.key]; ok {
		e.Value = v
		c.order.MoveToFront(e)
		return
	}
	c.entries[v.key] = c.order.PushFront(v)
	for c.order.Len() > c.max {
		last := c.order.Back()
		delete(c.entries, last.Value.(*cached).key)
		c.order.Remove(last)
	}
}

// keep is put for who has a peer, but no finding: it doesn't displace one.
func (c *cache) keep(v *cached, state uint64) {
	c.mu.Lock()
	_, there := c.entries[v.key]
	c.mu.Unlock()
	if !there {
		c.put(v, state)
	}
}

// forget drops what a write made old.
func (c *cache) forget(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writes++
	if e, ok := c.entries[key]; ok {
		delete(c.entries, key)
		c.order.Remove(e)
	}
}

// clear drops everything.
func (c *cache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writes++
	clear(c.entries)
	c.order.Init()
}

package index

import (
	"container/list"
	"sync"

	"letterlock.org/letterlock/imapd/render"
	"letterlock.org/letterlock/internal/message"
)

// cacheEntries bounds the number of renderings kept, and so files held open
// and memory used, however small they are.
const cacheEntries = 512

type cacheKey struct {
	mailbox int64
	uid     uint32
}

// cache keeps the renderings used last, by their bytes.
type cache struct {
	limit int64

	mu    sync.Mutex
	bytes int64                      // guarded by mu
	byKey map[cacheKey]*list.Element // guarded by mu
	order *list.List                 // guarded by mu; of *cached, newest first
}

// cached is a rendering; its spool is closed when it is neither in the cache
// nor held by anyone.
type cached struct {
	key     cacheKey
	row     *Row
	message *render.Message
	spool   *message.Spool

	mu   sync.Mutex
	uses int // guarded by mu; the cache itself is one
}

func newCache(limit int64) *cache {
	return &cache{limit: limit, byKey: map[cacheKey]*list.Element{}, order: list.New()}
}

// get gives a rendering that the caller releases, or nil.
func (c *cache) get(key cacheKey) *cached {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.byKey[key]
	if e == nil {
		return nil
	}
	c.order.MoveToFront(e)
	held := e.Value.(*cached)
	held.hold()
	return held
}

// add puts a rendering into the cache, which owns the spool from then on, and
// gives it to the caller to release. One larger than the whole cache only lives
// as long as it is held.
func (c *cache) add(key cacheKey, row *Row, m *render.Message, spool *message.Spool) *cached {
	held := &cached{key: key, row: row, message: m, spool: spool, uses: 1}
	if spool.Size() > c.limit {
		return held
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if old := c.byKey[key]; old != nil {
		c.drop(old)
	}
	held.hold()
	c.byKey[key] = c.order.PushFront(held)
	c.bytes += spool.Size()
	for c.bytes > c.limit || c.order.Len() > cacheEntries {
		c.drop(c.order.Back())
	}
	return held
}

// drop takes an element out; c.mu is held.
func (c *cache) drop(e *list.Element) {
	held := c.order.Remove(e).(*cached)
	delete(c.byKey, held.key)
	c.bytes -= held.spool.Size()
	held.release()
}

func (c *cache) remove(m *Mailbox, uids []uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, uid := range uids {
		if e := c.byKey[cacheKey{m.id, uid}]; e != nil {
			c.drop(e)
		}
	}
}

// removeAll drops every rendering of a mailbox.
func (c *cache) removeAll(mailbox int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, e := range c.byKey {
		if key.mailbox == mailbox {
			c.drop(e)
		}
	}
}

func (c *cache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.order.Len() > 0 {
		c.drop(c.order.Back())
	}
}

func (h *cached) hold() {
	h.mu.Lock()
	h.uses++
	h.mu.Unlock()
}

func (h *cached) release() {
	h.mu.Lock()
	h.uses--
	last := h.uses == 0
	h.mu.Unlock()
	if last {
		h.spool.Close()
	}
}

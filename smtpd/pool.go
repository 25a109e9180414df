package smtpd

import (
	"context"
	"crypto/sha256"
	"sync"
	"time"
)

// Idle connections: how many per login, and for how long. Postfix and others
// drop a silent client after minutes; we leave before.
const (
	poolIdle  = 30 * time.Second
	poolCount = 8
)

// pool keeps connections to upstreams between sessions, so that not every
// message pays for TLS and AUTH. Safe for concurrent use.
type pool struct {
	t      Timeouts
	now    func() time.Time
	mu     sync.Mutex // guards what follows
	idle   map[poolKey][]*client
	closed bool
	timer  *time.Timer
}

// poolKey is a login; a connection never serves another one.
type poolKey struct {
	name, user string
	mode       TLSMode
	password   [32]byte
}

func keyOf(u Upstream) poolKey {
	return poolKey{u.Name, u.User, u.Mode, sha256.Sum256([]byte(u.Password))}
}

func newPool(t Timeouts, now func() time.Time) *pool {
	return &pool{t: t, now: now, idle: map[poolKey][]*client{}}
}

// get returns an idle connection or dials one.
func (p *pool) get(ctx context.Context, u Upstream) (*client, error) {
	if c := p.take(keyOf(u)); c != nil {
		return c, nil
	}
	return dial(ctx, u, p.t)
}

func (p *pool) take(k poolKey) *client {
	p.mu.Lock()
	defer p.mu.Unlock()
	for list := p.idle[k]; len(list) > 0; list = p.idle[k] {
		c := list[len(list)-1]
		p.idle[k] = list[:len(list)-1]
		if p.now().Sub(c.idleSince) < poolIdle {
			return c
		}
		c.close()
	}
	return nil
}

// put takes a connection back; one that is broken or too many is closed.
func (p *pool) put(u Upstream, c *client) {
	if c == nil {
		return
	}
	if c.broken {
		c.close()
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	k := keyOf(u)
	if p.closed || len(p.idle[k]) >= poolCount {
		c.quit()
		return
	}
	c.idleSince = p.now()
	p.idle[k] = append(p.idle[k], c)
	if p.timer == nil {
		p.timer = time.AfterFunc(poolIdle, p.sweep)
	}
}

// sweep closes what was idle for too long.
func (p *pool) sweep() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.timer = nil
	for k, list := range p.idle {
		keep := list[:0]
		for _, c := range list {
			if p.now().Sub(c.idleSince) < poolIdle {
				keep = append(keep, c)
			} else {
				c.quit()
			}
		}
		if p.idle[k] = keep; len(keep) == 0 {
			delete(p.idle, k)
		}
	}
	if len(p.idle) > 0 && !p.closed {
		p.timer = time.AfterFunc(poolIdle, p.sweep)
	}
}

// close ends all idle connections.
func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	if p.timer != nil {
		p.timer.Stop()
	}
	for _, list := range p.idle {
		for _, c := range list {
			c.quit()
		}
	}
	clear(p.idle)
}

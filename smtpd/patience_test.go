package smtpd_test

import (
	"context"
	"net"
	"sync"
	"time"
)

// patience has time-outs of connections pass when a double says so, and never
// because a machine is slow.
type patience struct {
	mu     sync.Mutex
	conns  map[string]*patient // by the address of our end
	ended  map[string]bool     // of which the time is over
	waited time.Duration
}

// dial is a dial whose connections have it.
func (p *patience) dial(dial func(context.Context) (net.Conn, error)) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		c, err := dial(ctx)
		if err != nil {
			return nil, err
		}
		k := &patient{TCPConn: c.(*net.TCPConn), p: p, at: c.LocalAddr().String()}
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.conns == nil {
			p.conns, p.ended = map[string]*patient{}, map[string]bool{}
		}
		p.conns[k.at] = k
		return k, nil
	}
}

// ends has all deadlines of the other end of c pass, those to come too.
func (p *patience) ends(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended == nil {
		p.conns, p.ended = map[string]*patient{}, map[string]bool{}
	}
	at := c.RemoteAddr().String()
	p.ended[at] = true
	if k := p.conns[at]; k != nil && !k.until.IsZero() {
		k.expire()
	}
}

// longest is how long somebody would have waited for a read whose time has ended.
func (p *patience) longest() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.waited
}

// patient is a connection with patience.
type patient struct {
	*net.TCPConn
	p     *patience
	at    string
	until time.Time // the deadline of reads; p.mu guards it
}

// SetReadDeadline implements net.Conn.
func (k *patient) SetReadDeadline(at time.Time) error {
	k.p.mu.Lock()
	defer k.p.mu.Unlock()
	k.until = at
	if err := k.TCPConn.SetReadDeadline(at); err != nil {
		return err
	}
	if k.p.ended[k.at] && !at.IsZero() {
		k.expire()
	}
	return nil
}

// expire has the deadline pass now; the caller holds p.mu.
func (k *patient) expire() {
	k.p.waited = max(k.p.waited, time.Until(k.until))
	k.TCPConn.SetReadDeadline(time.Unix(1, 0))
}

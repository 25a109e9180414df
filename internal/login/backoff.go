package login

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"
)

const (
	freeFailures = 3               // before the first wait
	longestWait  = 5 * time.Minute // between attempts
	forgetAfter  = time.Hour
	maxTracked   = 4096
)

// failKey is what failures count against: where from, and whose account; the
// empty account stands for all unknown ones together.
type failKey struct{ host, account string }

type failure struct {
	count int
	until time.Time // no attempt before
	last  time.Time
}

// backoff makes the wait after each failure twice as long as the one before.
type backoff struct {
	now   func() time.Time
	mu    sync.Mutex // guards what follows
	m     map[failKey]failure
	turns map[failKey]*turn // of those that are being compared
}

// turn is held by the one attempt of its key that is being compared.
type turn struct {
	held chan struct{} // full while it is
	n    int           // attempts that have it or wait for it
}

func newBackoff(now func() time.Time) *backoff {
	return &backoff{now: now, m: map[failKey]failure{}, turns: map[failKey]*turn{}}
}

// turn waits until no other attempt of k is being compared.
func (b *backoff) turn(ctx context.Context, k failKey) (done func(), err error) {
	b.mu.Lock()
	t := b.turns[k]
	if t == nil {
		t = &turn{held: make(chan struct{}, 1)}
		b.turns[k] = t
	}
	t.n++
	b.mu.Unlock()
	leave := func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if t.n--; t.n == 0 {
			delete(b.turns, k)
		}
	}
	select {
	case t.held <- struct{}{}:
		return func() { <-t.held; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
}

func (b *backoff) blocked(k failKey) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.now().Before(b.m[k].until)
}

// add counts a failure and tells whether it fell into a wait.
func (b *backoff) add(k failKey) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	f := b.m[k]
	if now.Sub(f.last) > forgetAfter {
		f = failure{}
	}
	early := now.Before(f.until)
	f.count++
	f.last = now
	if n := f.count - freeFailures; n > 0 {
		f.until = now.Add(min(time.Second<<min(n-1, 16), longestWait))
	}
	if _, ok := b.m[k]; !ok && len(b.m) >= maxTracked {
		b.evict(now)
	}
	b.m[k] = f
	return early
}

// evict makes room: what is forgotten anyway, else the entry that failed least.
func (b *backoff) evict(now time.Time) {
	var least failKey
	found := false
	for k, f := range b.m {
		if now.Sub(f.last) > forgetAfter {
			delete(b.m, k)
		} else if !found || f.count < b.m[least].count {
			least, found = k, true
		}
	}
	if len(b.m) >= maxTracked {
		delete(b.m, least)
	}
}

func (b *backoff) clear(k failKey) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.m, k)
}

// hostOf is what of an address failures count against: of IPv6 the network of 64
// bits, all of which one host may use (RFC 4291, Section 2.5.1).
func hostOf(a net.Addr) string {
	if a == nil {
		return ""
	}
	host, _, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.String()
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return host
	}
	ip = ip.Unmap().WithZone("")
	if ip.Is4() || ip.IsLoopback() {
		return ip.String()
	}
	network, err := ip.Prefix(64)
	if err != nil {
		return host
	}
	return network.String()
}

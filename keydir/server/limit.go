package server

import (
	"net/netip"
	"sync"
	"time"
)

// maxClients bounds what the limiter remembers; beyond, it forgets everyone.
const maxClients = 10_000

// limiter is a token bucket per client.
type limiter struct {
	rate, burst float64
	now         func() time.Time
	// of is what counts as one; clientPrefix if nil.
	of func(remote string) (netip.Prefix, bool)

	mu      sync.Mutex // guards buckets
	buckets map[netip.Prefix]bucket
}

type bucket struct {
	tokens float64
	at     time.Time
}

// allow takes a token of the client at remote, "ip:port". Who has no IP address
// (a Unix socket) and who is on loopback is not limited.
func (l *limiter) allow(remote string) bool {
	of := l.of
	if of == nil {
		of = clientPrefix
	}
	client, ok := of(remote)
	if !ok {
		return true
	}
	now := l.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	b, known := l.buckets[client]
	switch {
	case !known && (l.buckets == nil || len(l.buckets) >= maxClients):
		l.buckets = map[netip.Prefix]bucket{}
		fallthrough
	case !known:
		b = bucket{l.burst, now}
	default:
		b.tokens = min(l.burst, b.tokens+max(0, now.Sub(b.at).Seconds())*l.rate)
		b.at = now
	}
	if b.tokens < 1 {
		l.buckets[client] = b
		return false
	}
	b.tokens--
	l.buckets[client] = b
	return true
}

// clientPrefix is what one client has of the address space: an IPv4 address, or a
// /64 of IPv6. It is false of who has no IP address, and of loopback.
func clientPrefix(remote string) (netip.Prefix, bool) { return prefixOf(remote, 64) }

// sitePrefix is what one site has: an IPv4 address, or a /48 of IPv6 (RFC 6177).
func sitePrefix(remote string) (netip.Prefix, bool) { return prefixOf(remote, 48) }

func prefixOf(remote string, bits int) (netip.Prefix, bool) {
	ap, err := netip.ParseAddrPort(remote)
	if err != nil || ap.Addr().Unmap().IsLoopback() {
		return netip.Prefix{}, false
	}
	ip := ap.Addr().Unmap().WithZone("")
	if ip.Is4() {
		bits = 32
	}
	client, err := ip.Prefix(bits)
	return client, err == nil
}

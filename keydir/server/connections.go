package server

import (
	"net"
	"net/netip"
	"sync"

	"github.com/valyala/fasthttp"
)

// Bounds of what is open at a time: in all, and by one client. Who has no IP
// address and who is on loopback (a reverse proxy) has the first alone.
const (
	maxConnections       = 10_000
	maxClientConnections = 200
)

// connections counts what is open, so that one slow client doesn't keep the
// others out.
type connections struct {
	mu   sync.Mutex // guards open
	open map[netip.Prefix]int
}

// state is a fasthttp.Server's ConnState: each connection is new once, and ends
// once.
func (l *connections) state(c net.Conn, s fasthttp.ConnState) {
	if s != fasthttp.StateNew && s != fasthttp.StateClosed && s != fasthttp.StateHijacked {
		return
	}
	client, ok := clientPrefix(c.RemoteAddr().String())
	if !ok {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if s != fasthttp.StateNew {
		if l.open[client]--; l.open[client] <= 0 {
			delete(l.open, client)
		}
		return
	}
	if l.open == nil {
		l.open = map[netip.Prefix]int{}
	}
	if l.open[client]++; l.open[client] > maxClientConnections {
		_ = c.Close() // whoever reads it sees its end
	}
}

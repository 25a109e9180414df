package keydir

import (
	"context"
	"fmt"
	"sync"

	"letterlock.org/letterlock/internal/mishap"
)

// maxLookups bounds how many directories are asked at a time.
const maxLookups = 16

// flights lets one look-up per address be under way; who comes later waits for
// the same one.
type flights struct {
	mu    *sync.Mutex // guards calls
	calls map[string]*flight
	slots chan struct{}
}

type flight struct {
	done chan struct{} // closed when attempts and err are set
	lookup
}

// lookup is what a flight brings home.
type lookup struct {
	attempts []Attempt
	err      error // a fault of our own
}

func newFlights(max int) flights {
	return flights{mu: new(sync.Mutex), calls: map[string]*flight{}, slots: make(chan struct{}, max)}
}

// join is the flight for key, started by run on a goroutine of its own if there
// is none. A panic is a fault of our own, for all who wait for it.
func (f flights) join(key string, start func(func()), run func() lookup) *flight {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c, ok := f.calls[key]; ok {
		return c
	}
	c := &flight{done: make(chan struct{})}
	f.calls[key] = c
	start(func() {
		defer func() {
			if p := recover(); p != nil {
				c.lookup = lookup{err: fmt.Errorf("looking for a certificate: %s", mishap.Text(p))}
			}
			f.mu.Lock()
			delete(f.calls, key)
			f.mu.Unlock()
			close(c.done)
		}()
		c.lookup = run()
	})
	return c
}

// slot waits for leave to ask a directory; release gives it back.
func (f flights) slot(ctx context.Context) (release func(), err error) {
	select {
	case f.slots <- struct{}{}:
		return func() { <-f.slots }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

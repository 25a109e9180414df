package pgp

import (
	"io"
	"sync"
)

// Sizes of ahead: what it passes on directly, and its pieces.
const (
	aheadAfter = 256 << 10
	aheadChunk = 64 << 10
)

// ahead is a writer that lets another goroutine do the writing once a message
// proves long, so that a second processor helps with it. Not for concurrent use.
type ahead struct {
	w       io.Writer
	direct  int // bytes passed on directly
	cur     []byte
	full    chan []byte // nil before the goroutine runs
	free    chan []byte
	done    chan struct{}
	mu      sync.Mutex // guards err
	err     error
	stopped bool
}

func (a *ahead) Write(p []byte) (int, error) {
	if a.direct < aheadAfter {
		a.direct += len(p)
		return a.w.Write(p)
	}
	if a.full == nil {
		a.start()
	}
	for rest := p; len(rest) > 0; {
		n := copy(a.cur[len(a.cur):cap(a.cur)], rest)
		a.cur, rest = a.cur[:len(a.cur)+n], rest[n:]
		if len(a.cur) == cap(a.cur) {
			a.full <- a.cur
			a.cur = <-a.free
		}
	}
	return len(p), a.failed()
}

func (a *ahead) start() {
	a.full, a.free, a.done = make(chan []byte, 2), make(chan []byte, 3), make(chan struct{})
	for range 2 {
		a.free <- make([]byte, 0, aheadChunk)
	}
	a.cur = make([]byte, 0, aheadChunk)
	go func() {
		defer close(a.done)
		for b := range a.full {
			if a.failed() == nil {
				a.pass(b)
			}
			a.free <- b[:0]
		}
	}()
}

// pass writes b. A panic of what is below ends the message only.
func (a *ahead) pass(b []byte) {
	var err error
	defer func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.err = err
	}()
	defer caught(&err)
	_, err = a.w.Write(b)
}

func (a *ahead) failed() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.err
}

// Close waits until all is written, and returns the first error. It doesn't
// close w. It must be called, also after an error, and may be called twice.
func (a *ahead) Close() error {
	if a.full != nil && !a.stopped {
		a.stopped = true
		a.full <- a.cur
		close(a.full)
		<-a.done
	}
	return a.failed()
}

package store

import (
	"context"
	"errors"
	"strings"
	"sync"
	"unicode/utf8"
)

// hub passes notifications on within the process.
type hub struct {
	mu    sync.Mutex // guards heard
	heard map[string]map[*listener]bool
}

// listener is one Listen; notifications wait in payloads, each once.
type listener struct {
	mu       sync.Mutex // guards payloads
	payloads []string
	wake     chan struct{}
}

// maxPayloads bounds what waits for a listener who is busy; beyond it, what
// waits becomes the one notification that says "look at everything".
const maxPayloads = 100

func (l *listener) put(payload string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.payloads {
		if p == payload || p == "" {
			return
		}
	}
	if payload == "" || len(l.payloads) >= maxPayloads {
		l.payloads, payload = l.payloads[:0], ""
	}
	l.payloads = append(l.payloads, payload)
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *listener) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.payloads
	l.payloads = nil
	return p
}

// tell wakes those who listen on channel; on "", everybody.
func (h *hub) tell(channel, payload string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c, ls := range h.heard {
		if c == channel || channel == "" {
			for l := range ls {
				l.put(payload)
			}
		}
	}
}

// listen calls f until ctx or end ends.
func (h *hub) listen(ctx context.Context, end <-chan struct{}, channel string, f func(string)) error {
	l := &listener{wake: make(chan struct{}, 1)}
	h.mu.Lock()
	if h.heard == nil {
		h.heard = map[string]map[*listener]bool{}
	}
	if h.heard[channel] == nil {
		h.heard[channel] = map[*listener]bool{}
	}
	h.heard[channel][l] = true
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.heard[channel], l)
	}()
	l.put("")
	for {
		select {
		case <-l.wake:
			for _, p := range l.take() {
				f(p)
			}
		case <-end:
			return ErrClosed
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// maxPayload is the bytes of a notification.
const maxPayload = 1000

func checkNotification(channel, payload string) error {
	if !isWord(channel) || len(payload) > maxPayload || strings.ContainsRune(payload, 0) || !utf8.ValidString(payload) {
		return errors.New("not a notification: the channel is a word, the payload is text of at most 1000 bytes")
	}
	return nil
}

// isWord: a to z, 0 to 9 and _, not too long, as in names of tables.
func isWord(s string) bool {
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' {
			return false
		}
	}
	return s != "" && len(s) <= 40
}

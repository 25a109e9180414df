package smtpd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"letterlock.org/letterlock/internal/mishap"
)

// accept takes connections of one listener.
func (s *Server) accept(ctx context.Context, l Listener) error {
	for {
		c, err := l.Accept()
		if ctx.Err() != nil {
			if err == nil {
				c.Close()
			}
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("listener %s: %w", l.Addr(), err)
		}
		if err != nil { // such as too many open files: it passes
			s.c.Logger.Error("accept", "listener", l.Addr().String(), "err", err)
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
			}
			continue
		}
		k := s.admit(c)
		if k == nil {
			c.SetWriteDeadline(time.Now().Add(time.Second))
			io.WriteString(c, "421 4.7.0 too many sessions, try again later\r\n")
			c.Close()
			continue
		}
		go s.serve(k, l)
	}
}

// admit registers a connection, or returns nil if there are too many.
func (s *Server) admit(c net.Conn) *conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.draining && len(s.conns) >= s.c.MaxSessions {
		s.makeRoom()
	}
	if s.draining || len(s.conns) >= s.c.MaxSessions {
		return nil
	}
	var k *conn
	k = newConn(c, s.c.Timeouts, time.Now(), func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.conns, k)
		s.strangers.Remove(k.stranger)
	})
	s.conns[k], k.stranger = false, s.strangers.PushBack(k)
	s.sessions.Add(1)
	return k
}

// makeRoom ends the connection that has waited longest without logging in, if
// there is one: whoever only connects keeps nobody out. The caller holds s.mu.
func (s *Server) makeRoom() {
	if first := s.strangers.Front(); first != nil {
		k := s.strangers.Remove(first).(*conn)
		delete(s.conns, k)
		go k.close()
	}
}

// known tells that a connection is no stranger's any more.
func (s *Server) known(k *conn) {
	k.loggedIn.Store(true)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.strangers.Remove(k.stranger)
}

// serve runs one connection. A panic in it ends it only.
func (s *Server) serve(k *conn, l Listener) {
	defer s.sessions.Done()
	defer k.bye()
	log := s.c.Logger.With("session", k.raw.RemoteAddr().String())
	if l.Implicit {
		ctx, cancel := context.WithTimeout(s.ctx, s.c.Timeouts.Connect)
		err := k.handshake(ctx, s.c.TLS)
		cancel()
		if err != nil {
			log.Debug("session", "err", fmt.Errorf("TLS handshake: %w", err))
			k.close()
			return
		}
	}
	t := newSession(s, l, k, log)
	defer t.logout()
	defer func() {
		if p := recover(); p != nil {
			log.Error("session", "err", mishap.Text(p))
			if t.up != nil { // nobody knows what it was at
				t.up.broken = true
			}
			k.put(421, "4.3.0", "internal error")
		}
	}()
	if err := t.run(); err != nil {
		log.Debug("session", "err", err)
	}
}

// maxSize is the SIZE that we offer: what we take, and what the upstream takes
// less what encryption adds (base64 over base64 of 78-byte lines).
func (s *Server) maxSize(caps Capabilities) int64 {
	if caps.Size > 0 {
		return min(s.c.MaxSize, max(caps.Size/14*10-64<<10, 64<<10))
	}
	return s.c.MaxSize
}

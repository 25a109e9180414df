package smtpd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-smtp"
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
		g := s.admit(c, l)
		if g == nil {
			c.SetWriteDeadline(time.Now().Add(time.Second))
			io.WriteString(c, "421 4.7.0 too many sessions, try again later\r\n")
			c.Close()
			continue
		}
		go s.serve(g, l)
	}
}

// admit registers a connection, or returns nil if there are too many.
func (s *Server) admit(c net.Conn, l Listener) *guard {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.draining && len(s.conns) >= s.c.MaxSessions {
		s.makeRoom()
	}
	if s.draining || len(s.conns) >= s.c.MaxSessions {
		return nil
	}
	g := &guard{since: time.Now(), idle: s.c.Timeouts.Client, first: true, tls: l.Implicit}
	g.Conn = c
	if l.Implicit {
		g.Conn = tls.Server(c, s.c.TLS)
	}
	s.conns[g] = false
	s.sessions.Add(1)
	g.close = sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.conns, g)
	})
	return g
}

// makeRoom ends the connection that has waited longest without logging in, if
// there is one: whoever only connects keeps nobody out. The caller holds s.mu.
func (s *Server) makeRoom() {
	var oldest *guard
	for g := range s.conns {
		if !g.loggedIn.Load() && (oldest == nil || g.since.Before(oldest.since)) {
			oldest = g
		}
	}
	if oldest != nil {
		delete(s.conns, oldest)
		go oldest.Close()
	}
}

// serve runs one connection through a go-smtp server of its own, since what is
// offered in EHLO belongs to a whole server there.
func (s *Server) serve(g *guard, l Listener) {
	defer s.sessions.Done()
	defer g.Close()
	if tc, ok := g.Conn.(*tls.Conn); ok {
		ctx, cancel := context.WithTimeout(s.ctx, s.c.Timeouts.Connect)
		err := tc.HandshakeContext(ctx)
		cancel()
		if err != nil {
			s.c.Logger.Debug("session", "err", fmt.Errorf("TLS handshake: %w", err))
			return
		}
	}
	var caps Capabilities
	if l.Capabilities != nil {
		caps = l.Capabilities()
	}
	sessions := &backend{server: s, listener: l, guard: g}
	srv := smtp.NewServer(sessions)
	srv.Domain = s.c.Domain
	srv.MaxRecipients = s.c.MaxRecipients
	srv.MaxMessageBytes = s.maxSize(caps)
	srv.MaxLineLength = 1 << 20  // encryption wraps lines anew
	srv.AllowInsecureAuth = true // Session.AuthMechanisms decides
	srv.EnableSMTPUTF8 = caps.UTF8
	srv.EnableDSN = caps.DSN
	srv.ErrorLog = errorLog{s.c.Logger}
	if !l.Implicit {
		srv.TLSConfig = s.c.TLS
	}
	srv.Serve(&oneConn{conn: g}) // ends at once; the connection goes on
	srv.Shutdown(context.Background())
	sessions.end()
}

// maxSize is the SIZE that we offer: what we take, and what the upstream takes
// less what encryption adds (base64 over base64 of 78-byte lines).
func (s *Server) maxSize(caps Capabilities) int64 {
	if caps.Size > 0 {
		return min(s.c.MaxSize, max(caps.Size*10/14-64<<10, 64<<10))
	}
	return s.c.MaxSize
}

// oneConn is a net.Listener with one connection.
type oneConn struct{ conn net.Conn }

func (l *oneConn) Accept() (net.Conn, error) {
	if c := l.conn; c != nil {
		l.conn = nil
		return c, nil
	}
	return nil, io.EOF
}

func (l *oneConn) Close() error { return nil }

func (l *oneConn) Addr() net.Addr { return &net.TCPAddr{} }

// errorLog takes what go-smtp logs: its first line only, since stacks are of no
// use to an operator.
type errorLog struct{ l *slog.Logger }

func (e errorLog) Printf(format string, v ...any) {
	first, _, _ := strings.Cut(fmt.Sprintf(format, v...), "\n")
	if strings.HasPrefix(first, "panic") {
		e.l.Error("session", "err", first)
	} else {
		e.l.Debug("session", "err", first)
	}
}

func (e errorLog) Println(v ...any) { e.Printf("%s", fmt.Sprintln(v...)) }

// Package imapd is the IMAP side of Letterlock: a relay between a mail program
// and the upstream server, which shows encrypted mail decrypted.
//
// Everything that need not be understood is forwarded as it came, from
// default-deny lists of capabilities and commands. UIDs, sequence numbers,
// UIDVALIDITY and MODSEQ are the upstream's own. A message's class (see
// imapd/index) is known before any content item of it is answered; for an
// encrypted message all of them are answered from one rendering, so that sizes,
// structure, header and sections describe exactly the bytes that are delivered.
//
// A [Server] has one session for each client, with one upstream connection
// each. Answers come out in the order of the commands. A command that is
// rewritten into several is a barrier: it waits for those before it, and those
// after it wait.
package imapd

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"time"
)

// ErrServerClosed is what Serve returns after Shutdown.
var ErrServerClosed = errors.New("imap server closed")

// Server serves IMAP clients. Its methods may be called concurrently.
type Server struct {
	c    Config
	made madeFor

	mu        sync.Mutex
	closed    bool
	listeners map[net.Listener]bool
	sessions  map[*session]bool
	running   sync.WaitGroup
}

// New makes a Server.
func New(c Config) *Server {
	return &Server{c: c.withDefaults(), listeners: map[net.Listener]bool{}, sessions: map[*session]bool{}}
}

// Serve accepts clients until ctx ends or Shutdown is called. With implicitTLS
// the listener's connections are TLS already, or are wrapped with Config.TLS if
// they are not. It closes l.
func (s *Server) Serve(ctx context.Context, l net.Listener, implicitTLS bool) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		_ = l.Close()
		return ErrServerClosed
	}
	s.listeners[l] = true
	s.mu.Unlock()
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	defer func() {
		_ = l.Close()
		s.mu.Lock()
		delete(s.listeners, l)
		s.mu.Unlock()
	}()
	for {
		conn, err := l.Accept()
		if err != nil {
			if s.isClosed() || ctx.Err() != nil {
				return ErrServerClosed
			}
			var temporary interface{ Temporary() bool }
			if errors.As(err, &temporary) && temporary.Temporary() {
				select { // out of file descriptors: others will go
				case <-ctx.Done():
				case <-time.After(100 * time.Millisecond):
				}
				continue
			}
			return err
		}
		if _, is := conn.(*tls.Conn); implicitTLS && !is && s.c.TLS != nil {
			conn = tls.Server(conn, s.c.TLS)
		}
		s.start(ctx, conn)
	}
}

// start runs a session for conn.
func (s *Server) start(ctx context.Context, conn net.Conn) {
	ses := newSession(s, conn)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed && len(s.sessions) >= s.c.MaxSessions {
		s.makeRoom()
	}
	if s.closed || len(s.sessions) >= s.c.MaxSessions {
		go func() {
			_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
			_, _ = conn.Write([]byte("* BYE [UNAVAILABLE] too many connections\r\n"))
			_ = conn.Close()
		}()
		return
	}
	s.sessions[ses] = true
	s.running.Add(1)
	go func() {
		defer s.running.Done()
		defer func() {
			s.mu.Lock()
			delete(s.sessions, ses)
			s.mu.Unlock()
		}()
		ses.run(ctx)
	}()
}

// makeRoom ends the session that has waited longest without logging in, if there
// is one: whoever only connects keeps nobody out. The caller holds s.mu.
func (s *Server) makeRoom() {
	var oldest *session
	for ses := range s.sessions {
		if !ses.loggedIn.Load() && (oldest == nil || ses.since.Before(oldest.since)) {
			oldest = ses
		}
	}
	if oldest != nil {
		delete(s.sessions, oldest)
		go oldest.bye("UNAVAILABLE", "too many connections")
	}
}

func (s *Server) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// Shutdown stops listening and says BYE to the clients, to those of which something is
// under way when it is done, or after Config.Grace. It waits for their sessions to end,
// until ctx does; then they are cut off.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	for l := range s.listeners {
		_ = l.Close()
	}
	for ses := range s.sessions {
		go ses.depart()
	}
	s.mu.Unlock()
	done := make(chan struct{})
	go func() { s.running.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	for ses := range s.sessions {
		ses.cut()
	}
	s.mu.Unlock()
	return ctx.Err()
}

package smtpd

import (
	"cmp"
	"container/list"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"letterlock.org/letterlock/audit"
	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/meter"
)

// Server serves mail programs. Make it with New.
type Server struct {
	c      Config
	pool   *pool
	ctx    context.Context // ends when sessions must
	cancel context.CancelFunc

	mu       sync.Mutex // guards what follows
	accounts map[string]*Account
	faults   map[string]Fault // by account
	conns    map[*conn]bool   // to whether a message is being worked on
	// strangers are the *conn of those who have not logged in, the oldest first.
	strangers list.List
	draining  bool
	sessions  sync.WaitGroup
	serving   sync.WaitGroup
	stop      context.CancelFunc // of Serve
}

// New checks c and makes a server.
func New(c Config) (*Server, error) {
	if c.Queue == nil {
		return nil, errors.New("smtpd: no queue configured")
	}
	for _, l := range c.Listeners {
		if l.Login == nil && l.Open == nil {
			return nil, errors.New("smtpd: a listener without Login and Open")
		}
		if l.Implicit && c.TLS == nil {
			return nil, errors.New("smtpd: implicit TLS needs a certificate")
		}
	}
	c.Domain = cmp.Or(c.Domain, "letterlock.invalid")
	c.MaxSize = cmp.Or(c.MaxSize, 64<<20)
	c.MaxRecipients = cmp.Or(c.MaxRecipients, 100)
	c.MaxSessions = cmp.Or(c.MaxSessions, 256)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Count == nil {
		c.Count = func(string) {}
	}
	if c.Audit == nil {
		c.Audit = audit.Discard
	}
	if c.Meter == nil {
		c.Meter = meter.Discard
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	c.Timeouts = c.Timeouts.withDefaults()
	// A protected message is longer than what was submitted: base64 twice.
	c.Spool.Limit = max(c.Spool.Limit, 2*c.MaxSize+1<<20)
	s := &Server{c: c, accounts: map[string]*Account{}, faults: map[string]Fault{}, conns: map[*conn]bool{}}
	s.pool = newPool(c.Timeouts, c.Now)
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s, nil
}

// connectTime is the default of Timeouts.Connect. To greet takes servers longer:
// they look up names, or pause to see who speaks too early.
const connectTime = 30 * time.Second

func (t Timeouts) withDefaults() Timeouts {
	return Timeouts{
		Client:  cmp.Or(t.Client, 5*time.Minute),
		Login:   cmp.Or(t.Login, 5*time.Minute),
		Connect: cmp.Or(t.Connect, connectTime),
		Greet:   cmp.Or(t.Greet, 3*cmp.Or(t.Connect, connectTime)),
		Command: cmp.Or(t.Command, 2*time.Minute),
		Block:   cmp.Or(t.Block, 3*time.Minute),
		Final:   cmp.Or(t.Final, 10*time.Minute),
		Find:    cmp.Or(t.Find, 20*time.Second),
	}
}

// Serve accepts connections and runs the queue until ctx ends or Shutdown is
// called. It returns the first error of a listener.
func (s *Server) Serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.mu.Lock()
	if s.draining {
		s.mu.Unlock()
		return nil
	}
	s.stop = cancel
	s.serving.Add(1)
	s.mu.Unlock()
	defer s.serving.Done()
	var all sync.WaitGroup
	defer all.Wait()
	all.Go(func() { s.c.Queue.Run(ctx, s) })
	failed := make(chan error, len(s.c.Listeners))
	for _, l := range s.c.Listeners {
		context.AfterFunc(ctx, func() { l.Close() })
		all.Go(func() {
			if err := s.accept(ctx, l); err != nil {
				failed <- err
				cancel()
			}
		})
	}
	<-ctx.Done()
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

// Shutdown stops accepting, lets messages that are under way finish, ends
// sessions that are idle, and waits for all of it until ctx ends.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.draining = true
	if s.stop != nil {
		s.stop()
	}
	for k, busy := range s.conns {
		if !busy {
			go k.close()
		}
	}
	s.mu.Unlock()
	done := make(chan struct{})
	go func() {
		s.serving.Wait()
		s.sessions.Wait()
		close(done)
	}()
	var err error
	select {
	case <-done:
	case <-ctx.Done():
		err = ctx.Err()
	}
	s.cancel()
	s.mu.Lock()
	for k := range s.conns {
		go k.close()
	}
	s.mu.Unlock()
	s.pool.close()
	s.c.Queue.Close()
	return err
}

// working marks a connection as having a message under way, or not any more:
// then a server that drains ends it.
func (s *Server) working(k *conn, busy bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.conns[k]; ok {
		s.conns[k] = busy
	}
	if !busy && s.draining {
		k.end() // after the reply; the next read ends the session
	}
}

// hurryTime is how long the store may take to say what waits for an account.
const hurryTime = 20 * time.Second

// remember keeps the account of a login for the queue.
func (s *Server) remember(a *Account) {
	s.mu.Lock()
	first := s.accounts[a.key()] == nil
	s.accounts[a.key()] = a
	s.mu.Unlock()
	if first { // the login doesn't wait for it: another node that stands still may hold the rows
		s.sessions.Go(func() {
			ctx, cancel := context.WithTimeout(s.ctx, hurryTime)
			defer cancel()
			if err := s.c.Queue.Hurry(ctx, a.key()); err != nil {
				s.c.Logger.Error("queue not hurried", "err", err)
			}
		})
	}
}

// account finds an account for the queue. One that logged in may have been taken
// away since, or have another password: then what was remembered doesn't count.
func (s *Server) account(ctx context.Context, key string) (*Account, error) {
	if s.c.Account != nil {
		return s.c.Account(ctx, key)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.accounts[key]; a != nil {
		return a, nil
	}
	return nil, fmt.Errorf("account %s has not logged in since letterlock started", key)
}

func (a *Account) key() string {
	switch {
	case a.inbound() != nil:
		return InboundKey
	case a.Relay != nil:
		return RelayKey
	}
	return a.Addresses[0].Key()
}

// maySendAs tells whether the account may give an envelope that sender; zero is
// the null reverse-path, which anybody may.
func (a *Account) maySendAs(b address.Address) bool {
	return b.IsZero() || a.anySender() || a.has(b)
}

// has tells whether the account may send from an address.
func (a *Account) has(b address.Address) bool {
	for _, own := range a.Addresses {
		if own.Equal(b) {
			return true
		}
	}
	return false
}

package smtpd_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/pgp"
	"letterlock.org/letterlock/policy"
	"letterlock.org/letterlock/smtpd"
	"letterlock.org/letterlock/smtpd/queue"
)

var errKilled = errors.New("the process is dead")
var errDisk = errors.New("the disk says no")

// life is one process of the bridge or relay, from its start to its death: when
// it is killed, its connections end, and its store answers nothing any more,
// before anything that waits for the store can go on.
type life struct {
	w      *soak
	server *smtpd.Server
	queue  *queue.Queue
	addr   string
	ln     net.Listener
	served chan error
	fault  soakWrite
	skew   time.Duration // of its clock

	mu     sync.Mutex // guards what follows
	gone   bool
	conns  map[net.Conn]bool
	writes int
	dead   chan struct{}
}

// lifeStore is the store as one process sees it.
type lifeStore struct {
	store.Store
	l      *life
	shared bool
}

func (s lifeStore) Shared() bool { return s.shared }

func (s lifeStore) View(ctx context.Context, f func(store.Tx) error) error {
	s.l.mu.Lock()
	gone := s.l.gone
	s.l.mu.Unlock()
	if gone {
		return errKilled
	}
	return s.Store.View(ctx, f)
}

func (s lifeStore) Update(ctx context.Context, f func(store.Tx) error) error {
	s.l.mu.Lock()
	if s.l.gone {
		s.l.mu.Unlock()
		return errKilled
	}
	s.l.writes++
	n := s.l.writes
	s.l.mu.Unlock()
	fault := ""
	if n == s.l.fault.N {
		fault = s.l.fault.How
		s.l.w.mu.Lock()
		s.l.w.written = s.l.w.written || fault != ""
		s.l.w.mu.Unlock()
		s.l.w.note("write %d: %s", n, fault)
	}
	switch fault {
	case "a day on":
		s.l.w.clock.advance(24 * time.Hour)
	case "a day back":
		s.l.w.clock.advance(-24 * time.Hour)
	case "kill before":
		s.l.die()
		return errKilled
	case "fail before":
		return errDisk
	}
	err := s.Store.Update(ctx, f)
	switch fault {
	case "kill after":
		s.l.die()
		return errKilled
	case "fail after":
		return errors.Join(store.ErrUnsettled, errDisk)
	}
	if s.l.isGone() {
		return errKilled
	}
	return err
}

func (l *life) now() time.Time { return l.w.clock.Now().Add(l.skew) }

func (l *life) isGone() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.gone
}

// track keeps a connection of the process.
func (l *life) track(c net.Conn) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gone {
		c.Close()
		return errKilled
	}
	l.conns[c] = true
	return nil
}

// die kills the process, once.
func (l *life) die() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gone {
		return
	}
	l.gone = true
	if l.ln != nil {
		l.ln.Close()
	}
	for c := range l.conns {
		if t, ok := c.(*net.TCPConn); ok && len(l.conns)%2 == 0 {
			t.SetLinger(0)
		}
		c.Close()
	}
	close(l.dead)
	l.w.note("killed")
}

type trackedListener struct {
	net.Listener
	l *life
}

func (t trackedListener) Accept() (net.Conn, error) {
	c, err := t.Listener.Accept()
	if err == nil {
		err = t.l.track(c)
	}
	if err != nil {
		return nil, net.ErrClosed
	}
	return c, nil
}

// begin starts a process; it may die at once.
func (w *soak) begin(slot int) (*life, error) {
	l := &life{w: w, conns: map[net.Conn]bool{}, dead: make(chan struct{}), served: make(chan error, 1)}
	w.mu.Lock()
	if len(w.writes) > 0 {
		l.fault, w.writes = w.writes[0], w.writes[1:]
	}
	if slot == 1 {
		l.skew = w.plan.Skew
	}
	w.mu.Unlock()
	logger := slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	qc := queue.Config{Store: lifeStore{w.st, l, w.plan.Nodes > 1}, Logger: logger, Now: l.now, Lease: time.Minute}
	var err error
	if l.queue, err = queue.New(qc); err != nil {
		return l, err
	}
	account := &smtpd.Account{
		Addresses: []address.Address{addr("alice@example.org")},
		Signer:    func(context.Context, address.Address) (pgp.Signer, error) { return key(w.t, "alice@example.org"), nil },
		Find:      w.dir, Rules: func() *policy.Rules { return w.rules }, Passwords: &smtpd.Passwords{NoOpenPGP: true},
		Upstream: smtpd.Upstream{Mode: smtpd.Insecure, Name: w.host.ln.Addr().String(), User: "alice", Password: "secret",
			Dial: func(ctx context.Context) (net.Conn, error) {
				if l.isGone() {
					return nil, errKilled
				}
				w.host.start()
				c, err := (&net.Dialer{}).DialContext(ctx, "tcp", w.host.ln.Addr().String())
				if err == nil {
					err = l.track(c)
				}
				return c, err
			}},
	}
	if w.plan.TLS {
		account.Upstream.Mode, account.Upstream.TLS = smtpd.STARTTLS, w.trust
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return l, err
	}
	l.mu.Lock()
	l.ln, l.addr = ln, ln.Addr().String()
	if l.gone {
		ln.Close()
	}
	l.mu.Unlock()
	wait := time.Minute
	if w.plan.Slow {
		wait = 100 * time.Millisecond
	}
	l.server, err = smtpd.New(smtpd.Config{Queue: l.queue, Logger: logger, Now: l.now,
		Account:  func(context.Context, string) (*smtpd.Account, error) { return account, nil },
		Timeouts: smtpd.Timeouts{Final: wait, Command: wait, Connect: wait},
		Listeners: []smtpd.Listener{{Listener: trackedListener{ln, l},
			Open:         func(context.Context, smtpd.Peer) *smtpd.Account { return account },
			Capabilities: func() smtpd.Capabilities { return smtpd.Capabilities{EightBit: true, UTF8: true, DSN: true} }}}})
	if err != nil {
		return l, err
	}
	go func() { l.served <- l.server.Serve(context.Background()) }()
	return l, nil
}

// end stops a process that lives, or clears away one that is dead. It says
// whether all of it has ended.
func (l *life) end() error {
	if l.server == nil {
		if l.ln != nil {
			l.ln.Close()
		}
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if err := l.server.Shutdown(ctx); err != nil {
		return err
	}
	select {
	case <-l.served:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

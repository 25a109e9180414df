package store

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// maxConns is how many transactions run at once unless the URL's pool_max_conns
// says otherwise; half as many more where one waits for longer than a second, so
// that views nested by mistake don't stop everything.
const maxConns = 16

// maxAge is how long a connection is used, so that what names point to counts.
const maxAge = 30 * time.Minute

// pgPool is the idle connections.
type pgPool struct {
	slots, extra chan struct{}

	mu     sync.Mutex // guards what follows
	idle   []*pg      // the last one used is taken first
	born   map[*pg]time.Time
	slot   map[*pg]chan struct{}
	closed bool
}

func newPool(n int) *pgPool {
	return &pgPool{
		slots: make(chan struct{}, n), extra: make(chan struct{}, n/2),
		born: map[*pg]time.Time{}, slot: map[*pg]chan struct{}{},
	}
}

// acquire gives a connection that nobody else uses; fresh tells that it was made
// just now.
func (s *postgres) acquire(ctx context.Context) (c *pg, fresh bool, err error) {
	slot, err := takeSlot(ctx, s.pool.slots, s.pool.extra)
	if err != nil {
		return nil, false, err
	}
	p := s.pool
	p.mu.Lock()
	for c == nil && len(p.idle) > 0 {
		c = p.idle[len(p.idle)-1]
		p.idle = p.idle[:len(p.idle)-1]
		if c.IsClosed() || time.Since(p.born[c]) > maxAge {
			p.forget(c)
			go c.hangUp()
			c = nil
		}
	}
	if c != nil {
		p.slot[c] = slot
	}
	p.mu.Unlock()
	if c != nil {
		return c, false, nil
	}
	if c, err = s.connect(ctx, s.config.Copy()); err != nil {
		<-slot
		return nil, false, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.born[c], p.slot[c] = time.Now(), slot
	return c, true, nil
}

// release gives a connection back.
func (s *postgres) release(c *pg) {
	p := s.pool
	p.mu.Lock()
	slot := p.slot[c]
	delete(p.slot, c)
	if c.bad || c.IsClosed() || c.TxStatus() != 'I' || p.closed || len(p.idle) >= cap(p.slots) {
		p.forget(c)
		go c.hangUp()
	} else {
		p.idle = append(p.idle, c)
	}
	p.mu.Unlock()
	<-slot
}

// forget: caller holds mu.
func (p *pgPool) forget(c *pg) { delete(p.born, c) }

func (p *pgPool) close() {
	p.mu.Lock()
	p.closed = true
	idle := p.idle
	p.idle = nil
	p.mu.Unlock()
	var wg sync.WaitGroup
	for _, c := range idle {
		wg.Go(c.hangUp)
	}
	wg.Wait()
}

func (c *pg) hangUp() {
	ctx, cancel := context.WithTimeout(background, 2*time.Second)
	defer cancel()
	c.Close(ctx)
}

// connectTime bounds the making of a connection.
const connectTime = 15 * time.Second

// connect makes a connection; config is its own.
func (s *postgres) connect(ctx context.Context, config *pgconn.Config) (*pg, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connecting to PostgreSQL: %w", err)
	}
	c := &pg{PgConn: conn, stmts: map[string]*pgStatement{}}
	// A commit is one only if it outlives the server's crash.
	c.backend, err = c.exec(ctx, `SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off';
		SELECT `+backendName+` FROM pg_stat_activity WHERE pid = pg_backend_pid()`)
	if err == nil && c.ParameterStatus("server_encoding") != "UTF8" {
		err = fmt.Errorf("the database's encoding is %s, not UTF8", c.ParameterStatus("server_encoding"))
	}
	if err == nil && s.joined {
		err = s.join(ctx, c)
	}
	if err != nil {
		c.hangUp()
		return nil, err
	}
	return c, nil
}

// postgresConfig reads a URL, and the size of the pool. What libpq takes from
// the environment counts too, except how to do TLS.
func postgresConfig(raw string) (*pgconn.Config, int, error) {
	base, query, _ := strings.Cut(raw, "?")
	q, err := url.ParseQuery(query)
	if scheme, _, ok := strings.Cut(base, "://"); err != nil || !ok || scheme != "postgres" && scheme != "postgresql" {
		return nil, 0, errors.New("not a URL as postgres://USER@HOST/DATABASE")
	}
	if m := q.Get("sslmode"); m == "prefer" || m == "allow" {
		return nil, 0, fmt.Errorf("sslmode=%s lets the network choose; say verify-full, or disable", m)
	}
	size := maxConns
	if q.Has("pool_max_conns") {
		if size, err = strconv.Atoi(q.Get("pool_max_conns")); err != nil || size < 2 || size > 1000 {
			return nil, 0, errors.New("pool_max_conns is a number from 2 to 1000")
		}
		q.Del("pool_max_conns")
	}
	if !q.Has("target_session_attrs") {
		q.Set("target_session_attrs", "read-write") // the one that took over, after a failover
	}
	given := q.Has("sslmode")
	config := func(mode string) (*pgconn.Config, error) {
		if !given {
			q.Set("sslmode", mode)
		}
		c, err := pgconn.ParseConfig(base + "?" + q.Encode())
		if err != nil {
			return nil, fmt.Errorf("reading the URL: %w", err) // pgconn takes the password out
		}
		return c, nil
	}
	c, err := config("disable")
	if err == nil && !given && !local(c) {
		c, err = config("verify-full")
	}
	if err != nil {
		return nil, 0, err
	}
	for name, value := range sessionSettings {
		if _, ok := c.RuntimeParams[name]; !ok {
			c.RuntimeParams[name] = value
		}
	}
	return c, size, nil
}

// sessionSettings are what the server is asked for, unless the URL says
// otherwise. What a node leaves behind that was cut off ends, and its locks.
var sessionSettings = map[string]string{
	"application_name": "letterlock", "client_encoding": "UTF8", "standard_conforming_strings": "on",
	"statement_timeout": "120s", "idle_in_transaction_session_timeout": "300s",
	"tcp_keepalives_idle": "30", "tcp_keepalives_interval": "10", "tcp_keepalives_count": "3",
}

// local tells whether every host is this machine.
func local(c *pgconn.Config) bool {
	hosts := []string{c.Host}
	for _, f := range c.Fallbacks {
		hosts = append(hosts, f.Host)
	}
	for _, h := range hosts {
		ip := net.ParseIP(h)
		if !strings.HasPrefix(h, "/") && h != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return false
		}
	}
	return true
}

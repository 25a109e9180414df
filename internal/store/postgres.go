package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// postgres is a Store in a PostgreSQL database that several processes share.
type postgres struct {
	*keys
	seal    *sealer
	blobs   *blobs
	config  *pgconn.Config
	pool    *pgPool
	commits commits
	hub     hub
	ears    sync.Once // starts hear
	notes   notes

	nonce    []byte // of the header: the store's name for locks
	joined   bool   // the steps have run; from then on connections join
	names    string // of our schemas, as a list in SQL
	breaking string // number of their steps that aren't additive

	queryMu sync.Mutex // guards queries
	queries map[string]*postgresQuery

	mu     sync.RWMutex // guards closed: nothing begins after it
	closed bool
	work   sync.WaitGroup
	end    chan struct{} // closed by Close
}

// OpenPostgres opens the store in the database that url names, as libpq has it:
// postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=…, several hosts for
// failover. Off loopback TLS with a verified name is required unless sslmode says
// otherwise. A process uses up to 25 connections (pool_max_conns=16, half as many
// where transactions nest, one to listen). The database's encoding must be UTF8;
// tables lie in the first schema of the search_path. A pooler between must keep
// sessions whole.
//
// What the database's administrator sees: the names of tables and columns, every
// INTEGER, REAL and TEXT value (addresses, states, times, counts: what queries
// look for), and of each BLOB its length and when it changes; of BLOBs in keys and
// indexes also which are equal. What they can do: destroy rows, turn them back,
// and move a BLOB to another row of its column; rows that carry trust have a
// [Store.MAC].
//
// What the database says within two minutes counts: a statement that takes
// longer, or the rows of one, is an error. A connection that is lost is one too,
// and replaced by itself.
//
// ctx bounds opening only. A wrong key is ErrKey and changes nothing. Schemas are
// brought up to date by one process at a time; see [Schema] for those that run on.
func OpenPostgres(ctx context.Context, url string, key [32]byte, schemas ...Schema) (Store, error) {
	s, err := openPostgres(ctx, url, key, schemas)
	if err != nil {
		return nil, fmt.Errorf("opening the PostgreSQL store: %w", err)
	}
	return s, nil
}

func openPostgres(ctx context.Context, url string, key [32]byte, schemas []Schema) (*postgres, error) {
	k, err := deriveKeys(key)
	if err != nil {
		return nil, err
	}
	s := &postgres{
		keys: k, blobs: newBlobs(), queries: map[string]*postgresQuery{}, end: make(chan struct{}),
		commits: commits{node: rand.Int64()},
	}
	var size int
	if s.config, size, err = postgresConfig(url); err != nil {
		return nil, err
	}
	s.pool = newPool(size)
	if s.seal, err = newSealer(k); err != nil {
		return nil, err
	}
	for _, schema := range schemas {
		for i, step := range schema.Steps {
			if err := s.blobs.learn(step); err != nil {
				return nil, fmt.Errorf("schema %q, step %d: %w", schema.Name, i+1, err)
			}
		}
	}
	err = s.migrate(ctx, schemas)
	if err == nil {
		err = s.joinFirst(ctx, schemas)
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// Shared implements Store.
func (s *postgres) Shared() bool { return true }

// enter begins something that Close waits for; s.work.Done ends it.
func (s *postgres) enter(ctx context.Context) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	s.work.Add(1)
	return nil
}

// View implements Store.
func (s *postgres) View(ctx context.Context, f func(Tx) error) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.work.Done()
	t, err := s.begin(ctx, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
	if err != nil {
		return fmt.Errorf("beginning to read the store: %w", err)
	}
	defer t.end()
	return f(t)
}

// maxAttempts is how often an Update is run that others got in the way of.
const maxAttempts = 100

// Update implements Store.
func (s *postgres) Update(ctx context.Context, f func(Tx) error) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.work.Done()
	level := "SERIALIZABLE"
	if ctx.Value(relaxed{}) != nil {
		level = "READ COMMITTED"
	}
	for n := 1; ; n++ {
		err := s.attempt(ctx, level, f)
		var e *pgError
		if err == nil || !errors.As(err, &e) || !e.again() || n == maxAttempts {
			return err
		}
		select {
		case <-time.After(rand.N(time.Millisecond << min(n, 8))):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// attempt runs f once.
func (s *postgres) attempt(ctx context.Context, level string, f func(Tx) error) error {
	t, err := s.begin(ctx, "BEGIN ISOLATION LEVEL "+level)
	if err != nil {
		return fmt.Errorf("beginning to write the store: %w", err)
	}
	t.write = true
	defer t.end()
	err = f(t)
	switch {
	case t.failed != nil && (err == nil || t.failed.again()):
		return t.failed // f went on in a transaction that was lost
	case err != nil:
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return t.commit()
}

// Close implements Store.
func (s *postgres) Close() error {
	s.mu.Lock()
	first := !s.closed
	s.closed = true
	s.mu.Unlock()
	if first {
		close(s.end)
	}
	s.work.Wait()
	if first {
		s.pool.close()
		s.wipe()
	}
	return nil
}

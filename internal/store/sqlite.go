package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ncruces/go-sqlite3/vfs"
)

// maxReaders is how many views run at once; maxExtra more where they wait for
// longer than a second, so that views nested by mistake don't stop everything.
const (
	maxReaders = 8
	maxExtra   = 56
)

// sqlite is a Store over one encrypted file: one connection writes, several read
// (write-ahead log, so that neither waits for the other).
type sqlite struct {
	*keys
	path    string
	vfs     string // the name of our file layer
	moved   *moved
	sync    string // PRAGMA synchronous
	cleanup func() error

	mu      sync.Mutex // guards what follows, and is held while an f of Update runs
	writer  *conn
	batch   *batch // the open transaction, nil if none
	closed  bool
	waiting atomic.Int64 // callers of Update that wait for mu

	hub hub
	end chan struct{} // closed by Close

	readers chan *conn    // idle ones
	slots   chan struct{} // one taken by each view
	extra   chan struct{} // beyond slots
	views   sync.WaitGroup
	viewMu  sync.RWMutex // guards gone: no view begins after it
	gone    bool
}

// Open opens or creates the encrypted SQLite database at path and brings its
// schemas up to date. A wrong key is ErrKey and changes nothing. Files are
// readable by their owner only; a missing directory is made so.
func Open(path string, key [32]byte, schemas ...Schema) (Store, error) {
	s, err := open(path, key, "full", schemas)
	if err != nil {
		return nil, fmt.Errorf("opening the store %s: %w", path, ofDisk(path, err))
	}
	return s, nil
}

// OpenMemory is a store that ends with the process, for tests and the demo. It
// is the same database, in a temporary directory (in memory where the system has
// one there), encrypted with a key that nothing keeps, and not synced.
func OpenMemory(schemas ...Schema) (Store, error) {
	dir, err := memoryDir()
	if err != nil {
		return nil, err
	}
	s, err := open(dir+"/store.db", randomKey(), "off", schemas)
	if err != nil {
		os.RemoveAll(dir)
		return nil, fmt.Errorf("opening a store in memory: %w", err)
	}
	s.cleanup = func() error { return os.RemoveAll(dir) }
	return s, nil
}

func open(path string, key [32]byte, synchronous string, schemas []Schema) (_ *sqlite, err error) {
	k, err := deriveKeys(key)
	if err != nil {
		return nil, err
	}
	layer, moved := registerVFS(k.log)
	s := &sqlite{
		keys: k, path: path, vfs: layer, moved: moved, sync: synchronous,
		readers: make(chan *conn, maxReaders),
		slots:   make(chan struct{}, maxReaders),
		extra:   make(chan struct{}, maxExtra),
		end:     make(chan struct{}),
	}
	defer func() {
		if err != nil {
			vfs.Unregister(s.vfs)
		}
	}()
	if err := s.prepareFile(); err != nil {
		return nil, err
	}
	if s.writer, err = s.connect(path, false); err != nil {
		return nil, err
	}
	err = s.checkHeader(s.writer)
	if err == nil {
		err = migrate(s.writer, schemas)
	}
	if err == nil {
		err = ownerOnly(path)
	}
	if err != nil {
		s.writer.close()
		return nil, err
	}
	return s, nil
}

// View implements Store.
func (s *sqlite) View(ctx context.Context, f func(Tx) error) error {
	if err := s.usable(ctx); err != nil {
		return err
	}
	c, release, err := s.reader(ctx)
	if err != nil {
		return err
	}
	defer release()
	defer c.interruptBy(ctx)()
	if err := c.control("BEGIN"); err != nil {
		return fmt.Errorf("beginning to read the store: %w", err)
	}
	tx := &tx{c: c, ctx: ctx}
	defer func() {
		tx.done = true
		c.rollback()
	}()
	return f(tx)
}

// usable tells why nothing can be begun.
func (s *sqlite) usable(ctx context.Context) error {
	if s.moved.lost.Load() {
		return ErrSync
	}
	return ctx.Err()
}

// reader gives an idle connection, or a new one; release gives it back.
func (s *sqlite) reader(ctx context.Context) (*conn, func(), error) {
	s.viewMu.RLock()
	if s.gone {
		s.viewMu.RUnlock()
		return nil, nil, ErrClosed
	}
	s.views.Add(1)
	s.viewMu.RUnlock()
	slot, err := takeSlot(ctx, s.slots, s.extra)
	if err != nil {
		s.views.Done()
		return nil, nil, err
	}
	var c *conn
	select {
	case c = <-s.readers:
	default:
		if c, err = s.connect(s.path, true); err != nil {
			<-slot
			s.views.Done()
			return nil, nil, fmt.Errorf("opening the store to read: %w", err)
		}
	}
	return c, func() {
		if c.idle() {
			select {
			case s.readers <- c:
			default:
				c.close()
			}
		} else {
			c.close() // left within a transaction
		}
		<-slot
		s.views.Done()
	}, nil
}

// takeSlot takes one of slots, or after a second of waiting one of extra; receive
// from what it gives to give it back.
func takeSlot(ctx context.Context, slots, more chan struct{}) (chan struct{}, error) {
	select {
	case slots <- struct{}{}:
		return slots, nil
	default:
	}
	patience := time.NewTimer(time.Second)
	defer patience.Stop()
	extra := chan struct{}(nil)
	for {
		select {
		case slots <- struct{}{}:
			return slots, nil
		case extra <- struct{}{}:
			return extra, nil
		case <-patience.C:
			extra = more
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Shared implements Store.
func (s *sqlite) Shared() bool { return false }

// Notify implements Store.
func (s *sqlite) Notify(ctx context.Context, channel, payload string) error {
	if err := checkNotification(channel, payload); err != nil {
		return err
	}
	s.hub.tell(channel, payload)
	return nil
}

// Listen implements Store.
func (s *sqlite) Listen(ctx context.Context, channel string, f func(string)) error {
	return s.hub.listen(ctx, s.end, channel, f)
}

// Close implements Store.
func (s *sqlite) Close() error {
	s.viewMu.Lock()
	if !s.gone {
		close(s.end)
	}
	s.gone = true
	s.viewMu.Unlock()
	s.views.Wait()

	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	if s.batch != nil {
		s.commit()
	}
	s.closed = true
	var errs []error
	for done := false; !done; {
		select {
		case c := <-s.readers:
			errs = append(errs, c.close())
		default:
			done = true
		}
	}
	errs = append(errs, s.writer.close())
	vfs.Unregister(s.vfs)
	s.wipe()
	if s.cleanup != nil {
		errs = append(errs, s.cleanup())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("closing the store: %w", err)
	}
	return nil
}

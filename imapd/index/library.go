// Package index keeps what we know of each message of an account, encrypted at
// rest: its class, and for one that was opened its sizes, envelope, structure,
// header, text and frozen verdict.
//
// A [Library] belongs to one account. A [Mailbox] is one UIDVALIDITY of one
// mailbox, shared by every session that has it selected and by the [Indexer];
// what a session asks for each message (class, keywords, masks) it answers from
// memory. A [Rendering] is the message as a client sees it, opened once and
// kept in a bounded, encrypted cache.
//
// What it promises: a row describes exactly the bytes of the rendering; a
// verdict is frozen with the first opening and reused for as long as the same
// raw message is seen, also under another UID; a store that is locked or fails
// is an error, never a wrong class; nothing here touches the network except the
// Indexer's own upstream connection.
package index

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/internal/processors"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/pgp"
)

// ErrClosed means that the library was closed.
var ErrClosed = errors.New("index is closed")

// Config configures a Library.
type Config struct {
	// Store keeps the rows; it must have been opened with [Schema]. Required.
	Store store.Store
	// Account separates accounts that share a store: the account's address
	// in its Key form. Required.
	Account string
	// Keys gives the account's decryption keys, or an error such as
	// pgp.ErrLocked. Called for each opening. Required.
	Keys func(ctx context.Context) (pgp.Decrypter, error)
	// Certificates are those that signatures are checked with. Required.
	Certificates pgp.CertificateStore
	// Own are the account's addresses; SetOwn changes them.
	Own []address.Address
	// Observe is told what a message showed of its sender's certificate when it
	// is first seen: before it is opened, so that a signature can be checked
	// with the certificate beside it, and again after with who signed. It may be
	// called concurrently; nil for nobody.
	Observe func(ctx context.Context, o keydir.Observation)
	// Elsewhere tells whether somebody who is none of the store's accounts opened a
	// packet, which one of keys may open, under another From or Message-ID; nil for
	// nobody.
	Elsewhere func(ctx context.Context, keys []pgp.Fingerprint, packet [32]byte, from, messageID string) (bool, error)
	// Spool is where renderings that do not fit memory go.
	Spool message.SpoolOptions
	// CacheBytes bounds the renderings kept; 0 means 256 MiB.
	CacheBytes int64
	// Logger gets classes and reasons, never content; nil means silence.
	Logger *slog.Logger
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Open is pgp.Open; tests put another here.
	Open func(ctx context.Context, src message.Source, o pgp.Opening) (*pgp.Opened, error)
}

// Library is the index of one account. It is safe for concurrent use.
type Library struct {
	c        Config
	cache    *cache
	replays  *replays
	opening  chan struct{} // a slot for each opening under way for a client
	indexing chan struct{} // and for the indexer, which has fewer
	plain    observations
	indexer  atomic.Pointer[Indexer]           // that is running
	names    atomic.Pointer[[]address.Address] // the account's own
	begin    beginnings
	asked    atomic.Int64 // when a client last asked for a message, in Unix nanoseconds

	transform int64 // that of this version; tests have others

	mu        sync.Mutex
	mailboxes map[mailboxKey]*shared // guarded by mu
	idle      []mailboxKey           // guarded by mu; of mailboxes that nobody holds, the one left last at the end
	pruned    time.Time              // guarded by mu: when prune last looked
	closed    bool                   // guarded by mu
}

// maxIdle is how many mailboxes that nobody holds stay in memory: clients go
// back and forth between a few.
const maxIdle = 16

type mailboxKey struct {
	name        string
	uidvalidity uint32
}

// shared is a Mailbox with the number of its users. ready is closed when
// loading ended.
type shared struct {
	mailbox *Mailbox
	users   int
	ready   chan struct{}
	err     error
}

// New makes the library of an account. It reads nothing yet.
func New(c Config) (*Library, error) {
	if c.Store == nil || c.Account == "" || c.Keys == nil || c.Certificates == nil {
		return nil, errors.New("index: Store, Account, Keys and Certificates are required")
	}
	if c.CacheBytes <= 0 {
		c.CacheBytes = 256 << 20
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Open == nil {
		c.Open = pgp.Open
	}
	l := &Library{
		c:         c,
		cache:     newCache(c.CacheBytes),
		replays:   &replays{pending: map[[32]byte]*claim{}},
		transform: transform,
		opening:   make(chan struct{}, max(2, processors.Count())),
		indexing:  make(chan struct{}, max(1, processors.Count()/2)),
		mailboxes: map[mailboxKey]*shared{},
	}
	l.SetOwn(c.Own)
	if c.Observe != nil {
		l.c.Observe = l.unshaken(c.Observe)
	}
	return l, nil
}

// SetOwn says what the account's addresses are from now on.
func (l *Library) SetOwn(own []address.Address) { l.names.Store(&own) }

// Mailbox gives the index of a mailbox, loading its classes once. The name is
// as the upstream spells it (modified UTF-7 or UTF-8, not decoded). The caller
// closes it; until then every caller shares the same one.
func (l *Library) Mailbox(ctx context.Context, name string, uidvalidity uint32) (*Mailbox, error) {
	key := mailboxKey{canonical(name), uidvalidity}
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil, ErrClosed
	}
	s := l.mailboxes[key]
	if s != nil {
		s.users++
		l.idle = slices.DeleteFunc(l.idle, func(k mailboxKey) bool { return k == key })
		l.mu.Unlock()
		return l.wait(ctx, key, s)
	}
	s = &shared{users: 1, ready: make(chan struct{})}
	l.mailboxes[key] = s
	l.mu.Unlock()

	s.mailbox, s.err = l.load(ctx, key)
	close(s.ready)
	if s.err != nil {
		l.leave(key, s)
		return nil, fmt.Errorf("reading the index of a mailbox: %w", s.err)
	}
	return s.mailbox, nil
}

// wait waits until another caller's loading has ended.
func (l *Library) wait(ctx context.Context, key mailboxKey, s *shared) (*Mailbox, error) {
	select {
	case <-s.ready:
	case <-ctx.Done():
		l.leave(key, s)
		return nil, ctx.Err()
	}
	if s.err != nil {
		l.leave(key, s)
		if ctx.Err() == nil && errors.Is(s.err, context.Canceled) {
			return l.Mailbox(ctx, key.name, key.uidvalidity)
		}
		return nil, fmt.Errorf("reading the index of a mailbox: %w", s.err)
	}
	return s.mailbox, nil
}

// leave gives back one use of s.
func (l *Library) leave(key mailboxKey, s *shared) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s.users--
	switch {
	case l.mailboxes[key] != s:
	case s.err != nil:
		delete(l.mailboxes, key)
	case s.users == 0:
		l.idle = append(l.idle, key)
		if len(l.idle) > maxIdle {
			delete(l.mailboxes, l.idle[0])
			l.idle = slices.Delete(l.idle, 0, 1)
		}
	}
}

// open is every mailbox that somebody holds.
func (l *Library) open() []*Mailbox {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []*Mailbox
	for _, s := range l.mailboxes {
		select {
		case <-s.ready:
			if s.err == nil {
				all = append(all, s.mailbox)
			}
		default:
		}
	}
	return all
}

// Close drops the cached renderings and waits until Observe was told what plain
// mail showed. Renderings still in use stay readable until they are closed.
func (l *Library) Close() error {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.cache.clear()
	l.plain.wait()
	return nil
}

// Yield asks the account's indexer, if one runs, to give its upstream connection
// back: a mail program was refused one because there are too many. It tells
// whether there was a connection; the server needs a moment to see it closed.
func (l *Library) Yield() bool {
	x := l.indexer.Load()
	return x != nil && x.yield()
}

// News tells the account's indexer, if one runs, that a session saw mail in a
// mailbox, named as the upstream spells it, that nothing may be known of yet. It
// is looked at soon, and whatever comes of it is told to those who watch.
func (l *Library) News(mailbox string) {
	if x := l.indexer.Load(); x != nil {
		x.tell(canonical(mailbox))
	}
}

// touch notes that a client asks for a message.
func (l *Library) touch() { l.asked.Store(l.c.Now().UnixNano()) }

// busy tells whether a client asked for a message just now.
func (l *Library) busy() bool {
	return l.c.Now().Sub(time.Unix(0, l.asked.Load())) < 2*time.Second
}

// canonical makes the one name that has several spellings one.
// RFC 3501, Section 5.1: INBOX is case-insensitive.
func canonical(name string) string {
	if strings.EqualFold(name, "INBOX") {
		return "INBOX"
	}
	return name
}

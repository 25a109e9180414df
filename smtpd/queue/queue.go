// Package queue is the journal of submissions and the durable queue of what
// could not be sent at once.
//
// An [Entry] is one transaction with the upstream, that is one ciphertext and the
// recipients who share it; or a message that is held. It is synced before the
// final dot is sent, so that after a crash we know what may have been delivered;
// it is kept for some days after it was sent, so that a client's repetition of
// the same submission is recognised. It is a row, or in the pages of the daybook.
//
// Bodies are sealed before the store gets them, and rows and pages that say who
// gets a message have a MAC. However much waits, memory and the time to the first
// delivery are bounded: nothing reads all of it.
//
// Several nodes may share one store ([Config.Shared]): each names what it works
// on, and when it dies, another finishes that with what the journal knows.
package queue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"letterlock.org/letterlock/audit"
	"letterlock.org/letterlock/internal/meter"
	"letterlock.org/letterlock/internal/store"
)

// Errors that callers decide on.
var (
	// ErrFull means that the queue may not grow any further.
	ErrFull = errors.New("queue is full")
	// ErrNoEntry means that there is no entry of that ID in a state that
	// allows what was asked.
	ErrNoEntry = errors.New("no such queue entry")
	// ErrWorking means that the entry is being worked on right now.
	ErrWorking = errors.New("the queue entry is being worked on; try again in a moment")
)

// DefaultMinFree is how many bytes of the disk are left to everybody else.
const DefaultMinFree = 256 << 20

// Config configures a Queue.
type Config struct {
	Store  store.Store // opened with Schema
	Logger *slog.Logger
	Now    func() time.Time
	// Lifetime is how long delivery is tried; 0 means two days.
	Lifetime time.Duration
	// WarnAfter is when the sender is told that delivery is late, once; 0 means
	// four hours.
	WarnAfter time.Duration
	// HoldFor is how long a message is held; 0 means five days.
	HoldFor time.Duration
	// Recheck is how often a held message is decided again, give or take a
	// quarter; 0 means an hour.
	Recheck time.Duration
	// Remember is how long sent submissions are recognised at least; 0 means five days.
	Remember time.Duration
	// MaxBytes of bodies in all; 0 means 4 GiB. Beyond it is ErrFull.
	MaxBytes int64
	// Free tells the free bytes of the disk; nil if unknown. Below MinFree
	// (DefaultMinFree if 0) nothing is taken.
	Free    func() (int64, error)
	MinFree int64
	// Volume is after how many bytes a volume of the daybook is closed: about as
	// much is read at start. 0 means 2 MiB.
	Volume int
	// Gather is how long a write waits at most for sessions that are about to write
	// too; 0 means three milliseconds.
	Gather time.Duration
	// Workers send at one time; 0 means 16. At most PerAccount of them (8 if 0)
	// send for one account, that is to one upstream; PerDomain (4 if 0) to one
	// recipients' domain.
	Workers, PerAccount, PerDomain int
	// Shared: other nodes use the same store, as [store.Store.Shared] says. Node is this one's name, unlike
	// any other's and any earlier process's; random if empty. Lease is how long
	// a node that says nothing is taken for alive; 0 means a minute.
	Shared bool
	Node   string
	Lease  time.Duration
	// Count is called with a class for every attempt, such as "queue-sent".
	Count func(class string)
	// Audit gets a record for every recipient whom an attempt settles, and for
	// what is dropped, released, expires or was under way when its process died; nil
	// for none.
	Audit audit.Log
	// Meter gets figures; nil for none.
	Meter meter.Meter
}

// Queue is safe for concurrent use.
type Queue struct {
	c       Config
	bodies  [32]byte      // key of the bodies
	wake    chan struct{} // holds one token: something may be due
	tend    chan struct{} // the same for chores
	more    chan struct{} // the same for the writer: something is pending
	seen    *filter       // submissions that may be in the store; nil if Shared
	closing chan struct{} // closed by Close
	close   func()        // once
	lease   lease
	book    *daybook // nil if Shared
	// purged is when old entries were last removed; only chores uses it.
	purged time.Time

	// mu guards what follows.
	mu       sync.Mutex
	pending  []*write            // journal writes that will share the next sync
	lazy     *time.Timer         // has written what nobody waits for; nil if none
	hurry    bool                // somebody waits for what is pending
	writing  bool                // there is a writer
	claims   map[string][]*claim // by submission: what sessions work on
	coming   int                 // sessions that are expected to write soon
	here     chan struct{}       // closed when none is coming; nil if nobody waits
	settled  map[string]Entry    // by ID: what SettleLater has not written yet
	reserved int64               // bytes that sessions may still put in
	stored   int64               // bytes of bodies in the store
	busy     map[string]bool     // IDs that a worker has
	hints    map[lane]bool       // lanes in which something has begun to wait
	hurried  []string            // accounts that may be tried again at once
	missed   bool                // hints of other nodes may have got lost
	decider  Decider             // nil unless Run has one
	async    sync.WaitGroup
}

// New opens the queue of a store and settles what dead processes left: what was
// being sent becomes Unknown, what was only prepared goes. Unless c.Shared, no
// other process may use the store.
func New(c Config) (*Queue, error) {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
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
	c.Lifetime = cmp.Or(c.Lifetime, 48*time.Hour)
	c.WarnAfter = cmp.Or(c.WarnAfter, 4*time.Hour)
	c.HoldFor = cmp.Or(c.HoldFor, 5*24*time.Hour)
	c.Recheck = cmp.Or(c.Recheck, time.Hour)
	c.Remember = cmp.Or(c.Remember, 5*24*time.Hour)
	c.MaxBytes = cmp.Or(c.MaxBytes, 4<<30)
	c.MinFree = cmp.Or(c.MinFree, DefaultMinFree)
	c.Volume = cmp.Or(c.Volume, 2<<20)
	c.Gather = cmp.Or(c.Gather, 3*time.Millisecond)
	c.Workers = cmp.Or(c.Workers, 16)
	c.PerAccount = cmp.Or(c.PerAccount, 8)
	c.PerDomain = cmp.Or(c.PerDomain, 4)
	c.Lease = cmp.Or(c.Lease, time.Minute)
	c.Shared = c.Shared || c.Store.Shared()
	c.Node = cmp.Or(c.Node, "node-"+NewID())
	closing := make(chan struct{})
	q := &Queue{c: c, bodies: c.Store.Key("queue bodies v1"), wake: make(chan struct{}, 1), tend: make(chan struct{}, 1), more: make(chan struct{}, 1),
		closing: closing, close: sync.OnceFunc(func() { close(closing) }),
		claims: map[string][]*claim{}, settled: map[string]Entry{}, busy: map[string]bool{}, hints: map[lane]bool{}}
	if !c.Shared {
		q.seen = &filter{}
		q.book = &daybook{words: map[string]int{}}
	}
	for _, step := range []func(context.Context) error{q.renew, q.reopen, q.adopt, q.recover, q.count} {
		if err := step(context.Background()); err != nil {
			return nil, fmt.Errorf("settling the queue after the last run: %w", err)
		}
	}
	return q, nil
}

// Close waits for journal writes that nobody waits for, and gives back what
// this node has claimed. The store stays open.
func (q *Queue) Close() error {
	q.close()
	q.mu.Lock()
	if q.lazy != nil && q.lazy.Stop() {
		q.lazy = nil
		go q.lazily()
	}
	q.mu.Unlock()
	q.async.Wait()
	return q.part(context.Background())
}

// Lifetime is how long delivery of a new entry is tried.
func (q *Queue) Lifetime() time.Duration { return q.c.Lifetime }

// HoldFor is how long a new entry is held.
func (q *Queue) HoldFor() time.Duration { return q.c.HoldFor }

// Wake has Run look at once for what is due.
func (q *Queue) Wake() {
	signal(q.wake)
	signal(q.tend)
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// update is a transaction of the store. Whatever is decided in one of ours is
// decided on rows that it selects for update, inserts, or updates on a
// condition.
func (q *Queue) update(ctx context.Context, f func(store.Tx) error) error {
	return q.c.Store.Update(store.Relaxed(ctx), f)
}

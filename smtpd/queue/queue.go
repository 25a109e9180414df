// Package queue is the journal of submissions and the durable queue of what
// could not be sent at once.
//
// One row is one [Entry]: one transaction with the upstream, that is one
// ciphertext and the recipients who share it. The row is synced before the
// final dot is sent, so that after a crash we know what may have been
// delivered; it is kept for some days after it was sent, so that a client's
// repetition of the same submission is recognised.
//
// Bodies are ciphertext, except copies that the policy let go in clear; the
// store encrypts both at rest.
package queue

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
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
)

// State is where an entry stands. The zero value is none.
type State string

const (
	Prepared State = "prepared" // body kept, nobody was promised anything: gone after a crash
	Sending  State = "sending"  // the final dot is about to be sent; Unknown after a crash
	Waiting  State = "waiting"  // will be sent, at Next
	Held     State = "held"     // waits for Release
	Sent     State = "sent"     // the upstream has taken it; remembered
	Unknown  State = "unknown"  // the answer to the final dot was lost; never repeated by itself
	Failed   State = "failed"   // refused for good or expired; the sender was told
)

// Recipient is one envelope recipient of an entry.
type Recipient struct {
	Address string `json:"a"` // as in the envelope
	Key     string `json:"k"` // address.Key
	// RFC 3461 parameters, as the client gave them, "" without.
	Notify string `json:"n,omitempty"`
	Orcpt  string `json:"o,omitempty"`
	// State is Waiting, Sent or Failed, Unknown: they may part while the entry waits.
	State State `json:"s"`
	// Code, Status and Text are the last reply about it, such as 451, "4.4.1".
	Code   int    `json:"c,omitempty"`
	Status string `json:"e,omitempty"`
	Text   string `json:"t,omitempty"`
	// Reported: the sender was told that it failed, or that nobody knows.
	Reported bool `json:"r,omitempty"`
	// Decided is for the audit records that are still to come.
	Decided *audit.Decided `json:"a,omitempty"`
}

// Entry is one transaction with the upstream.
type Entry struct {
	ID         string `json:",omitempty"` // see NewID
	Account    string `json:",omitempty"` // key of the account's primary address
	Submission string `json:",omitempty"` // what the client submitted: see Key; "" is never matched
	From       string // reverse-path; "" is the null one
	MessageID  string `json:",omitempty"` // for reports; "" without
	Recipients []Recipient
	Clear      bool      `json:",omitempty"` // the policy let it go unencrypted
	Report     bool      `json:",omitempty"` // a notification of our own: never reported upon
	Queued     bool      `json:",omitempty"` // the client was told 250 and left it to us
	EightBit   bool      `json:",omitempty"` // needs BODY=8BITMIME
	UTF8       bool      `json:",omitempty"` // needs SMTPUTF8
	Ret        string    `json:",omitempty"`
	Envid      string    `json:",omitempty"`
	State      State     // of the whole: see Overall
	Attempts   int       `json:",omitempty"`
	Created    time.Time // when the client submitted it
	Next       time.Time // when it is tried again, if Waiting
	Expires    time.Time // when it is given up
	Size       int64     // of the body
	LastError  string    `json:",omitempty"` // for a person, without content
}

// Config configures a Queue.
type Config struct {
	Store  store.Store // opened with Schema
	Logger *slog.Logger
	Now    func() time.Time
	// Lifetime is how long delivery is tried; 0 means two days.
	Lifetime time.Duration
	// Remember is how long sent submissions are recognised; 0 means five days.
	Remember time.Duration
	// MaxBytes of bodies in all; 0 means 1 GiB. Beyond it is ErrFull.
	MaxBytes int64
	// Free tells the free bytes of the disk; nil if unknown. Below MinFree
	// (256 MiB if 0) nothing is taken.
	Free    func() (int64, error)
	MinFree int64
	// Workers send at one time; 0 means 4.
	Workers int
	Count   func(class string)
	// Audit gets a record for every recipient whom an attempt settles, and for
	// what is dropped, released or expires; nil for none.
	Audit audit.Log
	// Meter gets figures; nil for none.
	Meter meter.Meter
}

// Queue is safe for concurrent use.
type Queue struct {
	c    Config
	wake chan struct{} // holds one token: something may be due
	// purged is when old entries were last removed; only Run uses it.
	purged time.Time

	// mu guards what follows.
	mu       sync.Mutex
	pending  []*write            // journal writes that will share the next sync
	lazy     *time.Timer         // leads writes that nobody waits for; nil if none
	known    map[uint64][]string // IDs by submission, so that a new one costs no query
	leading  bool                // somebody is writing pending
	claims   map[string]bool     // submissions that a session works on
	reserved int64               // bytes that sessions may still put in
	stored   int64               // bytes of bodies in the store
	busy     map[string]bool     // IDs that a worker has
	async    sync.WaitGroup
}

// New opens the queue of a store that no other process uses, and settles what a
// crash left: what was being sent becomes Unknown, what was only prepared goes.
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
	c.Remember = cmp.Or(c.Remember, 5*24*time.Hour)
	c.MaxBytes = cmp.Or(c.MaxBytes, 1<<30)
	c.MinFree = cmp.Or(c.MinFree, 256<<20)
	c.Workers = cmp.Or(c.Workers, 4)
	q := &Queue{c: c, wake: make(chan struct{}, 1), claims: map[string]bool{}, busy: map[string]bool{}, known: map[uint64][]string{}}
	if err := q.recover(context.Background()); err != nil {
		return nil, fmt.Errorf("settling the queue after the last run: %w", err)
	}
	return q, nil
}

// Close waits for journal writes that nobody waits for. The store stays open.
func (q *Queue) Close() error {
	q.mu.Lock()
	if q.lazy != nil && q.lazy.Stop() {
		q.lazy = nil
		go q.lazily()
	}
	q.mu.Unlock()
	q.async.Wait()
	return nil
}

// Lifetime is how long delivery of a new entry is tried.
func (q *Queue) Lifetime() time.Duration { return q.c.Lifetime }

// Key names what a client submitted: the same account, Message-ID and bytes
// give the same key. Without a Message-ID there is no key, since two messages
// that look alike may both be meant (RFC 5322, Section 3.6.4).
func Key(account, messageID string, content [32]byte) string {
	if messageID == "" {
		return ""
	}
	h := sha256.New()
	fmt.Fprintf(h, "%d:%s%d:%s", len(account), account, len(messageID), messageID)
	h.Write(content[:])
	return hex.EncodeToString(h.Sum(nil))
}

// Claim takes a submission for one session at a time; "" is always free.
func (q *Queue) Claim(key string) (release func(), ok bool) {
	if key == "" {
		return func() {}, true
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.claims[key] {
		return nil, false
	}
	q.claims[key] = true
	return func() {
		q.mu.Lock()
		delete(q.claims, key)
		q.mu.Unlock()
	}, true
}

// Reserve makes sure that n bytes of bodies can be put in later; ErrFull if not.
func (q *Queue) Reserve(n int64) (release func(), err error) {
	if q.c.Free != nil {
		if free, err := q.c.Free(); err == nil && free-n < q.c.MinFree {
			return nil, fmt.Errorf("the disk has %d bytes left: %w", free, ErrFull)
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.stored+q.reserved+n > q.c.MaxBytes {
		return nil, ErrFull
	}
	q.reserved += n
	return sync.OnceFunc(func() {
		q.mu.Lock()
		q.reserved -= n
		q.mu.Unlock()
	}), nil
}

// Wake has Run look at once for what is due.
func (q *Queue) Wake() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// NewID makes the ID of an entry. It begins with the time, so that new rows lie
// next to each other.
func NewID() string {
	var b [12]byte
	binary.BigEndian.PutUint64(b[:], uint64(time.Now().UnixMilli())<<16)
	rand.Read(b[6:])
	return hex.EncodeToString(b[:10])
}

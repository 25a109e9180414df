// Package store keeps what must outlive the process, encrypted: one interface
// over SQLite (embedded, [Open]) and PostgreSQL (shared, [OpenPostgres]).
//
// Each package that stores something owns its tables and gives its [Schema];
// statements keep to the SQL that both databases speak (INSERT … ON CONFLICT,
// BLOB for bytes, INTEGER for times as Unix microseconds and for booleans), with
// ? for parameters. For PostgreSQL's sake bytes go only into BLOB columns, by a ?
// of their own in VALUES or behind "column ="; there they are sealed, so nothing
// can be asked of them but = where the column is part of a key, or of an index
// that is made with its table. A table's numbers are given by us or by the
// database (INTEGER PRIMARY KEY), not both.
//
// Arguments may be nil, integers, floats, booleans, strings, []byte, types of
// these kinds, time.Time (stored as Unix microseconds, the zero time as 0) and
// [driver.Valuer]; a nil []byte is stored as an empty one. They are scanned into
// pointers to the same, or to pointers for columns that may be NULL, or *any.
//
// SQLite's pages are encrypted, not authenticated: who can write to the disk can
// destroy or turn back rows, not read or forge them at will. PostgreSQL has TEXT
// and numbers in the clear, and BLOBs sealed, for their column but not their row.
// So names that must not be read are stored as keyed hashes ([Store.Key]), and
// rows that carry trust have a [Store.MAC], checked with [Verify].
package store

import (
	"context"
	"crypto/hmac"
	"errors"
)

// ErrNoRow means that a query for one row found none.
var ErrNoRow = errors.New("no such row")

// ErrKey means that the unlock key is not the one that the store was made with.
var ErrKey = errors.New("the key does not open this store")

// ErrTampered means that a row's MAC does not fit it.
var ErrTampered = errors.New("stored row was changed outside of letterlock")

// ErrUnsettled means that it is unknown whether an Update was committed.
var ErrUnsettled = errors.New("the store was lost during a commit, whose outcome is unknown")

// ErrClosed means that the store was used after Close.
var ErrClosed = errors.New("store is closed")

// Schema is the tables of one package: Steps run in order, each once ever, and
// are only ever appended to. A step may hold several statements.
//
// A program whose Steps are fewer than a store has seen refuses it, unless each
// further step begins with the line "-- additive": that is for steps which leave
// everything as it is for a program that doesn't know them, such as a new table,
// an index, or a column with a default. "-- additive where shared" is for those
// that do so in a shared store only, where what they make isn't used. Nodes that share a store are upgraded one
// after another where the new steps are additive; otherwise all are stopped
// before. Columns of bytes keep their names for ever.
type Schema struct {
	Name  string // the package's name; prefix of its tables
	Steps []string
}

// Store is a database. It may be used concurrently, and several processes may
// share one where Shared says so.
type Store interface {
	// View runs f in a read-only transaction, which sees one state, with every
	// Update that returned before. Views don't nest.
	View(ctx context.Context, f func(Tx) error) error
	// Update runs f in a read-write transaction, committed and synced to disk
	// when Update returns nil. f may run more than once and must have no other
	// effect; it must not call Update. What f reads and writes is as if no other
	// f ran meanwhile, here or in another process; but others may run at the
	// same time, so f must guard what lies outside of the store, and what a
	// process remembers of the store may be another's to change. Several may share
	// a commit. Cancelling ctx has an effect until f returned.
	//
	// ErrUnsettled means that a shared store was lost during the commit and
	// nobody can say whether it was made. After any other error nothing was
	// written, and nothing is read; only where the disk failed to sync the commit
	// and the process dies before the next one, it may be there afterwards.
	Update(ctx context.Context, f func(Tx) error) error
	// MAC authenticates a row that carries trust: purpose separates tables.
	MAC(purpose string, fields ...[]byte) []byte
	// Key derives a key for another use from the store's own.
	Key(purpose string) [32]byte
	// Shared tells whether other processes may use the same store.
	Shared() bool
	// Notify wakes those who listen on channel, in this process and in others. It
	// is a hint: call it after the Update whose result it announces; it may get
	// lost, and equal ones become one. channel is a word, payload at most 1000
	// bytes without secrets; an empty payload says "look at everything".
	Notify(ctx context.Context, channel, payload string) error
	// Listen calls f for each notification, one at a time, until ctx ends, and
	// returns its error. f is called with "" at first and whenever notifications
	// may have been lost.
	Listen(ctx context.Context, channel string, f func(payload string)) error
	// Close waits for what runs, then frees files and keys. It may be called twice.
	Close() error
}

// Tx is a transaction; not for concurrent use, not valid after f returned.
//
// A SELECT within Update may end with FOR UPDATE, or FOR UPDATE SKIP LOCKED: its
// rows are then this transaction's until it ends, and the latter passes over
// those that are another's. Where only one f runs at a time this is so anyway.
//
// After an error other than ErrNoRow the transaction may be lost: f returns it.
type Tx interface {
	// Exec runs a statement and returns the number of rows that it changed.
	Exec(query string, args ...any) (int64, error)
	// Row scans the first row into dest, or returns ErrNoRow.
	Row(query string, args []any, dest ...any) error
	// Rows calls each for every row; scan copies into dest. If each runs
	// statements of this Tx, a shared store keeps the rows to come in memory.
	Rows(query string, args []any, each func(scan func(dest ...any) error) error) error
	// Lock waits until no other transaction has the lock of that name, and takes
	// it until this one ends. Only within Update.
	Lock(name string) error
}

// relaxed marks a context; see Relaxed.
type relaxed struct{}

// Relaxed gives a context with which a shared store's Update promises less and
// costs less: f doesn't run as if alone. Each of its statements sees what was
// committed before it began; rows that f changes or selects FOR UPDATE, and what
// it locks with [Tx.Lock], are its own until the end. It is for functions that
// decide on nothing else, such as one that inserts a row of its own.
func Relaxed(ctx context.Context) context.Context {
	return context.WithValue(ctx, relaxed{}, true)
}

// Verify compares a row's MAC in constant time; ErrTampered if it doesn't fit.
func Verify(s Store, mac []byte, purpose string, fields ...[]byte) error {
	if !hmac.Equal(mac, s.MAC(purpose, fields...)) {
		return ErrTampered
	}
	return nil
}

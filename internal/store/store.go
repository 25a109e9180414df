// Package store keeps what must outlive the process, encrypted: one interface
// over SQLite (embedded) and, later, PostgreSQL (shared).
//
// Each package that stores something owns its tables and gives its [Schema];
// statements keep to the SQL that both databases speak (INSERT … ON CONFLICT,
// BLOB for bytes, INTEGER for times as Unix microseconds and for booleans), with
// ? for parameters.
//
// Arguments may be nil, integers, floats, booleans, strings, []byte, types of
// these kinds, time.Time (stored as Unix microseconds, the zero time as 0) and
// [driver.Valuer]; a nil []byte is stored as an empty one. They are scanned into
// pointers to the same, or to pointers for columns that may be NULL, or *any.
//
// Pages are encrypted, not authenticated: who can write to the disk can destroy
// or turn back rows, not read or forge them at will. Rows that carry trust have
// a [Store.MAC], checked with [Verify].
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

// ErrClosed means that the store was used after Close.
var ErrClosed = errors.New("store is closed")

// Schema is the tables of one package: Steps run in order, each once ever, and
// are only ever appended to. A step may hold several statements.
type Schema struct {
	Name  string // the package's name; prefix of its tables
	Steps []string
}

// Store is a database. It may be used concurrently.
type Store interface {
	// View runs f in a read-only transaction. Views don't nest, and don't see an
	// Update that has not returned.
	View(ctx context.Context, f func(Tx) error) error
	// Update runs f in a read-write transaction, committed and synced to disk
	// when Update returns nil. f may run more than once and must have no other
	// effect; it must not call Update. One f runs at a time; several may share
	// a commit, each as if alone. Cancelling ctx has an effect until f returned.
	Update(ctx context.Context, f func(Tx) error) error
	// MAC authenticates a row that carries trust: purpose separates tables.
	MAC(purpose string, fields ...[]byte) []byte
	// Key derives a key for another use from the store's own.
	Key(purpose string) [32]byte
	// Close waits for what runs, then frees files and keys. It may be called twice.
	Close() error
}

// Tx is a transaction; not for concurrent use, not valid after f returned.
type Tx interface {
	// Exec runs a statement and returns the number of rows that it changed.
	Exec(query string, args ...any) (int64, error)
	// Row scans the first row into dest, or returns ErrNoRow.
	Row(query string, args []any, dest ...any) error
	// Rows calls each for every row; scan copies into dest.
	Rows(query string, args []any, each func(scan func(dest ...any) error) error) error
}

// Verify compares a row's MAC in constant time; ErrTampered if it doesn't fit.
func Verify(s Store, mac []byte, purpose string, fields ...[]byte) error {
	if !hmac.Equal(mac, s.MAC(purpose, fields...)) {
		return ErrTampered
	}
	return nil
}

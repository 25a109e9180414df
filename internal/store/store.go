// Package store keeps what must outlive the process, encrypted: one interface
// over SQLite (embedded) and, later, PostgreSQL (shared).
//
// Each package that stores something owns its tables and gives its [Schema];
// statements keep to the SQL that both databases speak (INSERT … ON CONFLICT,
// BLOB for bytes, INTEGER for times as Unix microseconds and for booleans), with
// ? for parameters.
package store

import (
	"context"
	"errors"
)

// ErrNoRow means that a query for one row found none.
var ErrNoRow = errors.New("no such row")

// ErrKey means that the unlock key is not the one that the store was made with.
var ErrKey = errors.New("the key does not open this store")

// ErrTampered means that a row's MAC does not fit it.
var ErrTampered = errors.New("stored row was changed outside of letterlock")

// Schema is the tables of one package: Steps run in order, each once ever, and
// are only ever appended to.
type Schema struct {
	Name  string // the package's name; prefix of its tables
	Steps []string
}

// Store is a database. It may be used concurrently.
type Store interface {
	// View runs f in a read-only transaction.
	View(ctx context.Context, f func(Tx) error) error
	// Update runs f in a read-write transaction, committed and synced to disk
	// when f returns nil. f may run more than once and must have no other effect.
	Update(ctx context.Context, f func(Tx) error) error
	// MAC authenticates a row that carries trust: purpose separates tables.
	MAC(purpose string, fields ...[]byte) []byte
	// Key derives a key for another use from the store's own.
	Key(purpose string) [32]byte
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

// Open opens or creates the encrypted SQLite database at path and brings its
// schemas up to date. A wrong key is ErrKey and changes nothing.
func Open(path string, key [32]byte, schemas ...Schema) (Store, error) { panic("not built yet") }

// OpenMemory is a store that ends with the process, for tests and the demo.
func OpenMemory(schemas ...Schema) (Store, error) { panic("not built yet") }

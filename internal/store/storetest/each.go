package storetest

import (
	"context"
	"testing"

	"letterlock.org/letterlock/internal/mailtest/peer"
	"letterlock.org/letterlock/internal/store"
)

// Each runs f over an empty store of every kind, with those schemas; PostgreSQL
// where it is installed. The stores end with the test.
func Each(t *testing.T, schemas []store.Schema, f func(t *testing.T, s store.Store)) {
	t.Run("memory", func(t *testing.T) {
		s, err := store.OpenMemory(schemas...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		f(t, s)
	})
	t.Run("PostgreSQL", func(t *testing.T) { f(t, Postgres(t, peer.Postgres(t).Fresh(), schemas...)) })
}

// Postgres opens a store in PostgreSQL, with a key that is always the same, so
// that several may share it.
func Postgres(t testing.TB, url string, schemas ...store.Schema) store.Store {
	t.Helper()
	s, err := store.OpenPostgres(context.Background(), url, [32]byte{1}, schemas...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

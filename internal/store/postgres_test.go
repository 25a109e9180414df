package store_test

import (
	"testing"

	"letterlock.org/letterlock/internal/mailtest/peer"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/internal/store/storetest"
)

func openPostgres(t *testing.T, url string, k byte, schemas ...store.Schema) store.Store {
	t.Helper()
	s, err := store.OpenPostgres(ctx, url, key(k), schemas...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestPostgres(t *testing.T) {
	server := peer.Postgres(t)
	storetest.Run(t, func(t *testing.T) store.Store {
		return openPostgres(t, server.Fresh(), 1, storetest.Schema)
	})
}

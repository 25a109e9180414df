package main

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/config"
	"letterlock.org/letterlock/internal/store"
)

// inside is a state in memory over some configuration, with a clock that the
// test moves, which serves nothing.
func inside(t *testing.T, toml string, at *time.Time) *state {
	t.Helper()
	cfg, err := config.Parse("test", fmt.Sprintf("state_dir = %q\n%s", t.TempDir(), toml))
	if err != nil {
		t.Fatal(err)
	}
	st, err := store.OpenMemory(schemas...)
	if err != nil {
		t.Fatal(err)
	}
	s, err := newState(context.Background(), cfg, st, slog.New(slog.DiscardHandler), func() time.Time { return *at })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

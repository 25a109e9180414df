package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/config"
	"letterlock.org/letterlock/internal/store"
)

// TestKeysAreExtendedAndPublished is inside the package for the sake of its
// clock: a key lives for years.
func TestKeysAreExtendedAndPublished(t *testing.T) {
	ctx := context.Background()
	cfg, err := config.Parse("test", fmt.Sprintf("state_dir = %q\n[keydir]\nlisten = \"127.0.0.1:0\"\ndomains = [\"example.org\"]\n", t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	st, err := store.OpenMemory(schemas...)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	s, err := newState(ctx, cfg, st, slog.New(slog.DiscardHandler), func() time.Time { return at })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	alice, bob := address.Address{Local: "alice", Domain: "example.org"}, address.Address{Local: "bob", Domain: "example.org"}
	for _, a := range []address.Address{alice, bob} {
		c, err := s.keys.Generate(ctx, a, "")
		if err != nil {
			t.Fatal(err)
		}
		if a.Equal(alice) {
			if err := s.keydir.Add(ctx, a, c); err != nil {
				t.Fatal(err)
			}
		}
	}
	at = at.Add(500 * 24 * time.Hour)
	s.extendDue(ctx)
	for _, a := range []address.Address{alice, bob} {
		if c, err := s.keys.Certificate(ctx, a); err != nil || c.Expires().Sub(at) < 700*24*time.Hour {
			t.Errorf("the key of %s was not extended: %v", a, err)
		}
	}
	if c, err := s.keydir.Certificate(ctx, alice); err != nil || c.Expires().Sub(at) < 700*24*time.Hour {
		t.Errorf("what is published for Alice is the old state: %v", err)
	}
	if _, err := s.keydir.Certificate(ctx, bob); !errors.Is(err, store.ErrNoRow) {
		t.Errorf("Bob's certificate, which nobody published, is published: %v", err)
	}
}

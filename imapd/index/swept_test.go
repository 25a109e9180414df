package index_test

import (
	"context"
	"testing"

	"letterlock.org/letterlock/internal/message"
)

// TestASweptMailboxIsNobodyElses: its number in the store is given to the next
// one, its messages are not.
func TestASweptMailboxIsNobodyElses(t *testing.T) {
	ctx := context.Background()
	f := newFixture(t)
	gone, err := f.lib.Mailbox(ctx, "Gone", 1)
	if err != nil {
		t.Fatal(err)
	}
	f.add(gone, 5, letter("<secret>", "of the mailbox that is gone"))
	if r, ok := gone.Cached(5); !ok {
		t.Fatal("nothing is cached")
	} else {
		r.Close()
	}
	gone.Close()
	if err := f.lib.Sweep(ctx, map[string]uint32{}); err != nil {
		t.Fatal(err)
	}
	m := f.mailbox("New", 1)
	if r, ok := m.Cached(5); ok {
		b, _ := message.ReadAll(r.Message.Source, 1<<20)
		r.Close()
		t.Errorf("the new mailbox has a message of the old one: %q", b)
	}
}

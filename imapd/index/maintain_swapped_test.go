package index_test

import (
	"errors"
	"testing"

	"letterlock.org/letterlock/imapd/index"
	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/pgp"
)

// TestRecheckKeepsReasons: that a signer is known better now says nothing of why a
// message is not shown.
func TestRecheckKeepsReasons(t *testing.T) {
	f := newFixture(t)
	f.add(f.mailbox("INBOX", 1), 1, letter("<1@x>", "text"))
	f.reopen()
	m := f.mailbox("INBOX", 1)
	if _, err := m.Open(t.Context(), 1, message.Bytes(letter("<2@x>", "other"))); !errors.Is(err, index.ErrSwapped) {
		t.Fatalf("another message under the UID: %v", err)
	}
	f.mu.Lock()
	f.identity = pgp.Confirmed
	f.mu.Unlock()
	if err := f.lib.Recheck(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := m.Keywords(1); len(got) != 3 {
		t.Errorf("keywords %v", got)
	}
	if reason, err := m.Reason(t.Context(), 1); err != nil || reason != index.ErrSwapped.Error() {
		t.Errorf("reason %q, %v", reason, err)
	}
}

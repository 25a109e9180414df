package index_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/pgp"
)

// TestFrozenVerdictsGoAtLast: they outlive their messages, and not for ever; what
// was opened is known for ever.
func TestFrozenVerdictsGoAtLast(t *testing.T) {
	ctx := context.Background()
	f := newFixture(t)
	now := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	f.c.Now = func() time.Time { return now }
	f.reopen()
	const day = 24 * time.Hour
	m := f.mailbox("INBOX", 1)
	gone, stays := letter("<gone>", "x"), letter("<stays>", "x")
	f.add(m, 1, gone)
	f.add(m, 2, stays)
	frozen := func() (n int64) {
		t.Helper()
		err := f.store.View(ctx, func(tx store.Tx) error {
			return tx.Row(`SELECT COUNT(*) FROM index_frozen`, nil, &n)
		})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	sweep := func(after time.Duration, want int64) {
		t.Helper()
		now = now.Add(after)
		if err := f.lib.Sweep(ctx, map[string]uint32{"INBOX": 1}); err != nil {
			t.Fatal(err)
		}
		if n := frozen(); n != want {
			t.Errorf("on %v there are %d verdicts, want %d", now, n, want)
		}
	}
	sweep(200*day, 2)
	if err := m.Expunged(ctx, []uint32{1}); err != nil {
		t.Fatal(err)
	}
	sweep(59*day, 2)
	f.mu.Lock()
	f.verdict.Signature = pgp.SignatureBad // what is judged anew shows it
	f.mu.Unlock()
	if got := f.shown(m, 11, gone); !strings.Contains(got, "valid") {
		t.Errorf("what comes back is shown as %.60q", got)
	}
	if err := m.Expunged(ctx, []uint32{11}); err != nil {
		t.Fatal(err)
	}
	sweep(29*day, 2)
	sweep(100*day, 1)
	if got := f.shown(m, 12, gone); strings.Contains(got, "valid") {
		t.Errorf("it is shown as %.60q", got)
	}
	if got := f.shown(m, 13, stays); !strings.Contains(got, "valid") {
		t.Errorf("the other is shown as %.60q", got)
	}
	for _, id := range []string{"<gone>", "<stays>"} {
		if opened, err := f.lib.WasOpened(ctx, id); err != nil || !opened {
			t.Errorf("%s is not known as opened: %v", id, err)
		}
	}
}

// TestFrozenVerdictsOfAnOlderStore begin to count when they are first looked at.
func TestFrozenVerdictsOfAnOlderStore(t *testing.T) {
	ctx := context.Background()
	f := newFixture(t)
	f.add(f.mailbox("INBOX", 1), 1, letter("<m>", "x"))
	err := f.store.Update(ctx, func(tx store.Tx) error {
		if _, err := tx.Exec(`UPDATE index_frozen SET seen = 0`); err != nil {
			return err
		}
		_, err := tx.Exec(`DELETE FROM index_row`)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.lib.Sweep(ctx, map[string]uint32{"INBOX": 1}); err != nil {
		t.Fatal(err)
	}
	var n int64
	err = f.store.View(ctx, func(tx store.Tx) error { return tx.Row(`SELECT COUNT(*) FROM index_frozen WHERE seen > 0`, nil, &n) })
	if err != nil || n != 1 {
		t.Errorf("%d verdicts are left, %v", n, err)
	}
}

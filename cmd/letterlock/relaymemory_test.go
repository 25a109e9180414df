package main_test

import (
	"fmt"
	"testing"
	"time"

	main "letterlock.org/letterlock/cmd/letterlock"
	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/internal/store/storetest"
	"letterlock.org/letterlock/pgp"
)

// TestWhatAGatewayRemembersIsPruned: nothing is forgotten before twenty years after it
// was last seen; what a node of an older version wrote counts from when it was found.
func TestWhatAGatewayRemembersIsPruned(t *testing.T) {
	storetest.Each(t, []store.Schema{main.InboundSchema}, func(t *testing.T, s store.Store) {
		const day = 24 * time.Hour
		start := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
		now, ctx := start, t.Context()
		m := main.NewInboundMemory(s, func() time.Time { return now })
		bob := address.Address{Local: "bob", Domain: "example.org"}
		see := func(packet byte, id string, want bool) {
			t.Helper()
			if got, err := m.Replayed(ctx, bob, packet, "ann@example.net", id); err != nil || got != want {
				t.Errorf("after %v, packet %d in %s: replayed %v, %v", now.Sub(start), packet, id, got, err)
			}
		}
		was := func(id string, want bool) {
			t.Helper()
			if got, err := m.WasOpened(ctx, id); err != nil || got != want {
				t.Errorf("after %v, %s was opened: %v, %v", now.Sub(start), id, got, err)
			}
		}
		prune := func(want int64) {
			t.Helper()
			if n, err := m.Prune(ctx); err != nil || n != want {
				t.Errorf("after %v: %d removed, %v, want %d", now.Sub(start), n, err, want)
			}
		}
		old := func(n int) { // as a node without the column writes
			t.Helper()
			err := s.Update(ctx, func(tx store.Tx) error {
				for i := range n {
					if _, err := tx.Exec(`INSERT INTO inbound_packet (packet, origin) VALUES (?, ?)`, fmt.Appendf(nil, "old %d", i), []byte("x")); err != nil {
						return err
					}
				}
				_, err := tx.Exec(`INSERT INTO inbound_opened (message) VALUES (?)`, []byte("old"))
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		see(1, "<a>", false)
		see(2, "<b>", false)
		if err := m.Remember(ctx, "<a>"); err != nil {
			t.Fatal(err)
		}
		old(2500)
		prune(0)
		const year = 365 * day
		now = start.Add(10 * year)
		see(1, "<a>", false) // delivered again
		see(2, "<x>", true)
		now = start.Add(19 * year)
		see(3, "<c>", false)
		prune(0)
		now = start.Add(20*year + day)
		prune(2503) // those of the older node, and <a> by two names; the packets were seen later
		see(1, "<x>", true)
		was("<a>", false)
		was("<b>", false)
		if err := m.Remember(ctx, "<c>"); err != nil {
			t.Fatal(err)
		}
		now = start.Add(30*year + day)
		prune(2) // 2, by two names
		see(2, "<x>", false)
		see(1, "<x>", true)
		was("<c>", true)
	})
}

// TestWhatWasSeenInTheSeventies: a machine that doesn't know the date yet opens mail
// all the same. What it notes then isn't forgotten as soon as it does.
func TestWhatWasSeenInTheSeventies(t *testing.T) {
	storetest.Each(t, []store.Schema{main.InboundSchema}, func(t *testing.T, s store.Store) {
		now, ctx := time.Unix(3600, 0), t.Context()
		m := main.NewInboundMemory(s, func() time.Time { return now })
		bob := address.Address{Local: "bob", Domain: "example.org"}
		if _, err := m.Replayed(ctx, bob, 1, "ann@example.net", "<a>"); err != nil {
			t.Fatal(err)
		}
		if err := m.Remember(ctx, "<a>"); err != nil {
			t.Fatal(err)
		}
		for _, now = range []time.Time{now.Add(6 * time.Hour), time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC), time.Date(2046, 11, 1, 0, 0, 0, 0, time.UTC)} {
			if n, err := m.Prune(ctx); err != nil || n != 0 {
				t.Errorf("in %d: %d removed, %v", now.Year(), n, err)
			}
			if was, err := m.WasOpened(ctx, "<a>"); err != nil || !was {
				t.Errorf("in %d: an answer may go in clear, %v", now.Year(), err)
			}
		}
		now = now.AddDate(1, 0, 0)
		if n, err := m.Prune(ctx); err != nil || n != 4 {
			t.Errorf("in %d: %d removed, %v", now.Year(), n, err)
		}
	})
}

// TestAGatewayRemembersLongerThanItsAuthority: the local authority is made anew every
// few years, and what was opened before stays opened.
func TestAGatewayRemembersLongerThanItsAuthority(t *testing.T) {
	storetest.Each(t, []store.Schema{main.InboundSchema}, func(t *testing.T, s store.Store) {
		m, ctx := main.NewInboundMemory(s, time.Now), t.Context()
		bob := address.Address{Local: "bob", Domain: "example.org"}
		if again, err := m.Replayed(ctx, bob, 1, "ann@example.net", "<a>"); again || err != nil {
			t.Fatal(again, err)
		}
		if err := m.Remember(ctx, "<a>"); err != nil {
			t.Fatal(err)
		}
		m = m.Renewed()
		for from, want := range map[string]bool{"eve@example.net": true, "ann@example.net": false} {
			if again, err := m.Replayed(ctx, bob, 1, from, "<a>"); again != want || err != nil {
				t.Errorf("from %s: replayed %v, %v", from, again, err)
			}
		}
		for id, want := range map[string]bool{"<a>": true, "<b>": false} {
			if was, err := m.WasOpened(ctx, id); was != want || err != nil {
				t.Errorf("%s was opened: %v, %v", id, was, err)
			}
		}
	})
}

// TestAPacketIsReplayedToAnotherMailbox: mailboxes that share a key share what was
// opened by it, and a thief who comes between keeps no letter from its reader.
func TestAPacketIsReplayedToAnotherMailbox(t *testing.T) {
	storetest.Each(t, []store.Schema{main.InboundSchema}, func(t *testing.T, s store.Store) {
		m := main.NewInboundMemory(s, func() time.Time { return time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC) })
		sales, support, bob := address.Address{Local: "sales", Domain: "example.org"}, address.Address{Local: "support", Domain: "example.org"}, address.Address{Local: "bob", Domain: "example.org"}
		for i, tt := range []struct {
			to   address.Address
			keys []pgp.Fingerprint
			from string
			want bool
		}{
			{sales, []pgp.Fingerprint{"K"}, "ann@example.net", false},
			{support, []pgp.Fingerprint{"L", "K"}, "eve@example.net", true},
			{support, []pgp.Fingerprint{"L", "K"}, "ann@example.net", false},
			{support, []pgp.Fingerprint{"M"}, "eve@example.net", true},
			{bob, []pgp.Fingerprint{"N"}, "eve@example.net", false},
		} {
			if got, err := m.ReplayedTo(t.Context(), tt.to, tt.keys, 1, tt.from, "<a>"); got != tt.want || err != nil {
				t.Errorf("%d: to %s from %s: replayed %v, %v", i, tt.to, tt.from, got, err)
			}
		}
	})
}

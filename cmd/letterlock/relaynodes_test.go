package main_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	main "letterlock.org/letterlock/cmd/letterlock"
	"letterlock.org/letterlock/internal/config"
	"letterlock.org/letterlock/internal/mailtest/peer"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/internal/store/storetest"
)

// TestNodesWithDifferentRulesAreTold: a relay that has not had the reload that the
// other has had says so, and so does the other, until both go by the same.
func TestNodesWithDifferentRulesAreTold(t *testing.T) {
	db := peer.Postgres(t)
	sink := peer.StartSink(t)
	w, _ := newRelayWorld(t, sink.Addr, "")
	url := db.Fresh()
	configure := func(name, mode string) *bridge {
		return w.configure(name, relayConfig(w, "127.0.0.1:0", sink.Addr, fmt.Sprintf("[policy]\ndefault = %q\n[store]\nurl = %q\n", mode, url)))
	}
	one, two := configure("one", "prefer"), configure("two", "prefer")
	one.serve(1)
	two.serve(1)
	differ := func(b *bridge, want bool) {
		t.Helper()
		var got string
		for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
			if got = b.command("status"); strings.Contains(got, "go by different rules; this one has ") == want {
				return
			}
		}
		t.Errorf("%s, differing %v:\n%s", b.name, want, got)
	}
	differ(one, false)
	differ(two, false)
	configure("two", "require")
	two.command("reload")
	differ(one, true)
	differ(two, true)
	configure("one", "require")
	one.command("reload")
	differ(one, false)
	differ(two, false)
	configure("two", "refuse")
	two.command("reload")
	differ(one, true)
	two.process.Process.Signal(os.Interrupt) // it signs off
	two.process.Wait()
	w.running = slices.DeleteFunc(w.running, func(b *bridge) bool { return b == two })
	differ(one, false)
	if log, _ := os.ReadFile(two.log); !strings.Contains(string(log), "nodes of this store go by different rules") {
		t.Error("the log has nothing of it")
	}
}

// TestANodeThatDiedAheadIsForgotten: its clock was years ahead, so that it would be
// told of as one that lives for as long.
func TestANodeThatDiedAheadIsForgotten(t *testing.T) {
	storetest.Each(t, []store.Schema{main.NodeSchema}, func(t *testing.T, st store.Store) {
		ctx, now := t.Context(), time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
		clock := func() time.Time { return now }
		one := main.NewNode(st, "one", clock, &config.Config{Relay: &config.Relay{DomainKey: "a@example.org"}})
		two := main.NewNode(st, "two", clock, &config.Config{Relay: &config.Relay{DomainKey: "b@example.org"}})
		ahead := main.NewNode(st, "ahead", func() time.Time { return now.AddDate(3, 0, 0) }, &config.Config{})
		for _, n := range []main.Node{ahead, two, one} {
			if err := n.Tell(ctx); err != nil {
				t.Fatal(err)
			}
		}
		odd, err := one.Others(ctx)
		if err != nil || len(odd) != 1 || !strings.HasPrefix(odd[0], "two has ") {
			t.Errorf("others are %q, %v", odd, err)
		}
		now = now.Add(5 * time.Minute)
		if odd, err = one.Others(ctx); err != nil || len(odd) > 0 {
			t.Errorf("five minutes later others are %q, %v", odd, err)
		}
	})
}

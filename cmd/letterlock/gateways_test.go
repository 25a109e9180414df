package main_test

import (
	"context"
	"testing"
	"time"

	main "letterlock.org/letterlock/cmd/letterlock"
	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/keydir"
)

// everybody is found in the directory of his domain.
type everybody struct{}

func (everybody) Find(_ context.Context, a address.Address) (keydir.Finding, error) {
	return keydir.Finding{Address: a, Outcome: keydir.Found, Attempts: []keydir.Attempt{{Source: "wkd advanced"}}}, nil
}

// TestGatewaysAreLookedUpBeside: once a day, by the clock that is right in the end,
// and whatever becomes of it.
func TestGatewaysAreLookedUpBeside(t *testing.T) {
	now, asked := time.Date(2076, 1, 1, 0, 0, 0, 0, time.UTC), make(chan address.Address, 1)
	f, end := main.NewGateways(everybody{}, func(ctx context.Context, a address.Address) (keydir.Finding, error) {
		asked <- a
		if a.Domain == "slow.example" {
			<-ctx.Done()
		}
		panic("hostile bytes")
	}, func() time.Time { return now })
	find := func(who string, want bool) {
		t.Helper()
		a, err := address.Parse(who)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Find(t.Context(), a); err != nil {
			t.Fatal(err)
		}
		if !want {
			select {
			case g := <-asked:
				t.Errorf("%s: %s is looked up", who, g)
			case <-time.After(20 * time.Millisecond):
			}
			return
		}
		select {
		case g := <-asked:
			if g.Local != "gateway" || g.Domain != a.Domain {
				t.Errorf("%s: %s is looked up", who, g)
			}
		case <-time.After(patience):
			t.Errorf("%s: no gateway is looked up", who)
		}
	}
	find("bob@example.net", true)
	find("carol@example.net", false)
	find("gateway@example.org", false)
	now = now.AddDate(-50, 0, 0) // it was ahead
	find("bob@example.net", true)
	now = now.Add(23 * time.Hour)
	find("bob@example.net", false)
	now = now.Add(2 * time.Hour)
	find("bob@example.net", true)
	find("ann@slow.example", true)
	ended := make(chan error)
	go func() { ended <- end() }()
	select {
	case <-ended:
	case <-time.After(patience):
		t.Error("the end waits for a lookup")
	}
}

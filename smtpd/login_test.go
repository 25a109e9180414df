package smtpd_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/smtpd"
	"letterlock.org/letterlock/smtpd/queue"
)

// stuck is a store whose rows another node holds while it stands still.
type stuck struct {
	store.Store
	mu    sync.Mutex
	holds chan struct{} // nil as long as nobody does
}

func (s *stuck) Update(ctx context.Context, f func(store.Tx) error) error {
	s.mu.Lock()
	holds := s.holds
	s.mu.Unlock()
	if holds != nil {
		select {
		case <-holds:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return s.Store.Update(ctx, f)
}

// TestALoginDoesNotWaitForTheQueue: what waits for an account is hurried when its
// user comes, and that may take as long as the store likes.
func TestALoginDoesNotWaitForTheQueue(t *testing.T) {
	plain, err := store.OpenMemory(queue.Schema)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { plain.Close() })
	st, free := &stuck{Store: plain}, make(chan struct{})
	b := newBridgeOn(t, newUpstream(t), st)
	st.mu.Lock()
	st.holds = free
	st.mu.Unlock()
	k := b.login() // it has thirty seconds
	close(free)
	k.run("C: QUIT\nS: 221")
}

// TestTheQueueSendsForNobodyWhoIsGone: an account that logged in and was taken away
// since, or whose password is another now, is not what it was at its login.
func TestTheQueueSendsForNobodyWhoIsGone(t *testing.T) {
	u := newUpstream(t)
	var account atomic.Pointer[smtpd.Account] // nil: it is gone
	asked := make(chan struct{}, 100)
	b := newBridge(t, u, func(c *smtpd.Config, _ *smtpd.Account, _ *queue.Config) {
		c.Account = func(context.Context, string) (*smtpd.Account, error) {
			select {
			case asked <- struct{}{}:
			default:
			}
			if a := account.Load(); a != nil {
				return a, nil
			}
			return nil, errors.New("there is no such account")
		}
	})
	all := []string{"bob@example.net", "carol@example.net", "dave@example.net", "erin@example.net"}
	if got := b.login().submit(wired(letter("1", all[0])), all...); !strings.HasPrefix(got, "250") {
		t.Fatalf("the answer is %q", got)
	}
	<-asked
	waiting := func() []queue.Entry {
		es, err := b.queue.List(t.Context(), queue.Waiting, 10)
		if err != nil {
			t.Fatal(err)
		}
		return es
	}
	eventually(t, "the rest waits", func() bool {
		es := waiting()
		return len(es) == 1 && strings.Contains(es[0].LastError, "no such account")
	})
	if n := len(u.received()); n != 3 {
		t.Errorf("%d messages went out, want those of the session alone", n)
	}
	account.Store(b.account)
	if err := b.queue.Hurry(t.Context(), "alice@example.org"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the rest has gone", func() bool { return len(u.received()) == 4 && len(waiting()) == 0 })
}

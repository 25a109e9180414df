package smtpd_test

import (
	"context"
	"sync"
	"testing"

	"letterlock.org/letterlock/internal/store"
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

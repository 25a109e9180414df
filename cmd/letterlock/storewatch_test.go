package main_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	main "letterlock.org/letterlock/cmd/letterlock"
	"letterlock.org/letterlock/internal/store"
)

// failing is a store whose reads end in err, once there is one.
type failing struct {
	store.Store
	err atomic.Pointer[error]
}

func (f *failing) View(context.Context, func(store.Tx) error) error {
	if err := f.err.Load(); err != nil {
		return *err
	}
	return nil
}

// TestOnlyAStoreThatIsLostEndsServe: what passes by itself, such as a database that
// can't be reached for a while, is waited for.
func TestOnlyAStoreThatIsLostEndsServe(t *testing.T) {
	st := &failing{}
	lost := main.StoreLost(t.Context(), st, time.Millisecond)
	for _, err := range []error{nil, errors.New("the database can't be reached")} {
		st.err.Store(&err)
		select {
		case got := <-lost:
			t.Fatalf("%v: serve would end: %v", err, got)
		case <-time.After(30 * time.Millisecond):
		}
	}
	gone := fmt.Errorf("reading: %w", store.ErrSync)
	st.err.Store(&gone)
	if got := <-lost; !errors.Is(got, store.ErrSync) {
		t.Errorf("serve ends with %v", got)
	}
}

package main

import (
	"context"
	"errors"
	"time"

	"letterlock.org/letterlock/internal/store"
)

// storeLook is how often serve looks whether its store can be used.
const storeLook = 5 * time.Second

// storeLost gives an error once the store says that only a restart recovers it
// ([store.ErrSync]): until then mail would wait for nothing, and whoever watches over
// the process would not know. It ends with ctx.
func storeLost(ctx context.Context, st store.Store, every time.Duration) <-chan error {
	lost := make(chan error, 1)
	go func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			err := st.View(ctx, func(store.Tx) error { return nil })
			if errors.Is(err, store.ErrSync) {
				lost <- err
				return
			}
		}
	}()
	return lost
}

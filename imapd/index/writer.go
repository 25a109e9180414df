package index

import (
	"context"
	"sync"

	"letterlock.org/letterlock/internal/store"
)

// writer gathers the updates of concurrent callers into one transaction, so
// that a hundred openings under way cost one sync to disk, not a hundred.
type writer struct {
	store store.Store

	mu      sync.Mutex
	waiting []*update // guarded by mu
	busy    bool      // guarded by mu: somebody is committing
}

type update struct {
	f    func(store.Tx) error
	done chan error // buffered
}

// update runs f in a transaction, alone or with others', and returns when it is
// on disk. f may run more than once and must have no other effect. After ctx
// ended, the outcome is unknown: it may still be written.
func (w *writer) update(ctx context.Context, f func(store.Tx) error) error {
	u := &update{f, make(chan error, 1)}
	w.mu.Lock()
	w.waiting = append(w.waiting, u)
	lead := !w.busy
	w.busy = true
	w.mu.Unlock()
	if lead {
		// Another's update must not fail because this caller went away.
		go w.drain(context.WithoutCancel(ctx))
	}
	select {
	case err := <-u.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// drain commits what waits until nothing does.
func (w *writer) drain(ctx context.Context) {
	for {
		w.mu.Lock()
		batch := w.waiting
		w.waiting = nil
		w.busy = len(batch) > 0
		w.mu.Unlock()
		if len(batch) == 0 {
			return
		}
		w.commit(ctx, batch)
	}
}

// commit runs a batch as one transaction; if that fails, each alone, so that
// one caller's error is not another's.
func (w *writer) commit(ctx context.Context, batch []*update) {
	err := w.store.Update(ctx, func(tx store.Tx) error {
		for _, u := range batch {
			if err := u.f(tx); err != nil {
				return err
			}
		}
		return nil
	})
	for _, u := range batch {
		if err != nil && len(batch) > 1 {
			u.done <- w.store.Update(ctx, u.f)
			continue
		}
		u.done <- err
	}
}

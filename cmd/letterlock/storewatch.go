package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"letterlock.org/letterlock/internal/store"
)

// storeLook is how often serve looks whether its store can be used.
const storeLook = 5 * time.Second

// storeLost gives an error once the store says that only a restart recovers it
// ([store.ErrSync]): until then mail would wait for nothing, and whoever watches over
// the process would not know. So it does once the error of there is errTaken. It ends
// with ctx.
func storeLost(ctx context.Context, st store.Store, every time.Duration, there func() error) <-chan error {
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
			if err == nil {
				err = there()
			}
			if errors.Is(err, store.ErrSync) || errors.Is(err, errTaken) {
				lost <- err
				return
			}
		}
	}()
	return lost
}

// errTaken means that state_dir, or what is in it, was removed or moved away, or has
// something else in its place. What is written to a file that has no name any more
// is gone with the process, and another process may take the name.
var errTaken = errors.New("was removed, moved away or replaced while serve ran, so nothing more can be kept there; put it back as it was, or make a new one, and start serve again")

// inPlace tells whether the lock, and the store where it is a file, still have the
// names under which they were opened.
func (s *state) inPlace() func() error {
	cfg := s.cfg.Load()
	files := []string{filepath.Join(cfg.StateDir, "lock")}
	if !cfg.Store.Shared() {
		files = append(files, filepath.Join(cfg.StateDir, storeName))
	}
	opened := make([]fs.FileInfo, len(files))
	for i, file := range files {
		opened[i], _ = os.Stat(file) // nil is like nothing that comes later
	}
	return func() error {
		for i, file := range files {
			now, err := os.Stat(file)
			if errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(opened[i], now) {
				return fmt.Errorf("%s %w", file, errTaken)
			}
		}
		return nil // what can't be looked at for now may be there
	}
}

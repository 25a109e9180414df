package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	"letterlock.org/letterlock/internal/mishap"
)

// listenControl opens the control socket of a state directory that is locked by
// us; what a crash left there is removed.
func listenControl(stateDir string) (net.Listener, error) {
	path := filepath.Join(stateDir, controlName)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("removing an old control socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("opening the control socket: %w (its path may have at most about 100 characters)", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// serveControl runs the commands of clients until l is closed, and returns when
// the last of them has ended. When ctx ends they are cut off.
func serveControl(ctx context.Context, l net.Listener, s *state) {
	var commands sync.WaitGroup
	defer commands.Wait()
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // such as too many open files: it passes
			s.log.Error("accepting a command", "error", err)
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
				return
			}
			continue
		}
		commands.Go(func() {
			defer conn.Close()
			defer context.AfterFunc(ctx, func() { conn.Close() })()
			if err := s.control(ctx, conn); err != nil && !errors.Is(err, io.EOF) && ctx.Err() == nil {
				s.log.Warn("control connection ended", "error", err)
			}
		})
	}
}

// control runs one client's command.
func (s *state) control(ctx context.Context, conn net.Conn) error {
	r := &remote{enc: json.NewEncoder(conn), dec: json.NewDecoder(io.LimitReader(conn, 4*maxFile))}
	var req request
	if err := r.dec.Decode(&req); err != nil {
		return err
	}
	e := r.env(s.now, req.Dir)
	code := report(e.stderr, s.perform(ctx, e, req.Args))
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.enc.Encode(ask{Exit: &code})
}

// perform parses and runs a command line against the open state. A panic ends
// the command, not serve.
func (s *state) perform(ctx context.Context, e *env, args []string) (err error) {
	defer func() {
		if r := recover(); r != nil {
			s.log.Error("command panicked", "panic", mishap.Text(r), "stack", string(debug.Stack()))
			err = errors.New("internal error; the log of serve has more")
		}
	}()
	_, command, err := parse(args, e.stdout, e.stderr)
	if err != nil {
		return err
	}
	c, ok := command.(stateCommand)
	if !ok {
		return fmt.Errorf("%w: this command does not run inside serve", errUsage)
	}
	return c.runState(ctx, e, s)
}

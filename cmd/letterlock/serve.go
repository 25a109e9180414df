package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"strconv"
	"sync"
	"syscall"
	"time"

	"letterlock.org/letterlock/internal/processors"
)

type serveCmd struct {
	JSON bool `name:"json" help:"Print ready lines as JSON."`
}

// drainTime is how long sessions may finish what they are at.
const drainTime = 20 * time.Second

func (c *serveCmd) runLocal(ctx context.Context, e *env, root *cli) (err error) {
	cfg, err := root.load()
	if err != nil {
		return err
	}
	if len(cfg.Bridges) == 0 && cfg.Relay == nil && cfg.Keydir == nil {
		return fmt.Errorf("%w: %s has no [[bridge]], no [relay] and no [keydir], so there is nothing to serve (make an account with: letterlock setup ADDRESS)", errConfig, cfg.File)
	}
	// Little lives for long, and what lives is small: half as many collections
	// save 3 to 5 % of the processor's time, and a mail of 50 MB peaks at 50.5 MB
	// of memory instead of 48.7.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(200)
	}
	processors.Oversubscribe() // 16 clients at once: 5 to 9 % more messages a second
	level := new(slog.LevelVar)
	level.Set(cfg.LogLevel())
	log := slog.New(slog.NewTextHandler(e.stderr, &slog.HandlerOptions{Level: level}))
	s, err := openState(ctx, cfg, lockAgain, log, level, e.now)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	return s.serve(ctx, readyWriter{e.stdout, c.JSON})
}

// serve runs all roles until ctx ends, then drains.
func (s *state) serve(ctx context.Context, ready readyWriter) error {
	cfg := s.cfg.Load()
	r, err := s.start(ctx)
	if err != nil {
		return err
	}
	control, err := listenControl(cfg.StateDir)
	if err != nil {
		return errors.Join(err, r.stop(ctx))
	}
	s.served, s.ready, s.gone = true, r.ready, r.gone
	s.reload = func() error { return s.reloadFrom(ctx, cfg.File) }
	var background sync.WaitGroup
	inner, cancel := context.WithCancel(ctx)
	background.Go(func() { serveControl(inner, control, s) })
	background.Go(func() { s.onHangup(inner) })
	s.warnOfDryRun()
	s.warnOfExposure()
	for _, l := range r.ready {
		ready.write(l)
	}
	notify("READY=1")
	select {
	case <-ctx.Done():
	case err = <-r.failed:
	case err = <-storeLost(inner, s.store, storeLook, s.inPlace()):
	}
	notify("STOPPING=1")
	s.log.Info("stopping")
	cancel()
	err = errors.Join(err, control.Close())
	background.Wait()
	drain, done := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer done()
	return errors.Join(err, r.stop(drain))
}

// onHangup reloads at each SIGHUP.
func (s *state) onHangup(ctx context.Context) {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	for {
		select {
		case <-ctx.Done():
			return
		case <-hup:
			if err := s.reload(); err != nil {
				s.log.Error("the configuration stays as it was", "error", err)
			}
		}
	}
}

// readyLine says that a listener accepts connections.
type readyLine struct {
	Role     string `json:"role"`
	Protocol string `json:"protocol"` // imap, imaps, smtp, submissions, http
	Address  string `json:"address"`  // the account; for keydir, the domain
	Listen   string `json:"listen"`   // HOST:PORT
	Host     string `json:"host"`
	Port     int    `json:"port"`
}

func newReadyLine(role, protocol, address string, at net.Addr) readyLine {
	host, port, _ := net.SplitHostPort(at.String())
	n, _ := strconv.Atoi(port)
	return readyLine{role, protocol, address, at.String(), host, n}
}

type readyWriter struct {
	w    io.Writer
	json bool
}

func (r readyWriter) write(l readyLine) {
	if r.json {
		b, _ := json.Marshal(l)
		fmt.Fprintf(r.w, "%s\n", b)
		return
	}
	fmt.Fprintf(r.w, "ready %s %s %s %s\n", l.Role, l.Protocol, l.Address, l.Listen)
}

type reloadCmd struct{}

func (reloadCmd) runState(_ context.Context, _ *env, s *state) error {
	if s.reload == nil {
		return nil
	}
	return s.reload()
}

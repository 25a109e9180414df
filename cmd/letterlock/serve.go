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

	"letterlock.org/letterlock/internal/config"
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
	level := new(slog.LevelVar)
	level.Set(cfg.LogLevel())
	log := slog.New(slog.NewTextHandler(e.stderr, &slog.HandlerOptions{Level: level}))
	s, err := openState(ctx, cfg, log, level, e.now)
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
	s.served, s.ready = true, r.ready
	s.reload = func() error { return s.reloadFrom(cfg.File) }
	var background sync.WaitGroup
	inner, cancel := context.WithCancel(ctx)
	background.Go(func() { serveControl(inner, control, s) })
	background.Go(func() { s.onHangup(inner) })
	s.warnOfDryRun()
	for _, l := range r.ready {
		ready.write(l)
	}
	notify("READY=1")
	select {
	case <-ctx.Done():
	case err = <-r.failed:
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

// reloadFrom puts another configuration in place: rules, accounts, discovery, the
// networks that the relay trusts, the level of the log. What is about listeners
// and the store needs a restart, and is said to.
func (s *state) reloadFrom(file string) error {
	notify("RELOADING=1\nMONOTONIC_USEC=" + monotonic())
	defer notify("READY=1")
	next, err := config.Load(file)
	if err != nil {
		return err
	}
	if s.level != nil {
		s.level.Set(next.LogLevel())
	}
	old := s.cfg.Load()
	for _, what := range restartFor(old, next) {
		s.log.Warn("this change takes a restart", "setting", what)
	}
	discovery, err := discoveryOf(next)
	if err == nil {
		err = s.resolver.Replace(discovery)
	}
	if err != nil {
		return err
	}
	// What is open stays what is told of.
	next.StateDir, next.Unlock, next.Keydir, next.Store, next.Audit, next.Metrics = old.StateDir, old.Unlock, old.Keydir, old.Store, old.Audit, old.Metrics
	next.Relay = relayAfter(old.Relay, next.Relay)
	s.login.Replace(logins(next))
	s.cfg.Store(next)
	s.log.Info("configuration read again", "file", file)
	s.warnOfDryRun()
	return nil
}

// restartFor names what differs and can't change while we run.
func restartFor(old, next *config.Config) (out []string) {
	differ := func(name string, a, b any) {
		x, _ := json.Marshal(a)
		y, _ := json.Marshal(b)
		if string(x) != string(y) {
			out = append(out, name)
		}
	}
	differ("state_dir", old.StateDir, next.StateDir)
	differ("unlock", old.Unlock, next.Unlock)
	differ("keydir", old.Keydir, next.Keydir)
	differ("relay, but for trusted", untrusting(old.Relay), untrusting(next.Relay))
	differ("store", old.Store, next.Store)
	differ("audit", old.Audit, next.Audit)
	differ("metrics", old.Metrics, next.Metrics)
	listen := func(c *config.Config) (l []string) {
		for _, b := range c.Bridges {
			for _, s := range []*config.Service{b.IMAP, b.SMTP} {
				if s != nil {
					l = append(append(l, b.Address), s.Listen...)
				}
			}
		}
		return l
	}
	differ("bridge listeners", listen(old), listen(next))
	return out
}

// untrusting is a relay without what a reload changes.
func untrusting(r *config.Relay) *config.Relay {
	if r == nil {
		return nil
	}
	without := *r
	without.Trusted, without.Networks = nil, nil
	return &without
}

// relayAfter is the relay that runs, with the networks that are trusted next.
func relayAfter(old, next *config.Relay) *config.Relay {
	if old == nil || next == nil {
		return old
	}
	now := *old
	now.Trusted, now.Networks = next.Trusted, next.Networks
	return &now
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

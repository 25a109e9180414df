package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime/debug"
	"strings"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/internal/meter"
	"letterlock.org/letterlock/internal/metrics"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/pgp"
	"letterlock.org/letterlock/smtpd"
	"letterlock.org/letterlock/smtpd/queue"
)

// version is what was built, as the Go tool knows it.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}

// count takes the outcomes that the mail server tells.
func (s *state) count(class string) {
	if outcome, login := strings.CutPrefix(class, "login-"); login {
		s.meter.Count(meter.Logins, outcome)
		return
	}
	s.meter.Count(meter.Submissions, class)
}

// finder is the resolver, with its outcomes counted.
func (s *state) finder() smtpd.Finder { return countedFinder{s} }

type countedFinder struct{ s *state }

func (c countedFinder) Find(ctx context.Context, a address.Address) (keydir.Finding, error) {
	f, err := c.s.resolver.Find(ctx, a)
	outcome, source := string(f.Outcome), f.Source
	switch {
	case err != nil:
		outcome = "error"
	case f.Problem == keydir.ProblemConflict:
		outcome = "conflict"
	}
	if source == "" {
		source = "none"
	}
	c.s.meter.Count(meter.Lookups, outcome, source)
	return f, err
}

// open is pgp.Open, with its time taken.
func (s *state) open(ctx context.Context, src message.Source, o pgp.Opening) (*pgp.Opened, error) {
	start := s.now()
	opened, err := pgp.Open(ctx, src, o)
	s.meter.Took(meter.Open, s.now().Sub(start))
	return opened, err
}

// startMetrics serves figures and health where the configuration says.
func (s *state) startMetrics(ctx context.Context, r *roles) error {
	var webs []net.Listener
	for _, at := range s.cfg.Load().Metrics.Addresses {
		l, err := at.Listen(ctx)
		if err != nil {
			return errors.Join(fmt.Errorf("metrics: %w", err), closeAll(webs))
		}
		webs = append(webs, l)
	}
	if len(webs) == 0 {
		return nil
	}
	s.registerFigures(r)
	for _, l := range webs {
		srv := s.meter.Server(func() []metrics.Check { return s.checks(r) })
		r.run("metrics", func() error { return srv.Serve(l) })
		// It goes last: a node that drains says so.
		r.last = append(r.last, srv.Shutdown)
		r.ready = append(r.ready, newReadyLine("metrics", "http", "-", l.Addr()))
	}
	return nil
}

// registerFigures adds what is read at each scrape.
func (s *state) registerFigures(r *roles) {
	var known []string
	for _, st := range []queue.State{queue.Waiting, queue.Held, queue.Sending, queue.Unknown, queue.Failed} {
		known = append(known, string(st))
	}
	s.meter.Queue(known, s.queueStates)
	s.meter.Figures(
		metrics.Figure{Name: "audit_pending_records", Help: "Audit records that are not on disk yet.", Read: func() float64 { return float64(s.book.Status().Pending) }},
		metrics.Figure{Name: "audit_lag_seconds", Help: "How long the oldest of them has waited.", Read: func() float64 { return s.book.Status().Lag.Seconds() }},
		metrics.Figure{Name: "audit_lost_records_total", Help: "Audit records that the store didn't take.", Counter: true, Read: func() float64 { return float64(s.book.Status().Lost) }},
	)
	for protocol, count := range r.sessions {
		s.meter.Figures(metrics.Figure{Name: protocol + "_sessions", Help: "Connections of mail programs.", Read: func() float64 {
			n := 0
			for _, c := range count {
				n += c()
			}
			return float64(n)
		}})
	}
}

func (s *state) queueStates(ctx context.Context) (metrics.States, error) {
	counts, err := s.queue.Counts(ctx)
	out := metrics.States{}
	for st, c := range counts {
		d := out[string(st)]
		d.Entries = int(c.Entries)
		if !c.Oldest.IsZero() {
			d.Age = max(s.now().Sub(c.Oldest), 0)
		}
		out[string(st)] = d
	}
	return out, err
}

// checks are what must hold for mail to be taken.
func (s *state) checks(r *roles) []metrics.Check {
	return []metrics.Check{
		{Name: "listeners", Ok: func(context.Context) error {
			if r.draining.Load() {
				return errors.New("draining")
			}
			return nil
		}},
		{Name: "store", Ok: func(ctx context.Context) error {
			var one int64
			if s.store.View(ctx, func(tx store.Tx) error { return tx.Row(`SELECT 1`, nil, &one) }) != nil {
				return errors.New("the store doesn't answer; the log has more")
			}
			return nil
		}},
		{Name: "upstream", Ok: func(context.Context) error {
			for _, p := range r.probers {
				if n := len(p.Gone()); n > 0 {
					return fmt.Errorf("%d mail servers can't be reached; the log has more", n)
				}
			}
			if s.faults == nil {
				return nil
			}
			if f, wrong := s.faults()[smtpd.RelayKey]; wrong {
				return fmt.Errorf("the smarthost can't be used (%s); letterlock status has more", f.Kind)
			}
			return nil
		}},
		{Name: "audit", Ok: func(context.Context) error {
			if c := s.cfg.Load().Audit; c.On && c.Required && s.book.Status().Failing {
				return errors.New("records are required and can't be written")
			}
			return nil
		}},
	}
}

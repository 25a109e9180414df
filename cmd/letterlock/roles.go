package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"letterlock.org/letterlock/imapd"
	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/config"
	"letterlock.org/letterlock/internal/endpoint"
	"letterlock.org/letterlock/smtpd"
)

// roles are the running servers of a configuration.
type roles struct {
	ready  []readyLine
	failed chan error // a server that ended by itself

	cancel context.CancelFunc // of what runs beside the servers
	work   sync.WaitGroup
	stops  []func(context.Context) error
	last   []func(context.Context) error // stopped when all others have

	draining atomic.Bool
	probers  []*smtpd.Prober
	sessions map[string][]func() int // by protocol
}

// opened is one listener and the accounts that are reached by it.
type opened struct {
	net.Listener
	at       endpoint.Address // as configured: port 0 where one was picked
	accounts []address.Address
}

// gone is why submission servers could not be reached when they were last asked, by
// their names.
func (r *roles) gone() map[string]error {
	all := map[string]error{}
	for _, p := range r.probers {
		maps.Copy(all, p.Gone())
	}
	return all
}

// start opens every listener, then serves on them; if one can't be opened, none
// is.
func (s *state) start(ctx context.Context) (*roles, error) {
	cfg := s.cfg.Load()
	certs, err := s.bridges.serverTLS(cfg)
	if err != nil {
		return nil, err
	}
	listeners, err := listenAll(ctx, cfg)
	if err != nil {
		return nil, err
	}
	s.ports = map[listening]int{}
	for _, o := range listeners {
		for _, a := range o.accounts {
			s.ports[listening{a.Key(), o.at}] = o.Addr().(*net.TCPAddr).Port
		}
	}
	webs, err := listenWeb(ctx, cfg.Keydir)
	if err != nil {
		return nil, errors.Join(err, closeAll(listeners))
	}
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
	r := &roles{failed: make(chan error, 1), cancel: cancel, sessions: map[string][]func() int{}}
	if err := s.startSMTP(inner, r, listeners, certs); err != nil {
		cancel()
		r.work.Wait()
		return nil, errors.Join(err, closeAll(listeners))
	}
	s.startIMAP(inner, r, listeners, certs)
	err = s.startKeydir(inner, r, webs, cfg.Keydir)
	if err == nil {
		err = s.startIndexers(inner, r, cfg)
	}
	if err == nil {
		err = s.startMetrics(inner, r)
	}
	if err != nil {
		return nil, errors.Join(err, r.stop(ctx))
	}
	r.work.Go(func() { s.refresh(inner) })
	r.work.Go(func() { s.extend(inner) })
	r.work.Go(func() { s.keepPublished(inner) })
	r.work.Go(func() { s.watch(inner) })
	r.work.Go(func() { s.book.Run(inner) })
	return r, nil
}

func listenAll(ctx context.Context, cfg *config.Config) ([]*opened, error) {
	var out []*opened
	shared := map[endpoint.Address]*opened{}
	for i := range cfg.Bridges {
		b := &cfg.Bridges[i]
		for _, sv := range []*config.Service{b.IMAP, b.SMTP} {
			if sv == nil {
				continue
			}
			for _, at := range sv.Addresses {
				o := shared[at]
				if o == nil || at.Port == 0 {
					l, err := at.Listen(ctx)
					if err != nil {
						return nil, errors.Join(fmt.Errorf("%s of %s: %w", at.Protocol, b.Address, err), closeAll(out))
					}
					o = &opened{Listener: l, at: at}
					shared[at] = o
					out = append(out, o)
				}
				o.accounts = append(o.accounts, b.Account)
			}
		}
	}
	return out, nil
}

func closeAll[L net.Listener](l []L) (err error) {
	for _, o := range l {
		err = errors.Join(err, o.Close())
	}
	return err
}

// run serves until it ends, which is an error unless we stop.
func (r *roles) run(what string, serve func() error) {
	r.work.Go(func() {
		err := serve()
		if err == nil || errors.Is(err, imapd.ErrServerClosed) || errors.Is(err, net.ErrClosed) || errors.Is(err, context.Canceled) {
			return
		}
		select {
		case r.failed <- fmt.Errorf("%s: %w", what, err):
		default:
		}
	})
}

func (r *roles) announce(o *opened) {
	protocol := map[endpoint.Security]map[endpoint.Protocol]string{
		endpoint.TLS:      {endpoint.IMAP: "imaps", endpoint.SMTP: "submissions"},
		endpoint.STARTTLS: {endpoint.IMAP: "imap", endpoint.SMTP: "smtp"},
	}[o.at.Security][o.at.Protocol]
	for _, a := range o.accounts {
		r.ready = append(r.ready, newReadyLine("bridge", protocol, a.String(), o.Addr()))
	}
}

func (s *state) startIMAP(ctx context.Context, r *roles, listeners []*opened, certs *tls.Config) {
	for _, o := range listeners {
		if o.at.Protocol != endpoint.IMAP {
			continue
		}
		srv := imapd.New(imapd.Config{Login: s.bridges.imapLogin(o.at), TLS: certs, Logger: s.log})
		s.bridges.imapServers = append(s.bridges.imapServers, srv)
		r.run("imap", func() error { return srv.Serve(ctx, o.Listener, o.at.Security == endpoint.TLS) })
		r.stops = append(r.stops, srv.Shutdown)
		r.sessions["imap"] = append(r.sessions["imap"], srv.Sessions)
		r.announce(o)
	}
}

func (s *state) startSMTP(ctx context.Context, r *roles, listeners []*opened, certs *tls.Config) error {
	c := smtpd.Config{TLS: certs, Queue: s.queue, Account: s.bridges.queued, Logger: s.log, Now: s.now, Spool: s.bridges.spool(),
		Count: s.count, Audit: s.audit, Meter: s.meter}
	for _, o := range listeners {
		if o.at.Protocol != endpoint.SMTP {
			continue
		}
		p := &smtpd.Prober{Logger: s.log, Every: s.probing(), Upstreams: s.bridges.behind(o)}
		s.bridges.probers = append(s.bridges.probers, func() { p.Replace(s.bridges.behind(o)...) })
		r.probers = append(r.probers, p)
		r.work.Go(func() { p.Run(ctx) })
		c.Listeners = append(c.Listeners, smtpd.Listener{Listener: o.Listener, Implicit: o.at.Security == endpoint.TLS,
			Login: s.bridges.smtpLogin(o.at), Capabilities: p.Capabilities})
		r.announce(o)
	}
	gate, err := newGate(ctx, s, s.cfg.Load())
	if gate != nil && err == nil {
		err = gate.listen(ctx)
	}
	if err != nil {
		return err
	}
	if gate != nil {
		gate.serve(ctx, r, &c)
		c.Account = gate.queued(c.Account)
		s.gate = gate
	}
	if len(c.Listeners) == 0 {
		return nil
	}
	srv, err := smtpd.New(c)
	if err != nil {
		return err
	}
	r.run("smtp", func() error { return srv.Serve(ctx) })
	r.stops = append(r.stops, srv.Shutdown)
	r.sessions["smtp"] = append(r.sessions["smtp"], srv.Sessions)
	s.faults, s.mended = srv.Faults, srv.Mended
	return nil
}

func probed(u endpoint.Upstream) smtpd.Upstream {
	p := smtpd.Upstream{Dial: u.DialTCP, Mode: tlsModes[u.Security], Name: u.HostPort()}
	if u.Security != endpoint.Cleartext {
		p.TLS = u.TLSConfig()
	}
	return p
}

// probing is how often upstreams are asked what they offer; more often where
// readiness is served, which tells whether they answer. 0 is the usual.
func (s *state) probing() time.Duration {
	if len(s.cfg.Load().Metrics.Addresses) > 0 {
		return 2 * time.Minute
	}
	return 0
}

// stop drains the servers until ctx ends, then what runs beside them.
func (r *roles) stop(ctx context.Context) (err error) {
	r.draining.Store(true)
	var all sync.WaitGroup
	errs := make([]error, len(r.stops))
	for i, stop := range r.stops {
		all.Go(func() { errs[i] = stop(ctx) })
	}
	all.Wait()
	for _, stop := range r.last {
		errs = append(errs, stop(ctx))
	}
	r.cancel()
	r.work.Wait()
	for _, e := range errs {
		// Sessions that had to be cut off lose nothing: what they were told
		// is done is done.
		if !errors.Is(e, context.DeadlineExceeded) {
			err = errors.Join(err, e)
		}
	}
	return err
}

// refresh keeps stored certificates fresh, so that sending seldom has to wait.
func (s *state) refresh(ctx context.Context) {
	if err := s.resolver.Refresh(ctx); err != nil && ctx.Err() == nil {
		s.log.Warn("certificates are not refreshed any more", "error", err)
	}
}

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"

	"letterlock.org/letterlock/internal/config"
	"letterlock.org/letterlock/internal/endpoint"
	"letterlock.org/letterlock/internal/login"
	"letterlock.org/letterlock/smtpd"
)

// gate is the running relay: its listeners, which stay as long as serve runs, and
// the [relay] that holds now.
type gate struct {
	s         *state
	now       atomic.Pointer[relay]
	login     *login.Checker
	opener    *inbound // what is known of mail that came in
	listeners []*opened
	inner     []*opened     // listeners of what comes in
	out, in   *smtpd.Prober // of the servers behind
}

// newGate reads what [relay] names, and opens no listener; nil without one.
func newGate(ctx context.Context, s *state, cfg *config.Config) (*gate, error) {
	if cfg.Relay == nil {
		return nil, nil
	}
	g := &gate{s: s, login: relayLogin(s, cfg.Relay)}
	r, err := newRelay(ctx, g, cfg.Relay)
	if err != nil {
		return nil, err
	}
	g.opener = &inbound{s, &inboundMemory{s.store, r.token, s.now}}
	g.now.Store(r)
	return g, nil
}

// prepare reads what another [relay] names, for use. Nothing changes before use is
// called.
func (g *gate) prepare(ctx context.Context, c *config.Relay) (use func(), err error) {
	r, err := newRelay(ctx, g, c)
	if err != nil {
		return nil, err
	}
	return func() {
		g.login.Replace(relayUsers(c))
		g.now.Store(r)
		g.out.Replace(probed(c.Server))
		if g.in != nil {
			g.in.Replace(probed(c.Inbound.Server))
		}
	}, nil
}

// listen opens the listeners.
func (g *gate) listen(ctx context.Context) error {
	c := g.now.Load().c
	err := open(ctx, &g.listeners, c.Addresses)
	if err == nil && c.Inbound != nil {
		err = open(ctx, &g.inner, c.Inbound.Addresses)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("relay: %w", err), closeAll(g.listeners), closeAll(g.inner))
	}
	return nil
}

func open(ctx context.Context, to *[]*opened, all []endpoint.Address) error {
	for _, at := range all {
		l, err := at.Listen(ctx)
		if err != nil {
			return err
		}
		*to = append(*to, &opened{Listener: l, at: at})
	}
	return nil
}

// serve adds the relay to the mail server that is about to start.
func (g *gate) serve(ctx context.Context, to *roles, c *smtpd.Config) {
	r := g.now.Load()
	g.out = &smtpd.Prober{Logger: g.s.log, Every: g.s.probing(), Upstreams: []smtpd.Upstream{probed(r.c.Server)}}
	to.probers = append(to.probers, g.out)
	to.work.Go(func() { g.out.Run(ctx) })
	if g.s.cfg.Load().Store.Shared() {
		g.s.retell = make(chan struct{}, 1)
		to.work.Go(func() { g.s.keepTold(ctx) })
	}
	c.Domain = r.host
	for _, o := range g.listeners {
		c.Listeners = append(c.Listeners, smtpd.Listener{Listener: o.Listener, Implicit: o.at.Security == endpoint.TLS,
			Login: g.logIn, LogsIn: func() bool { return len(g.now.Load().c.Logins) > 0 },
			Open: g.entry((*relay).open), Forward: g.forward, Capabilities: g.out.Capabilities})
		to.ready = append(to.ready, newReadyLine("relay", relayProtocols[o.at.Security], strings.Join(r.c.Domains, ","), o.Addr()))
	}
	if r.c.Inbound != nil {
		g.serveInside(ctx, to, c)
	}
	c.TLS = g.shownAt(c.TLS)
}

// serveInside adds the listeners of what comes in.
func (g *gate) serveInside(ctx context.Context, to *roles, c *smtpd.Config) {
	r := g.now.Load()
	g.in = &smtpd.Prober{Logger: g.s.log, Upstreams: []smtpd.Upstream{probed(r.c.Inbound.Server)}}
	to.work.Go(func() { g.in.Run(ctx) })
	to.work.Go(func() { g.opener.run(ctx) })
	for _, o := range g.inner {
		c.Listeners = append(c.Listeners, smtpd.Listener{Listener: o.Listener, Implicit: o.at.Security == endpoint.TLS,
			Open: g.entry((*relay).openInside), Forward: g.forward, Capabilities: g.in.Capabilities})
		to.ready = append(to.ready, newReadyLine("relay-inbound", relayProtocols[o.at.Security], r.c.Domains[0], o.Addr()))
	}
}

// shownAt is base, with the relay's own certificate at its listeners.
func (g *gate) shownAt(base *tls.Config) *tls.Config {
	ports := map[int]bool{}
	for _, o := range append(g.listeners[:len(g.listeners):len(g.listeners)], g.inner...) {
		ports[o.Addr().(*net.TCPAddr).Port] = true
	}
	both := base.Clone()
	both.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		if a, ok := h.Conn.LocalAddr().(*net.TCPAddr); ok && ports[a.Port] {
			return g.now.Load().tls, nil
		}
		if base.GetConfigForClient != nil {
			return base.GetConfigForClient(h)
		}
		return nil, nil
	}
	return both
}

// forward: an MTA of a trusted network may say whom it speaks for.
func (g *gate) forward(p smtpd.Peer) bool { return g.now.Load().trusts(p.Remote) }

// entry opens a listener by what one relay says of a client, which is asked of the
// next again.
func (g *gate) entry(open func(*relay, smtpd.Peer) *smtpd.Account) func(context.Context, smtpd.Peer) *smtpd.Account {
	return func(_ context.Context, p smtpd.Peer) *smtpd.Account {
		return g.lasting(func(r *relay) *smtpd.Account { return open(r, p) })
	}
}

// logIn is the account of a user with a password of ours.
func (g *gate) logIn(ctx context.Context, remote net.Addr, user, password string) (*smtpd.Account, error) {
	who, _, err := g.login.Check(ctx, remote, user, password)
	if errors.Is(err, login.ErrRefused) {
		return nil, fmt.Errorf("%w: %w", smtpd.ErrCredentials, err)
	}
	if err != nil {
		return nil, err
	}
	if a := g.lasting(func(r *relay) *smtpd.Account { return r.user(who) }); a != nil {
		return a, nil
	}
	return nil, smtpd.ErrCredentials
}

// lasting is the account that find gives by the [relay] of now. After a reload its
// session gets what find gives then: nothing for a client that was removed.
func (g *gate) lasting(find func(*relay) *smtpd.Account) *smtpd.Account {
	r := g.now.Load()
	a := find(r)
	if a != nil {
		a.Now = func() *smtpd.Account {
			if g.now.Load() == r {
				return a
			}
			return g.lasting(find)
		}
	}
	return a
}

// queued finds the account that the queue sends for.
func (g *gate) queued(others func(context.Context, string) (*smtpd.Account, error)) func(context.Context, string) (*smtpd.Account, error) {
	return func(ctx context.Context, key string) (*smtpd.Account, error) {
		r := g.now.Load()
		switch {
		case key == smtpd.RelayKey:
			return r.account(config.RelayClient{Any: true}), nil
		case key == smtpd.InboundKey && r.c.Inbound != nil:
			return r.inside(), nil
		}
		return others(ctx, key)
	}
}

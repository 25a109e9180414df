package main

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/mishap"
	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/pgp"
	"letterlock.org/letterlock/smtpd"
)

// gateways looks up the certificate with which a domain's gateway signs, after
// somebody there was written to and the domain's own directory was asked about him:
// reading his answer touches no network, and then it is too late. The directory is
// told nothing that it doesn't know.
type gateways struct {
	of   smtpd.Finder
	look func(context.Context, address.Address) (keydir.Finding, error)
	now  func() time.Time
	log  *slog.Logger
	ctx  context.Context // ends with close
	end  context.CancelFunc

	mu    sync.Mutex // guards what follows
	asked map[string]time.Time
	busy  int // lookups under way

	work sync.WaitGroup
}

// Bounds: how often a domain is asked again, of how many is remembered when they were,
// and how many are asked at one time.
const (
	gatewayEvery   = 24 * time.Hour
	gatewayDomains = 1000
	gatewayBusy    = 4
	gatewayTime    = 15 * time.Second
)

func newGateways(s *state) *gateways {
	g := &gateways{of: s.finder(), look: s.resolver.Find, now: s.now, log: s.log, asked: map[string]time.Time{}}
	g.ctx, g.end = context.WithCancel(context.Background())
	return g
}

// Find implements smtpd.Finder.
func (g *gateways) Find(ctx context.Context, a address.Address) (keydir.Finding, error) {
	f, err := g.of.Find(ctx, a)
	gateway := pgp.GatewayAddress(a.Domain)
	asked := slices.ContainsFunc(f.Attempts, func(t keydir.Attempt) bool { return strings.HasPrefix(t.Source, "wkd") })
	if err == nil && asked && f.Outcome == keydir.Found && !a.Equal(gateway) && g.due(a.Domain) {
		g.work.Go(func() {
			defer g.done()
			if err := g.ask(gateway); err != nil {
				g.log.Debug("gateway not looked up", "domain", a.Domain, "error", err)
			}
		})
	}
	return f, err
}

// ask looks up one gateway. A panic is its error: nobody waits for it who could end.
func (g *gateways) ask(a address.Address) (err error) {
	ctx, cancel := context.WithTimeout(g.ctx, gatewayTime)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			err = errors.New(mishap.Text(p))
		}
	}()
	_, err = g.look(ctx, a)
	return err
}

// due tells whether a domain's gateway should be asked for now, and notes that; then
// done must follow.
func (g *gateways) due(domain string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	if at, ok := g.asked[domain]; ok && now.Sub(at).Abs() < gatewayEvery || g.busy >= gatewayBusy {
		return false
	}
	g.busy++
	if len(g.asked) >= gatewayDomains {
		clear(g.asked) // some are asked sooner than they had to
	}
	g.asked[domain] = now
	return true
}

func (g *gateways) done() {
	g.mu.Lock()
	g.busy--
	g.mu.Unlock()
}

// close ends what is being looked up.
func (g *gateways) close() error {
	g.end()
	g.work.Wait()
	return nil
}

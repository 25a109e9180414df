package smtpd

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// Probe asks an upstream what it offers, without logging in.
func Probe(ctx context.Context, u Upstream, t Timeouts) (Capabilities, error) {
	c, err := connect(ctx, u, t.withDefaults())
	if err != nil {
		return Capabilities{}, err
	}
	c.quit()
	return c.caps, nil
}

// Prober keeps what the upstreams of a listener offer together. Its zero value
// with Upstreams set is ready; until Run has asked, it promises nothing.
type Prober struct {
	Upstreams []Upstream
	Every     time.Duration // 0 means 30 min; a minute after a failure
	Timeouts  Timeouts
	Logger    *slog.Logger

	mu      sync.Mutex
	asked   []probedUpstream
	changed chan struct{} // closed when others are to be asked
}

// probedUpstream is what was last heard of an upstream.
type probedUpstream struct {
	Upstream
	caps *Capabilities // nil before the first answer
	gone error         // of the last attempt; nil if it answered
}

// Replace has others asked from now on, at once. It may be called while Run runs,
// and after it began.
func (p *Prober) Replace(upstreams ...Upstream) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.Upstreams = upstreams
	var asked []probedUpstream
	for _, u := range upstreams {
		a := probedUpstream{Upstream: u}
		for _, old := range p.asked {
			if old.Name == u.Name && old.Mode == u.Mode {
				a.caps, a.gone = old.caps, old.gone
			}
		}
		asked = append(asked, a)
	}
	p.asked = asked
	if p.changed != nil {
		close(p.changed)
	}
	p.changed = make(chan struct{})
}

// Run asks all upstreams until ctx ends.
func (p *Prober) Run(ctx context.Context) {
	p.mu.Lock()
	first := p.Upstreams
	p.mu.Unlock()
	p.Replace(first...)
	for {
		p.mu.Lock()
		asked, changed := p.asked, p.changed
		p.mu.Unlock()
		asking, cancel := context.WithCancel(ctx)
		go func() { // one that doesn't answer keeps nobody from those that come after it
			select {
			case <-changed:
			case <-asking.Done():
			}
			cancel()
		}()
		wait := time.NewTimer(p.round(asking, asked))
		cancel()
		select {
		case <-ctx.Done():
		case <-changed:
		case <-wait.C:
		}
		wait.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

// round asks each once, and tells when to ask again.
func (p *Prober) round(ctx context.Context, asked []probedUpstream) time.Duration {
	wait := p.Every
	if wait == 0 {
		wait = 30 * time.Minute
	}
	for i, u := range asked {
		caps, err := Probe(ctx, u.Upstream, p.Timeouts)
		p.mu.Lock()
		asked[i].gone = err
		if err == nil {
			asked[i].caps = &caps
		}
		p.mu.Unlock()
		if err != nil {
			wait = min(wait, time.Minute)
			if p.Logger != nil && ctx.Err() == nil {
				p.Logger.Warn("mail server not reached", "upstream", u.Name, "err", err)
			}
		}
	}
	return wait
}

// Capabilities is what every upstream offers; nothing while one was never
// reached. It does not block.
func (p *Prober) Capabilities() Capabilities {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.asked) == 0 || p.asked[0].caps == nil {
		return Capabilities{}
	}
	all := *p.asked[0].caps
	for _, u := range p.asked {
		if u.caps == nil {
			return Capabilities{}
		}
		all = all.Both(*u.caps)
	}
	return all
}

// Gone is why upstreams could not be reached when they were last asked, by their
// names.
func (p *Prober) Gone() map[string]error {
	p.mu.Lock()
	defer p.mu.Unlock()
	gone := map[string]error{}
	for _, u := range p.asked {
		if u.gone != nil {
			gone[u.Name] = u.gone
		}
	}
	return gone
}

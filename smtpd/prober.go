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

	mu   sync.Mutex
	caps []*Capabilities // of each upstream, the last that was heard
	gone []bool          // whether the last attempt at each failed
}

// Run asks all upstreams until ctx ends.
func (p *Prober) Run(ctx context.Context) {
	p.mu.Lock()
	p.caps, p.gone = make([]*Capabilities, len(p.Upstreams)), make([]bool, len(p.Upstreams))
	p.mu.Unlock()
	for {
		wait := p.Every
		if wait == 0 {
			wait = 30 * time.Minute
		}
		for i, u := range p.Upstreams {
			caps, err := Probe(ctx, u, p.Timeouts)
			p.mu.Lock()
			p.gone[i] = err != nil
			p.mu.Unlock()
			if err != nil {
				wait = min(wait, time.Minute)
				if p.Logger != nil && ctx.Err() == nil {
					p.Logger.Warn("mail server not reached", "upstream", u.Name, "err", err)
				}
				continue
			}
			p.mu.Lock()
			p.caps[i] = &caps
			p.mu.Unlock()
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// Capabilities is what every upstream offers; nothing while one was never
// reached. It does not block.
func (p *Prober) Capabilities() Capabilities {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.caps) == 0 || p.caps[0] == nil {
		return Capabilities{}
	}
	all := *p.caps[0]
	for _, c := range p.caps {
		if c == nil {
			return Capabilities{}
		}
		all = all.Both(*c)
	}
	return all
}

// Gone is how many upstreams could not be reached when they were last asked.
func (p *Prober) Gone() (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, g := range p.gone {
		if g {
			n++
		}
	}
	return n
}

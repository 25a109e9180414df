package main

import (
	"context"
	"encoding/json"
	"slices"

	"letterlock.org/letterlock/internal/config"
)

// reloadFrom puts another configuration in place, all of it or, where something is
// wrong, nothing. What is bound to listeners and the store needs a restart, and is
// said to, here and in status.
func (s *state) reloadFrom(ctx context.Context, file string) error {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	notify("RELOADING=1\nMONOTONIC_USEC=" + monotonic())
	defer notify("READY=1")
	next, err := config.Load(file)
	if err != nil {
		return err
	}
	old := s.cfg.Load()
	restart := restartFor(old, next)
	// What is open stays what is told of.
	next.StateDir, next.Unlock, next.Keydir, next.Store, next.Audit, next.Metrics = old.StateDir, old.Unlock, old.Keydir, old.Store, old.Audit, old.Metrics
	next.Relay = relayAfter(old.Relay, next.Relay)
	certificates, err := s.bridges.certificates(next)
	if err != nil {
		return err
	}
	relayed := func() {}
	if s.gate != nil {
		if relayed, err = s.gate.prepare(ctx, next.Relay); err != nil {
			return err
		}
	}
	discovery, err := discoveryOf(next)
	if err == nil {
		err = s.resolver.Replace(discovery)
	}
	if err != nil {
		return err
	}
	s.bridges.shown.Store(&certificates)
	s.login.Replace(logins(next))
	s.cfg.Store(next)
	relayed()
	s.bridges.reloaded()
	if s.level != nil {
		s.level.Set(next.LogLevel())
	}
	select {
	case s.retell <- struct{}{}:
	default:
	}
	s.restart.Store(&restart)
	for _, what := range restart {
		s.log.Warn("this change takes a restart", "setting", what)
	}
	s.log.Info("configuration read again", "file", file)
	s.warnOfDryRun()
	s.warnOfExposure()
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
	differ("store", old.Store, next.Store)
	differ("audit", old.Audit, next.Audit)
	differ("metrics", old.Metrics, next.Metrics)
	differ("bridge listeners", bridgeListeners(old), bridgeListeners(next))
	if old.Relay == nil || next.Relay == nil {
		differ("relay", old.Relay, next.Relay)
		return out
	}
	differ("relay.listen", old.Relay.Listen, next.Relay.Listen)
	differ("relay.hostname", old.Relay.Hostname, next.Relay.Hostname)
	differ("relay.inbound.listen", insideListeners(old.Relay), insideListeners(next.Relay))
	return out
}

func bridgeListeners(c *config.Config) (l []string) {
	for _, b := range c.Bridges {
		for _, s := range []*config.Service{b.IMAP, b.SMTP} {
			if s != nil {
				l = append(append(l, b.Address), s.Listen...)
			}
		}
	}
	return l
}

func insideListeners(r *config.Relay) config.Strings {
	if r.Inbound == nil {
		return nil
	}
	return r.Inbound.Listen
}

// relayAfter is what holds of the next [relay] while the listeners of the old are
// open: everything but them, and our name in their greetings.
func relayAfter(old, next *config.Relay) *config.Relay {
	if old == nil || next == nil {
		return old
	}
	now := *next
	now.Listen, now.Addresses, now.Hostname = old.Listen, old.Addresses, old.Hostname
	if !slices.Equal(old.Listen, next.Listen) { // what the next ones may show isn't made for these
		now.Expose, now.TLSCertificate, now.TLSKey = old.Expose, old.TLSCertificate, old.TLSKey
	}
	now.Inbound = old.Inbound
	if old.Inbound != nil && next.Inbound != nil {
		inbound := *next.Inbound
		inbound.Listen, inbound.Addresses = old.Inbound.Listen, old.Inbound.Addresses
		now.Inbound = &inbound
	}
	return &now
}

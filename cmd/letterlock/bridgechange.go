package main

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/config"
	"letterlock.org/letterlock/smtpd"
)

// sameReader tells whether an IMAP session of an account goes on as it is when b takes
// the place of a. Addresses, rules and certificates are looked up as they are at the
// moment in any case.
func sameReader(a, b *config.Bridge) bool {
	return sameServer(a.IMAP, b.IMAP) && sameLogin(a, b) && a.Append == b.Append && a.SearchUpstream == b.SearchUpstream
}

// sameSender is sameReader of a submission.
func sameSender(a, b *config.Bridge) bool {
	return sameServer(a.SMTP, b.SMTP) && sameLogin(a, b) && a.Sent == b.Sent &&
		slices.EqualFunc(a.Alias, b.Alias, address.Address.Equal)
}

func sameServer(a, b *config.Service) bool {
	return a != nil && b != nil && a.Upstream == b.Upstream
}

func sameLogin(a, b *config.Bridge) bool {
	return a.Auth == b.Auth && a.UpstreamUser == b.UpstreamUser && a.UpstreamPassword == b.UpstreamPassword && a.UpstreamCA == b.UpstreamCA
}

// gone is imapd.Account.Gone: it looks once after each reload.
func (b *bridges) gone(account address.Address) func() bool {
	var seen atomic.Pointer[config.Config]
	return func() bool {
		now := b.s.cfg.Load()
		if now == seen.Load() {
			return false
		}
		if !b.servesIMAP(account) {
			return true
		}
		seen.Store(now)
		return false
	}
}

// changed is imapd.Account.Changed of an account as it was configured: it looks once
// after each reload.
func (b *bridges) changed(was *config.Bridge) func() bool {
	var seen atomic.Pointer[config.Config]
	return func() bool {
		now := b.s.cfg.Load()
		if now == seen.Load() {
			return false
		}
		if br, err := b.s.find(was.Account); err != nil || !sameReader(was, br) {
			return true
		}
		seen.Store(now)
		return false
	}
}

// rebuildTime is how long a session waits for what its account is now.
const rebuildTime = 20 * time.Second

// standing is smtpd.Account.Now of a, an account as it was configured: itself where the
// configuration has it unchanged, another in its place where it has changed, and nothing
// where it isn't there any more, or can't be had now. It belongs to one session.
func (b *bridges) standing(a *smtpd.Account, was *config.Bridge) func() *smtpd.Account {
	var seen *config.Config
	var now func() *smtpd.Account
	now = func() *smtpd.Account {
		cfg := b.s.cfg.Load()
		if cfg == seen {
			return a
		}
		br, err := b.s.find(was.Account)
		if err != nil || br.SMTP == nil {
			return nil
		}
		if !sameSender(was, br) {
			ctx, cancel := context.WithTimeout(context.Background(), rebuildTime)
			defer cancel()
			next, err := b.queued(ctx, was.Account.Key())
			if err != nil {
				b.s.log.Warn("smtp session ends: its account has changed", "error", err)
				return nil
			}
			next.Now = now
			a, was = next, br
		}
		seen = cfg
		return a
	}
	return now
}

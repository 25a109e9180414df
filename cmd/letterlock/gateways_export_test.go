package main

import (
	"context"
	"log/slog"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/smtpd"
)

// NewGateways looks gateways up with look; close ends what is being looked up.
func NewGateways(of smtpd.Finder, look func(context.Context, address.Address) (keydir.Finding, error), now func() time.Time) (f smtpd.Finder, close func() error) {
	g := &gateways{of: of, look: look, now: now, log: slog.New(slog.DiscardHandler), asked: map[string]time.Time{}}
	g.ctx, g.end = context.WithCancel(context.Background())
	return g, g.close
}

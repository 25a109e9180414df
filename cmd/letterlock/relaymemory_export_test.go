package main

import (
	"context"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/pgp"
)

// InboundSchema and NewInboundMemory are for the test of what a gateway remembers.
var InboundSchema = inboundSchema

type InboundMemory struct{ *inboundMemory }

func NewInboundMemory(s store.Store, now func() time.Time) InboundMemory {
	return InboundMemory{&inboundMemory{store: s, token: "t", now: now}}
}

// Renewed is the memory after the local authority was renewed.
func (m InboundMemory) Renewed() InboundMemory {
	return InboundMemory{&inboundMemory{store: m.store, token: "u", now: m.now}}
}

func (m InboundMemory) Replayed(ctx context.Context, to address.Address, packet byte, from, id string) (bool, error) {
	return m.replayed(ctx, to, nil, [32]byte{packet}, from, id)
}
func (m InboundMemory) ReplayedTo(ctx context.Context, to address.Address, keys []pgp.Fingerprint, packet byte, from, id string) (bool, error) {
	return m.replayed(ctx, to, keys, [32]byte{packet}, from, id)
}
func (m InboundMemory) Remember(ctx context.Context, id string) error { return m.remember(ctx, id) }
func (m InboundMemory) Prune(ctx context.Context) (int64, error)      { return m.prune(ctx) }

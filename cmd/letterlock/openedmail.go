package main

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"letterlock.org/letterlock/imapd/index"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/pgp"
	"letterlock.org/letterlock/smtpd"
)

// openedMail is what this installation has shown decrypted, by whichever role: what a
// gateway opened is answered through a bridge beside it or by another node, and what a
// bridge opened through the relay. Safe for concurrent use.
type openedMail []smtpd.OpenedRecord

// WasOpened implements smtpd.OpenedRecord.
func (o openedMail) WasOpened(ctx context.Context, id string) (bool, error) {
	for _, r := range o {
		if was, err := r.WasOpened(ctx, id); err != nil || was {
			return was, err
		}
	}
	return false, nil
}

// bridgeMail is openedMail of a bridge, which takes note of what it sent in clear. The
// relay doesn't: what passes there has Message-IDs that anybody may have chosen, such as
// that of a letter whose sealed copy would be no secret then.
type bridgeMail struct {
	openedMail
	smtpd.ClearRecord
}

// remembering is which of those records may have anything.
type remembering struct {
	look             sync.Once
	gateway, bridges atomic.Bool
}

// opened is what an account's answers are held against; library is that of a bridge,
// nil for the relay. It is nil where nothing was ever opened: then mail that passes
// costs no look.
func (s *state) opened(library *index.Library) smtpd.OpenedRecord {
	s.remembering.update(s)
	var all openedMail
	switch {
	case library != nil:
		all = append(all, library)
	case s.remembering.bridges.Load():
		all = append(all, index.Opened(s.store))
	}
	if s.remembering.gateway.Load() {
		all = append(all, s.gatewayMemory())
	}
	switch {
	case library != nil:
		return bridgeMail{all, library}
	case len(all) > 0:
		return all
	}
	return nil
}

func (s *state) gatewayMemory() *inboundMemory {
	return &inboundMemory{s.store, installation(s.tls), s.now}
}

// gatewayReplayed tells whether the gateway has opened a packet, which one of keys may
// open, in another message: whoever has a letter's ciphertext may send it again to
// have its text in an answer, and may choose who opens it.
func (s *state) gatewayReplayed(ctx context.Context, keys []pgp.Fingerprint, packet [32]byte, from, id string) (bool, error) {
	if s.remembering.update(s); !s.remembering.gateway.Load() {
		return false, nil
	}
	return s.gatewayMemory().replayedTo(ctx, keys, packet, from, id)
}

// bridgesReplayed tells whether a bridge has.
func (s *state) bridgesReplayed(ctx context.Context, keys []pgp.Fingerprint, packet [32]byte, from, id string) (bool, error) {
	if s.remembering.update(s); !s.remembering.bridges.Load() {
		return false, nil
	}
	return index.Replayed(ctx, s.store, keys, packet, from, id)
}

// update looks once at what there is from before; what is configured may add to it, and
// nothing takes from it. Of a shared store other nodes may have written a moment ago.
func (r *remembering) update(s *state) {
	cfg := s.cfg.Load()
	r.look.Do(func() {
		r.gateway.Store(cfg.Store.Shared() || s.hasRows("inbound_opened"))
		r.bridges.Store(!cfg.Store.Shared() && s.hasRows("index_opened"))
	})
	if cfg.Relay != nil && cfg.Relay.Inbound != nil {
		r.gateway.Store(true)
	}
	if len(cfg.Bridges) > 0 {
		r.bridges.Store(true)
	}
}

// hasRows tells whether there is anything in a table, or nobody knows.
func (s *state) hasRows(table string) bool {
	err := s.store.View(context.Background(), func(tx store.Tx) error {
		var one int64
		return tx.Row("SELECT 1 FROM "+table+" LIMIT 1", nil, &one)
	})
	return !errors.Is(err, store.ErrNoRow)
}

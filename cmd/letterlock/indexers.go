package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"

	"github.com/emersion/go-imap/v2/imapclient"

	"letterlock.org/letterlock/imapd/index"
	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/config"
	"letterlock.org/letterlock/internal/login"
)

// indexing keeps an account's index filled.
type indexing struct {
	s       *state
	account address.Address
	x       *index.Indexer
	now     atomic.Pointer[config.Bridge] // as it was configured when x began to run
	reloads chan struct{}
}

// startIndexers fills the index of each account in the background, over an
// upstream connection of its own.
func (s *state) startIndexers(ctx context.Context, r *roles, cfg *config.Config) error {
	for i := range cfg.Bridges {
		b := &cfg.Bridges[i]
		if b.IMAP == nil {
			continue
		}
		k := &indexing{s: s, account: b.Account, reloads: make(chan struct{}, 1)}
		if err := k.make(b); err != nil {
			return err
		}
		s.bridges.indexers[b.Account.Key()] = k.x
		s.bridges.reloads = append(s.bridges.reloads, k.reloads)
		r.work.Go(func() { k.keep(ctx) })
	}
	return nil
}

// keep runs the indexer whenever the configuration has the account, anew after each
// reload: it may be at another server now, which the password is for.
func (k *indexing) keep(ctx context.Context) {
	for ctx.Err() == nil {
		inner, cancel := context.WithCancel(ctx)
		var running sync.WaitGroup
		if b, err := k.s.find(k.account); err == nil && b.IMAP != nil {
			k.now.Store(b)
			running.Go(func() {
				if err := k.x.Run(inner); err != nil && inner.Err() == nil {
					k.s.log.Error("indexer ended", "account", k.account.Key(), "error", err)
				}
			})
		}
		select {
		case <-k.reloads:
		case <-ctx.Done():
		}
		cancel()
		running.Wait()
	}
}

func (k *indexing) make(b *config.Bridge) error {
	library, err := k.s.bridges.library(b)
	if err != nil {
		return err
	}
	k.x, err = index.NewIndexer(index.IndexerConfig{
		Library: library, Logger: k.s.log.With("account", k.account.Key()),
		Dial:   func(ctx context.Context) (net.Conn, error) { return k.now.Load().IMAP.Server.Dial(ctx) },
		Client: func(conn net.Conn) (*imapclient.Client, error) { return imapOver(k.now.Load().IMAP.Server, conn) },
		Login: func(ctx context.Context, c *imapclient.Client) error {
			password, err := k.s.login.UpstreamPassword(ctx, k.account)
			if errors.Is(err, login.ErrNotReady) {
				k.s.log.Debug("nothing is indexed yet", "account", k.account.Key(), "reason", err)
			}
			if err != nil {
				return err
			}
			if err = refusal(imapLogin(c, k.now.Load().UpstreamUser, password)); errors.Is(err, errPassword) {
				err = fmt.Errorf("%w (give another with: letterlock account password %s)", err, k.account)
			}
			return err
		},
	})
	return err
}

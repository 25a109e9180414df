package main

import (
	"context"
	"errors"
	"net"
	"sync"

	"github.com/emersion/go-imap/v2/imapclient"

	"letterlock.org/letterlock/imapd/index"
	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/config"
	"letterlock.org/letterlock/internal/login"
)

// startIndexers fills the index of each account in the background, over an
// upstream connection of its own.
func (s *state) startIndexers(ctx context.Context, r *roles, cfg *config.Config) error {
	for i := range cfg.Bridges {
		b := &cfg.Bridges[i]
		if b.IMAP == nil {
			continue
		}
		x, err := s.indexer(b)
		if err != nil {
			return err
		}
		s.bridges.indexers[b.Account.Key()] = x
		reloads := make(chan struct{}, 1)
		s.bridges.reloads = append(s.bridges.reloads, reloads)
		r.work.Go(func() { s.keepIndexing(ctx, b.Account, x, reloads) })
	}
	return nil
}

// keepIndexing runs an account's indexer whenever the configuration has the account.
func (s *state) keepIndexing(ctx context.Context, account address.Address, x *index.Indexer, reloads <-chan struct{}) {
	for ctx.Err() == nil {
		inner, cancel := context.WithCancel(ctx)
		var running sync.WaitGroup
		if s.bridges.servesIMAP(account) {
			running.Go(func() {
				if err := x.Run(inner); err != nil && inner.Err() == nil {
					s.log.Error("indexer ended", "account", account.Key(), "error", err)
				}
			})
			for s.bridges.servesIMAP(account) && told(ctx, reloads) {
			}
		} else {
			told(ctx, reloads)
		}
		cancel()
		running.Wait()
	}
}

// told tells whether something was said on c before ctx ended.
func told(ctx context.Context, c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	case <-ctx.Done():
		return false
	}
}

func (s *state) indexer(b *config.Bridge) (*index.Indexer, error) {
	library, err := s.bridges.library(b)
	if err != nil {
		return nil, err
	}
	up := b.IMAP.Server
	return index.NewIndexer(index.IndexerConfig{
		Library: library, Dial: up.Dial, Logger: s.log,
		Client: func(conn net.Conn) (*imapclient.Client, error) { return imapOver(up, conn) },
		Login: func(ctx context.Context, c *imapclient.Client) error {
			password, err := s.login.UpstreamPassword(ctx, b.Account)
			if errors.Is(err, login.ErrNotReady) {
				s.log.Debug("nothing is indexed yet", "account", b.Account.Key(), "reason", err)
			}
			if err != nil {
				return err
			}
			return imapLogin(c, b.UpstreamUser, password)
		},
	})
}

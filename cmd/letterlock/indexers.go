package main

import (
	"context"
	"errors"
	"net"

	"github.com/emersion/go-imap/v2/imapclient"

	"letterlock.org/letterlock/imapd/index"
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
		r.work.Go(func() {
			if err := x.Run(ctx); err != nil && ctx.Err() == nil {
				s.log.Error("indexer ended", "account", b.Account.Key(), "error", err)
			}
		})
	}
	return nil
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
			return c.Login(b.UpstreamUser, password).Wait()
		},
	})
}

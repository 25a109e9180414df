package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"letterlock.org/letterlock/internal/config"
	"letterlock.org/letterlock/internal/mailtest"
	"letterlock.org/letterlock/internal/store"
)

// demoNode is what serve runs, with a store in memory.
type demoNode struct {
	state   *state
	roles   *roles
	account accountJSON
}

// startNode serves a configuration. dir is made, for the CA certificate.
func startNode(ctx context.Context, e *env, dir, text string) (*demoNode, error) {
	cfg, err := config.Parse("demo", fmt.Sprintf("state_dir = %q\n%s", dir, text))
	if err != nil {
		return nil, err
	}
	st, err := store.OpenMemory(schemas...)
	if err != nil {
		return nil, err
	}
	log := slog.New(slog.NewTextHandler(e.stderr, &slog.HandlerOptions{Level: demoLogLevel}))
	s, err := newState(ctx, cfg, st, log, e.now)
	if err != nil {
		return nil, errors.Join(err, st.Close())
	}
	n := &demoNode{state: s}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return n, err
	}
	if err := os.WriteFile(filepath.Join(dir, caName), s.tls.PEM(), 0o644); err != nil {
		return n, err
	}
	n.roles, err = s.start(ctx)
	return n, err
}

func (n *demoNode) close() error {
	if n == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	var err error
	if n.roles != nil {
		err = n.roles.stop(ctx)
	}
	return errors.Join(err, n.state.Close())
}

// imap and smtp are how the node's mail program logs in.
func (n *demoNode) imap() mailtest.Login { return n.login(n.account.IMAP) }
func (n *demoNode) smtp() mailtest.Login { return n.login(n.account.SMTP) }

func (n *demoNode) login(at []serverJSON) mailtest.Login {
	return mailtest.Login{Addr: fmt.Sprintf("%s:%d", at[0].Host, at[0].Port), User: n.account.User, Password: n.account.Password, TLS: n.trust()}
}

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"letterlock.org/letterlock/internal/config"
	"letterlock.org/letterlock/internal/endpoint"
)

// tryPassword logs in where mail is fetched, and tells where that fails: a person
// who has just typed a password is the one to know. It is no reason to fail, as
// the network may be elsewhere.
func (s *state) tryPassword(ctx context.Context, e *env, b *config.Bridge, password string) {
	if b.IMAP == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	err := tryLogin(ctx, b.IMAP.Server, b.UpstreamUser, password)
	var no *imap.Error
	switch {
	case err == nil:
	case errors.As(err, &no):
		fmt.Fprintf(e.stderr, "letterlock: WARNING: %s does not let %s in with this password (it is stored; give another with: letterlock account password %s)\n", b.IMAP.Server, b.UpstreamUser, b.Account)
	default:
		fmt.Fprintf(e.stderr, "letterlock: WARNING: the password is stored, but could not be tried: %v\n", err)
	}
}

func tryLogin(ctx context.Context, up endpoint.Upstream, user, password string) error {
	conn, err := up.Dial(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	c, err := imapOver(up, conn)
	if err == nil {
		err = c.Login(user, password).Wait()
	}
	if ctx.Err() != nil {
		err = fmt.Errorf("%s did not answer in time", up)
	}
	return err
}

// imapOver speaks IMAP on a connection that up.Dial made.
func imapOver(up endpoint.Upstream, conn net.Conn) (*imapclient.Client, error) {
	if up.Security == endpoint.STARTTLS {
		return imapclient.NewStartTLS(conn, &imapclient.Options{TLSConfig: up.TLSConfig()})
	}
	return imapclient.New(conn, nil), nil
}

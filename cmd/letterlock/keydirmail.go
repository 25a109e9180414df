package main

import (
	"context"
	"errors"
	"fmt"
	"net/smtp"
	"net/textproto"
	"time"

	"letterlock.org/letterlock/internal/config"
	"letterlock.org/letterlock/internal/endpoint"
	"letterlock.org/letterlock/keydir/server"
)

// keydirMailTime bounds the sending of one of the directory's own mails.
const keydirMailTime = 2 * time.Minute

// newKeydirMail sends the directory's own mails through its smarthost. They take
// no queue: what they ask for is kept by the directory itself, until it is sent.
func newKeydirMail(c *config.Keydir) (server.Send, error) {
	password, err := c.ReadSmarthostPassword()
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, m server.Mail) error {
		ctx, cancel := context.WithTimeout(ctx, keydirMailTime)
		defer cancel()
		if err := sendMail(ctx, c.Server, c.SmarthostUser, password, m); err != nil {
			return fmt.Errorf("sending by %s: %w", c.Server, err)
		}
		return nil
	}, nil
}

// sendMail hands a mail to a submission server in one transaction. It is
// server.ErrRefused where the server will never take it.
func sendMail(ctx context.Context, u endpoint.Upstream, user, password string, m server.Mail) error {
	conn, err := u.Dial(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if d, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(d) // AfterFunc bounds it too
	}
	c, err := smtp.NewClient(conn, u.Host)
	if err != nil {
		return err
	}
	if err := c.Hello("[127.0.0.1]"); err != nil {
		return err
	}
	if u.Security == endpoint.STARTTLS {
		if err := c.StartTLS(u.TLSConfig()); err != nil {
			return err
		}
	}
	if _, ok := c.TLSConnectionState(); !ok && u.Security != endpoint.Cleartext {
		return errors.New("the connection is not protected")
	}
	if user != "" {
		if err := c.Auth(smtp.PlainAuth("", user, password, u.Host)); err != nil {
			return err
		}
	}
	if err := c.Mail(m.From.String()); err != nil {
		return err
	}
	if err := c.Rcpt(m.To.String()); err != nil {
		return forGood(err)
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := w.Write(m.Text); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return forGood(err)
	}
	_ = c.Quit() // it is accepted
	return nil
}

// forGood tells a permanent reply about a mail (RFC 5321, Section 4.2.1).
func forGood(err error) error {
	var reply *textproto.Error
	if errors.As(err, &reply) && reply.Code/100 == 5 {
		return fmt.Errorf("%w: %w", server.ErrRefused, err)
	}
	return err
}

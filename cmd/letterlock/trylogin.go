package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/emersion/go-sasl"

	"letterlock.org/letterlock/internal/config"
	"letterlock.org/letterlock/internal/endpoint"
	"letterlock.org/letterlock/smtpd"
)

// tryPassword logs in where mail is fetched and where it is sent, and tells where
// that fails: a person who has just typed a password is the one to know. It is no
// reason to fail, as the network may be elsewhere. Another password is asked for
// only where it is the password, and a wrong one is said once: servers count.
func (s *state) tryPassword(ctx context.Context, e *env, b *config.Bridge, password string) {
	for _, at := range []struct {
		service *config.Service
		try     func(context.Context) error
	}{
		{b.IMAP, func(ctx context.Context) error { return tryIMAP(ctx, b.IMAP.Server, b.UpstreamUser, password) }},
		{b.SMTP, func(ctx context.Context) error { return smtpd.TryLogin(ctx, submissionTo(b, password)) }},
	} {
		if at.service == nil {
			continue
		}
		server := at.service.Server
		err := inTime(ctx, server, at.try)
		switch {
		case errors.Is(err, errPassword), errors.Is(err, smtpd.ErrUpstreamPassword):
			fmt.Fprintf(e.stderr, "letterlock: WARNING: %s does not let %s in with this password (it is stored; give another with: letterlock account password %s; some providers want one that they make for each program)\n", server, b.UpstreamUser, b.Account)
			return
		case err != nil:
			why := err.Error()
			if _, after, ok := strings.Cut(why, "connecting to "+server.String()+": "); ok {
				why = after
			}
			if dns := (*net.DNSError)(nil); errors.As(err, &dns) && dns.IsNotFound {
				why += fmt.Sprintf(" (if its name is wrong, write the right one into %s)", s.cfg.Load().File)
			}
			fmt.Fprintf(e.stderr, "letterlock: WARNING: the password is stored, but could not be tried at %s: %s\n", server, why)
		case at.service == b.SMTP && s.mended != nil:
			s.mended(b.Account.Key())
		}
	}
}

// inTime is try, which has ten seconds.
func inTime(ctx context.Context, server endpoint.Upstream, try func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	err := try(ctx)
	if ctx.Err() != nil && err != nil {
		return fmt.Errorf("%s did not answer in time", server)
	}
	return err
}

func tryIMAP(ctx context.Context, up endpoint.Upstream, user, password string) error {
	conn, err := up.Dial(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	c, err := imapOver(up, conn)
	if err != nil {
		return err
	}
	return refusal(imapLogin(c, user, password))
}

// imapOver speaks IMAP on a connection that up.Dial made.
func imapOver(up endpoint.Upstream, conn net.Conn) (*imapclient.Client, error) {
	if up.Security == endpoint.STARTTLS {
		return imapclient.NewStartTLS(conn, &imapclient.Options{TLSConfig: up.TLSConfig()})
	}
	return imapclient.New(conn, nil), nil
}

// imapLogin logs in as sessions do: some servers take AUTHENTICATE only (RFC 3501,
// Section 6.2.3: LOGINDISABLED).
func imapLogin(c *imapclient.Client, user, password string) error {
	switch caps := c.Caps(); {
	case caps.Has(imap.AuthCap("PLAIN")):
		return c.Authenticate(sasl.NewPlainClient("", user, password))
	case caps.Has(imap.CapLoginDisabled):
		return errors.New("the server takes no password here: it has LOGIN disabled, and no AUTH=PLAIN")
	}
	return c.Login(user, password).Wait()
}

var errPassword = errors.New("the server refuses the user or password")

// refused are the codes of RFC 5530, Section 3, by which a login is refused for
// something else than what was typed. EXPIRED isn't: another password is what it asks for.
var refused = map[imap.ResponseCode]string{
	imap.ResponseCodeUnavailable:         "it can't look up passwords now",
	imap.ResponseCodeLimit:               "it allows no more connections now",
	imap.ResponseCodeInUse:               "somebody else has the mailbox open, and it lets one in only",
	imap.ResponseCodeServerBug:           "it has a fault of its own",
	imap.ResponseCodeContactAdmin:        "it asks to be taken up with its administrator",
	imap.ResponseCodeAuthorizationFailed: "the password is right, but this user may not log in there",
	imap.ResponseCodePrivacyRequired:     "it takes passwords under TLS only; the upstream has to be imaps:// or imap://",
}

// refusal tells apart why an IMAP login fails.
func refusal(err error) error {
	var no *imap.Error
	switch {
	case err == nil || !errors.As(err, &no):
		return err
	case refused[no.Code] != "":
		return fmt.Errorf("%s (%s)", refused[no.Code], no.Code)
	case no.Type != imap.StatusResponseTypeNo:
		return fmt.Errorf("it answers %s to the login", no.Type)
	}
	return errPassword
}

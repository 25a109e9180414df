package smtpd

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"crypto/tls"
)

// errLogin means that the upstream refused the login.
var errLogin = errors.New("the mail server refused the login")

// ErrUpstreamPassword means that the upstream refused the account's user or
// password, and nothing else about the login.
var ErrUpstreamPassword = fmt.Errorf("%w: wrong user or password", errLogin)

// notNow is a login that the upstream puts off, whatever the password
// (RFC 4954, Section 6: 454; RFC 5321, Section 3.8: 421).
type notNow struct{ reply reply }

func (n notNow) Error() string { return "it lets nobody log in now: " + n.reply.Error() }
func (notNow) Unwrap() error   { return errUpstream }

// TryLogin tells whether an upstream takes its user and password.
func TryLogin(ctx context.Context, u Upstream) error {
	c, err := dial(ctx, u, Timeouts{}.withDefaults())
	if err == nil {
		c.quit()
	}
	return err
}

// heloName is what we call ourselves where Upstream has no name for us: a
// person's host is nobody's business.
const heloName = "[127.0.0.1]"

// dial connects to the upstream, through TLS and login.
func dial(ctx context.Context, u Upstream, t Timeouts) (*client, error) {
	c, err := connect(ctx, u, t)
	if err != nil {
		return nil, err
	}
	if err := c.login(u); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// connect is dial without login.
func connect(ctx context.Context, u Upstream, t Timeouts) (*client, error) {
	ctx, cancel := context.WithTimeout(ctx, t.Connect)
	defer cancel()
	conn, err := u.Dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUpstream, err)
	}
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, done := conn.(*tls.Conn); u.Mode == ImplicitTLS && !done {
		tc := tls.Client(conn, wholeRecords(u.TLS))
		if err := tc.HandshakeContext(ctx); err != nil {
			conn.Close()
			return nil, fmt.Errorf("TLS with the mail server: %w: %w", errUpstream, err)
		}
		conn = tc
	}
	c := &client{helo: cmp.Or(u.Helo, heloName), link: newLink(conn, t.Block), t: t}
	if err := c.greet(ctx, u); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// greet reads the greeting, says EHLO and switches to TLS where it must.
func (c *client) greet(ctx context.Context, u Upstream) error {
	r, err := c.reply(c.t.Connect)
	if err != nil {
		return err
	}
	if r.Code != 220 {
		return fmt.Errorf("greeting: %w: %v", errUpstream, r)
	}
	if err := c.ehlo(); err != nil {
		return err
	}
	if u.Mode != STARTTLS {
		return nil
	}
	// Mandatory: a server or attacker that doesn't offer it gets no password.
	if !c.starttls {
		return errNoTLS
	}
	if r, err := c.ask("STARTTLS", c.t.Connect); err != nil {
		return err
	} else if r.Code != 220 {
		return fmt.Errorf("STARTTLS: %w: %v", errUpstream, r)
	}
	// CVE-2011-0411 and its like: what came before TLS is not of the server.
	if c.r.Buffered() > 0 {
		return fmt.Errorf("the mail server sent text before TLS: %w", errUpstream)
	}
	tc := tls.Client(c.conn, wholeRecords(u.TLS))
	if err := tc.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("TLS with the mail server: %w: %w", errUpstream, err)
	}
	c.link = newLink(tc, c.t.Block)
	return c.ehlo()
}

// wholeRecords is c with full TLS records from the beginning: small ones let a
// browser show a page early, and of a message nothing counts before its end.
func wholeRecords(c *tls.Config) *tls.Config {
	if c == nil {
		return nil
	}
	c = c.Clone()
	c.DynamicRecordSizingDisabled = true
	return c
}

func (c *client) ehlo() error {
	c.caps, c.pipelines, c.auth, c.starttls = Capabilities{}, false, nil, false
	if err := c.command("EHLO " + c.helo); err != nil {
		return err
	}
	if err := c.flush(); err != nil {
		return fmt.Errorf("%w: %w", errUpstream, err)
	}
	c.conn.SetReadDeadline(time.Now().Add(c.t.Connect))
	lines, r, err := c.lines()
	if err != nil {
		return err
	}
	if r.Code != 250 {
		return fmt.Errorf("EHLO: %w: %v", errUpstream, r)
	}
	for _, l := range lines[1:] {
		c.capability(strings.Fields(strings.ToUpper(l)))
	}
	return nil
}

func (c *client) capability(words []string) {
	if len(words) == 0 {
		return
	}
	switch words[0] {
	case "8BITMIME":
		c.caps.EightBit = true
	case "SMTPUTF8":
		c.caps.UTF8 = true
	case "DSN":
		c.caps.DSN = true
	case "SIZE":
		if len(words) > 1 {
			c.caps.Size, _ = strconv.ParseInt(words[1], 10, 64)
		}
	case "PIPELINING":
		c.pipelines = true
	case "STARTTLS":
		c.starttls = true
	case "AUTH":
		c.auth = words[1:]
	}
}

// login uses PLAIN (RFC 4616), else LOGIN. The caller's Mode has made sure that
// the connection may carry a password.
func (c *client) login(u Upstream) error {
	if u.User == "" {
		return nil
	}
	b64 := base64.StdEncoding.EncodeToString
	has := func(mech string) bool {
		for _, m := range c.auth {
			if m == mech {
				return true
			}
		}
		return false
	}
	var steps []string
	switch {
	case has("PLAIN"):
		steps = []string{"AUTH PLAIN " + b64([]byte("\x00"+u.User+"\x00"+u.Password))}
	case has("LOGIN"):
		steps = []string{"AUTH LOGIN", b64([]byte(u.User)), b64([]byte(u.Password))}
	default:
		return fmt.Errorf("it offers neither PLAIN nor LOGIN: %w", errLogin)
	}
	for i, s := range steps {
		r, err := c.ask(s, c.t.Connect)
		switch {
		case err != nil:
			return err
		case r.Code == 235 && i == len(steps)-1:
			return nil
		case r.Code/100 == 3 && i < len(steps)-1:
		case r.temporary():
			return notNow{r}
		default:
			return loginRefusal(r)
		}
	}
	return nil
}

// loginRefusal tells apart why a login is refused for good: RFC 4954, Section 6.
func loginRefusal(r reply) error {
	why := ""
	switch r.Code {
	case 535:
		return ErrUpstreamPassword
	case 534: // Gmail's too, where it wants an app password
		why = "it wants another way to log in; some servers mean a password made for one program (app password)"
	case 538, 530:
		why = "it takes passwords under TLS only"
	case 525, 550, 554:
		why = "this user may not log in there"
	default:
		why = "it doesn't understand it"
	}
	return fmt.Errorf("%w: %s (%d %s)", errLogin, why, r.Code, r.Status)
}

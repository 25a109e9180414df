package smtpd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"crypto/tls"
)

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
	defer c.within(ctx)()
	if err := c.login(u); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// connect is dial without login.
func connect(ctx context.Context, u Upstream, t Timeouts) (*client, error) {
	conn, err := reach(ctx, u, t)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, t.Greet)
	defer cancel()
	c := &client{helo: cmp.Or(u.Helo, heloName), link: newLink(conn, t.Block), t: t}
	defer c.within(ctx)()
	if err := c.greet(ctx, u); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// within has all that is waited for end with ctx, until what it returns is called.
func (c *client) within(ctx context.Context) (done func()) {
	conn := c.conn
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	c.until = ctx
	return func() { stop(); c.until = nil }
}

// reach is a connection, with TLS where that comes first.
func reach(ctx context.Context, u Upstream, t Timeouts) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, t.Connect)
	defer cancel()
	conn, err := u.Dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUpstream, err)
	}
	if _, done := conn.(*tls.Conn); u.Mode != ImplicitTLS || done {
		return conn, nil
	}
	return secure(ctx, conn, u)
}

// secure puts TLS on a connection; after an error it is closed.
func secure(ctx context.Context, conn net.Conn, u Upstream) (net.Conn, error) {
	tc := tls.Client(conn, wholeRecords(u.TLS))
	if err := tc.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, fmt.Errorf("%w: %w", errHandshake, err)
	}
	return tc, nil
}

// greet reads the greeting, says EHLO and switches to TLS where it must.
func (c *client) greet(ctx context.Context, u Upstream) error {
	r, err := c.reply(c.t.Greet)
	if isTimeout(err) && u.Mode != ImplicitTLS {
		return fmt.Errorf("%w: %w", errMute, err)
	}
	if err != nil {
		return err
	}
	if r.Code != 220 {
		return &rebuff{step: "connecting", reply: r}
	}
	if err := c.ehlo(); err != nil {
		return c.helloOnly(u, err)
	}
	if u.Mode != STARTTLS {
		return nil
	}
	// Mandatory: a server or attacker that doesn't offer it gets no password.
	if !c.starttls {
		return errNoTLS
	}
	if r, err := c.ask("STARTTLS", c.t.Greet); err != nil {
		return err
	} else if r.Code != 220 {
		return &rebuff{step: "STARTTLS", reply: r}
	}
	// CVE-2011-0411 and its like: what came before TLS is not of the server.
	if c.r.Buffered() > 0 {
		return fmt.Errorf("the mail server sent text before TLS: %w", errUpstream)
	}
	ctx, cancel := context.WithTimeout(ctx, c.t.Connect)
	defer cancel()
	tc, err := secure(ctx, c.conn, u)
	if err != nil {
		return err
	}
	until := c.until
	c.link = newLink(tc, c.t.Block)
	c.until = until
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
	c.caps, c.pipelines, c.sized, c.auth, c.starttls = Capabilities{}, false, false, nil, false
	if err := c.command("EHLO " + c.helo); err != nil {
		return err
	}
	if err := c.flush(); err != nil {
		return fmt.Errorf("%w: %w", errUpstream, err)
	}
	lines, r, err := c.lines(c.t.Greet)
	if err != nil {
		return err
	}
	if r.Code != 250 {
		return &rebuff{step: "EHLO", reply: r}
	}
	for _, l := range lines[1:] {
		c.capability(strings.Fields(strings.ToUpper(l)))
	}
	return nil
}

// helloOnly says HELO to a server that has no EHLO (RFC 5321, Section 3.2), where
// nothing is wanted of it that needs one.
func (c *client) helloOnly(u Upstream, err error) error {
	var no *rebuff
	if !errors.As(err, &no) || no.reply.Code/100 != 5 || u.Mode != Insecure || u.User != "" {
		return err
	}
	r, herr := c.ask("HELO "+c.helo, c.t.Greet)
	if herr != nil || r.Code != 250 {
		return err
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
		c.sized = true
		if len(words) > 1 {
			c.caps.Size, _ = strconv.ParseInt(words[1], 10, 64)
		}
	case "PIPELINING":
		c.pipelines = true
	case "STARTTLS":
		c.starttls = true
	case "AUTH":
		c.auth = append(c.auth, words[1:]...)
	}
	// What servers said before RFC 2554, Section 3, some beside it.
	if first, old := strings.CutPrefix(words[0], "AUTH="); old {
		c.auth = append(append(c.auth, first), words[1:]...)
	}
}

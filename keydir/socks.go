package keydir

import (
	"context"
	"errors"
	"io"
	"net"
	"net/url"
	"time"
)

// commandResolve asks a SOCKS5 proxy to resolve a name and connect nowhere: Tor's
// extension (its socks-extensions, "Name lookup").
const commandResolve = 0xf0

// SOCKS5 replies (RFC 1928, Section 6).
const (
	repSucceeded       = 0
	repHostUnreachable = 4
)

var errSOCKS = errors.New("the proxy can't tell")

// proxyResolver asks a SOCKS5 proxy whether names resolve.
type proxyResolver struct {
	addr           string
	user, password string
}

func newProxyResolver(proxy string) *proxyResolver {
	u, err := url.Parse(proxy)
	if proxy == "" || err != nil {
		return nil
	}
	p := &proxyResolver{addr: u.Host}
	if u.User != nil {
		p.user = u.User.Username()
		p.password, _ = u.User.Password()
	}
	return p
}

// lacks tells whether the domain has an address and its host openpgpkey has none.
// Tor gives the same reply for a name that does not exist and one that could not
// be resolved; that the name above it resolves shows that DNS works, and not more:
// false where it can't be told.
func (p *proxyResolver) lacks(ctx context.Context, domain string) bool {
	if p == nil {
		return false
	}
	if has, err := p.resolves(ctx, "openpgpkey."+domain); has || err != nil {
		return false
	}
	has, err := p.resolves(ctx, domain)
	return has && err == nil
}

// resolves asks about one name; the error says that the proxy didn't tell.
func (p *proxyResolver) resolves(ctx context.Context, host string) (bool, error) {
	if len(host) > 255 {
		return false, errSOCKS
	}
	conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", p.addr)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	if err := p.greet(conn); err != nil {
		return false, err
	}
	ask := append([]byte{5, commandResolve, 0, 3, byte(len(host))}, host...)
	if _, err := conn.Write(append(ask, 0, 0)); err != nil {
		return false, err
	}
	var reply [2]byte
	if _, err := io.ReadFull(conn, reply[:]); err != nil {
		return false, err
	}
	switch {
	case reply[0] != 5:
	case reply[1] == repSucceeded:
		return true, nil
	case reply[1] == repHostUnreachable:
		return false, nil
	}
	return false, errSOCKS
}

// greet agrees on a method (RFC 1928, Section 3), and logs in where one is
// configured (RFC 1929).
func (p *proxyResolver) greet(conn net.Conn) error {
	method := byte(0)
	if p.user != "" {
		method = 2
	}
	var got [2]byte
	if _, err := conn.Write([]byte{5, 1, method}); err != nil {
		return err
	}
	if _, err := io.ReadFull(conn, got[:]); err != nil || got != [2]byte{5, method} {
		return errors.Join(errSOCKS, err)
	}
	if method == 0 {
		return nil
	}
	if len(p.user) > 255 || len(p.password) > 255 {
		return errSOCKS
	}
	login := append([]byte{1, byte(len(p.user))}, p.user...)
	login = append(append(login, byte(len(p.password))), p.password...)
	if _, err := conn.Write(login); err != nil {
		return err
	}
	if _, err := io.ReadFull(conn, got[:]); err != nil || got[1] != 0 {
		return errors.Join(errSOCKS, err)
	}
	return nil
}

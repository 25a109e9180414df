package endpoint

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"
)

// Address is where a listener stands. Two equal Addresses are one listener.
type Address struct {
	Protocol Protocol
	// Security is TLS, or STARTTLS for one that begins in cleartext.
	Security Security
	Host     string // "" means every interface
	Port     int    // 0 picks one
}

// ParseListen reads HOST:PORT (STARTTLS is offered) or imaps://HOST:PORT,
// submissions://HOST:PORT (implicit TLS). Port 0 picks a free one.
func ParseListen(p Protocol, s string) (Address, error) {
	scheme, host, port, err := split(s)
	if err != nil {
		return Address{}, err
	}
	a := Address{Protocol: p, Security: STARTTLS, Host: host, Port: port}
	implicit := map[Protocol]string{IMAP: "imaps", SMTP: "submissions"}[p]
	switch {
	case scheme == implicit:
		a.Security = TLS
	case scheme != "":
		return Address{}, fmt.Errorf("%w: %q listens for %s; write HOST:PORT or %s://HOST:PORT", ErrSyntax, s, p, implicit)
	}
	if port < 0 {
		return Address{}, fmt.Errorf("%w: %q has no port; write for example 127.0.0.1:%d", ErrSyntax, s, map[Protocol]int{IMAP: 1143, SMTP: 1025}[p])
	}
	return a, nil
}

// ParseHostPort reads HOST:PORT, for a listener of another protocol.
func ParseHostPort(s string) (Address, error) {
	scheme, host, port, err := split(s)
	if err == nil && (scheme != "" || port < 0) {
		err = fmt.Errorf("%w: %q is not HOST:PORT", ErrSyntax, s)
	}
	return Address{Security: Cleartext, Host: host, Port: port}, err
}

// Loopback tells whether only this machine can reach the address.
func (a Address) Loopback() bool { return Loopback(a.Host) }

// HostPort is the address as net.Listen takes it.
func (a Address) HostPort() string { return net.JoinHostPort(a.Host, strconv.Itoa(a.Port)) }

func (a Address) String() string {
	if a.Security == TLS {
		return map[Protocol]string{IMAP: "imaps://", SMTP: "submissions://"}[a.Protocol] + a.HostPort()
	}
	return a.HostPort()
}

// Check is ErrExposed for an address off loopback unless expose was asked for.
func (a Address) Check(expose bool) error {
	if a.Loopback() || expose {
		return nil
	}
	return fmt.Errorf("%w: %s hands out decrypted mail (listen on 127.0.0.1, or write expose = true if other machines are to reach it; they will have to use TLS)", ErrExposed, a)
}

// Listen opens the address. The connections are plain TCP: with Security TLS the
// server begins the handshake, where its deadlines are.
func (a Address) Listen(ctx context.Context) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", a.HostPort())
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("port %d on %s is in use by another program (stop it, or choose another port in listen): %w", a.Port, a.Host, err)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("not allowed to listen on port %d (ports below 1024 need privileges; choose a higher one): %w", a.Port, err)
	case err != nil:
		return nil, fmt.Errorf("listening on %s: %w", a, err)
	}
	return l, nil
}

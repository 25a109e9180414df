// Package endpoint is where connections come from and go to: the addresses that
// Letterlock listens on, the upstream servers that it calls, and the TLS of both.
//
// [ParseListen] and [ParseUpstream] read the two notations of the configuration.
// An [Address] is listened on, an [Upstream] is dialled; both say in a
// [Security] what protects the connection. An [Authority] is the certification
// authority of this installation, which may only vouch for localhost.
//
// The package promises that an upstream is never spoken to in cleartext unless
// it is on a loopback address, and that a certificate is always verified against
// the name that was configured. Nothing turns that off.
package endpoint

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// Errors that callers decide on.
var (
	// ErrSyntax means that a listen address or upstream cannot be read.
	ErrSyntax = errors.New("not an address that letterlock understands")
	// ErrExposed means that a listener would hand out decrypted mail beyond
	// this machine without having been told to.
	ErrExposed = errors.New("listener would be reachable from other machines")
	// ErrCleartext means that an unencrypted connection would leave this machine.
	ErrCleartext = errors.New("cleartext is accepted for loopback addresses only")
)

// Protocol is what is spoken over a connection.
type Protocol string

const (
	IMAP Protocol = "imap"
	SMTP Protocol = "smtp"
)

// Security is what protects a connection.
type Security string

const (
	// TLS is implicit TLS, from the first byte (RFC 8314, Section 3).
	TLS Security = "tls"
	// STARTTLS is an upgrade: mandatory towards an upstream, offered by a
	// listener (RFC 3207; RFC 3501, Section 6.2.1).
	STARTTLS Security = "starttls"
	// Cleartext is none; only towards an upstream on a loopback address.
	Cleartext Security = "cleartext"
)

// Loopback tells whether host names this machine only: a literal loopback
// address or "localhost". The empty host means every interface and is not.
func Loopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// split cuts "scheme://host:port" apart; scheme is "" where there is none, port
// is -1 where there is none.
func split(s string) (scheme, host string, port int, err error) {
	rest := s
	if i := strings.Index(s, "://"); i >= 0 {
		scheme, rest = strings.ToLower(s[:i]), s[i+3:]
	}
	if strings.ContainsAny(rest, "/?#@ \t\r\n") {
		return "", "", 0, fmt.Errorf("%w: %q has more than a host and a port", ErrSyntax, s)
	}
	host, p, err := net.SplitHostPort(rest)
	if err != nil {
		if strings.Contains(strings.Trim(rest, "[]"), ":") && !strings.HasPrefix(rest, "[") {
			return "", "", 0, fmt.Errorf("%w: %q (write an IPv6 address as [::1]:PORT)", ErrSyntax, s)
		}
		return scheme, strings.Trim(rest, "[]"), -1, nil
	}
	n, err := strconv.ParseUint(p, 10, 16)
	if err != nil {
		return "", "", 0, fmt.Errorf("%w: port %q is not a number from 0 to 65535", ErrSyntax, p)
	}
	return scheme, host, int(n), nil
}

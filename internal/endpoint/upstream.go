package endpoint

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Upstream is a server that we call. It is a value; copies are independent.
type Upstream struct {
	Protocol Protocol
	Security Security
	Host     string // name that its certificate must have
	Port     int
	// Roots are certification authorities to trust beside the system's; nil
	// for the system's alone.
	Roots *x509.CertPool
	// DialTimeout bounds connecting, with TLS. 0 means 20 seconds.
	DialTimeout time.Duration
}

// schemes are the upstream notations, with their default ports (RFC 8314,
// Section 7; RFC 6409, Section 3.1).
var schemes = map[string]Upstream{
	"imaps":         {Protocol: IMAP, Security: TLS, Port: 993},
	"imap":          {Protocol: IMAP, Security: STARTTLS, Port: 143},
	"imap+insecure": {Protocol: IMAP, Security: Cleartext, Port: 143},
	"submissions":   {Protocol: SMTP, Security: TLS, Port: 465},
	"submission":    {Protocol: SMTP, Security: STARTTLS, Port: 587},
	"smtp+insecure": {Protocol: SMTP, Security: Cleartext, Port: 25},
}

// ParseUpstream reads SCHEME://HOST[:PORT]: imaps and submissions (implicit
// TLS), imap and submission (mandatory STARTTLS), imap+insecure and
// smtp+insecure (cleartext, loopback only).
func ParseUpstream(p Protocol, s string) (Upstream, error) {
	scheme, host, port, err := split(s)
	if err != nil {
		return Upstream{}, err
	}
	want := map[Protocol]string{IMAP: "imaps://HOST, imap://HOST or imap+insecure://127.0.0.1:PORT",
		SMTP: "submissions://HOST, submission://HOST or smtp+insecure://127.0.0.1:PORT"}[p]
	u, ok := schemes[scheme]
	switch {
	case !ok || u.Protocol != p:
		return Upstream{}, fmt.Errorf("%w: %q is no %s upstream; write %s", ErrSyntax, s, p, want)
	case host == "":
		return Upstream{}, fmt.Errorf("%w: %q has no host; write %s", ErrSyntax, s, want)
	case port == 0:
		return Upstream{}, fmt.Errorf("%w: %q has port 0, which nobody can be called at", ErrSyntax, s)
	case port > 0:
		u.Port = port
	}
	u.Host = host
	if u.Security == Cleartext && !Loopback(host) {
		return Upstream{}, fmt.Errorf("%w: %s (write %s://, which demands TLS)", ErrCleartext, host, strings.TrimSuffix(strings.Replace(scheme, "smtp", "submission", 1), "+insecure"))
	}
	return u, nil
}

// HostPort is the upstream's address as net.Dial takes it.
func (u Upstream) HostPort() string { return net.JoinHostPort(u.Host, strconv.Itoa(u.Port)) }

func (u Upstream) String() string {
	for name, s := range schemes {
		if s.Protocol == u.Protocol && s.Security == u.Security {
			return name + "://" + u.HostPort()
		}
	}
	return u.HostPort()
}

// TLSConfig verifies the upstream by its configured name, at TLS 1.2 or later.
// It is a new one each time, for the STARTTLS of one connection.
func (u Upstream) TLSConfig() *tls.Config {
	return &tls.Config{ServerName: u.Host, RootCAs: u.Roots, MinVersion: tls.VersionTLS12}
}

// Dial connects. With Security TLS the handshake is done and the certificate
// verified; with STARTTLS the caller upgrades the connection with TLSConfig,
// having thrown away what it had buffered, before it sends anything else than
// the upgrade itself. The caller closes the connection.
func (u Upstream) Dial(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, u.timeout())
	defer cancel()
	c, err := u.DialTCP(ctx)
	if err != nil || u.Security != TLS {
		return c, err
	}
	t := tls.Client(c, u.TLSConfig())
	if err := t.HandshakeContext(ctx); err != nil {
		c.Close()
		return nil, fmt.Errorf("TLS with %s: %w", u, err)
	}
	return t, nil
}

// DialTCP connects without TLS, for callers that see to it themselves.
func (u Upstream) DialTCP(ctx context.Context) (net.Conn, error) {
	d := &net.Dialer{KeepAlive: time.Minute, Timeout: u.timeout()}
	if u.Security == Cleartext {
		d.Control = onlyLoopback
	}
	c, err := d.DialContext(ctx, "tcp", u.HostPort())
	if err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", u, plain{err})
	}
	return c, nil
}

// plain is an error of connecting, whose text doesn't tell again where to.
type plain struct{ error }

func (p plain) Unwrap() error { return p.error }

func (p plain) Error() string {
	var dns *net.DNSError
	var op *net.OpError
	switch {
	case errors.As(p.error, &dns):
		return dns.Err
	case errors.As(p.error, &op):
		return op.Err.Error()
	}
	return p.error.Error()
}

func (u Upstream) timeout() time.Duration {
	if u.DialTimeout == 0 {
		return 20 * time.Second
	}
	return u.DialTimeout
}

// onlyLoopback refuses what "localhost" may resolve to elsewhere, when the
// address is known and before anything is sent.
func onlyLoopback(_, address string, _ syscall.RawConn) error {
	host, _, err := net.SplitHostPort(address)
	if err == nil && !Loopback(host) {
		return fmt.Errorf("%w: %s", ErrCleartext, address)
	}
	return err
}

// Roots are the system's certification authorities and those in the PEM file;
// nil, for the system's alone, where file is "".
func Roots(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading CA certificates: %w", err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("no CA certificate in %s (it takes PEM: -----BEGIN CERTIFICATE-----)", file)
	}
	return pool, nil
}

package keydir

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"

	"letterlock.org/letterlock/internal/address"
)

// Limits of one search.
const (
	maxLDAP        = 512 << 10 // bytes that are read
	maxLDAPEntries = 8
)

// LDAP is one directory of an organisation: a server whose entries have the
// attribute pgpKey, as GnuPG's schema (pgpKeyInfo) says, armored or binary.
type LDAP struct {
	// URL is ldaps://host[:port], or ldap://host[:port], over which StartTLS is
	// required unless the host is a loopback address.
	URL string
	// Base is the entry beneath which certificates are.
	Base string
	// Domains are whose own directory it is: a certificate there is the
	// organisation's word. Of other domains it is asked as a third party; with
	// Only set it isn't asked of them.
	Domains []string
	Only    bool
	// BindDN and Password log in; anonymous without.
	BindDN, Password string
	// CA are PEM certificates of authorities beside the system's.
	CA []byte
}

// ldapClient asks one of them. It keeps nothing between look-ups.
type ldapClient struct {
	LDAP
	host, port string
	tls        *tls.Config
	implicit   bool // TLS from the start
	clear      bool // none
	domains    map[string]bool
	dial       dialFunc
	timeout    time.Duration
}

func newLDAP(c LDAP, n Network, proxy string, timeout time.Duration) (*ldapClient, error) {
	u, err := url.Parse(c.URL)
	if err != nil || u.Scheme != "ldap" && u.Scheme != "ldaps" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || strings.Trim(u.Path, "/") != "" {
		return nil, errors.New(`discovery.ldap: url: is no directory; write "ldaps://ldap.example.org"`)
	}
	l := &ldapClient{LDAP: c, host: u.Hostname(), port: u.Port(), implicit: u.Scheme == "ldaps", domains: map[string]bool{}, timeout: timeout}
	l.clear = !l.implicit && loopback(l.host)
	if l.port == "" {
		l.port = map[bool]string{true: "636", false: "389"}[l.implicit]
	}
	for _, d := range c.Domains {
		name, err := address.Domain(d)
		if err != nil {
			return nil, fmt.Errorf("discovery.ldap: domains: %q is no domain", d)
		}
		l.domains[name] = true
	}
	if c.Only && len(l.domains) == 0 || c.Base == "" {
		return nil, errors.New("discovery.ldap: base and domains are needed")
	}
	l.tls = &tls.Config{ServerName: l.host, RootCAs: n.Roots, MinVersion: tls.VersionTLS12}
	if len(c.CA) > 0 {
		if l.tls.RootCAs, err = x509.SystemCertPool(); err != nil {
			l.tls.RootCAs = x509.NewCertPool()
		}
		if !l.tls.RootCAs.AppendCertsFromPEM(c.CA) {
			return nil, errors.New("discovery.ldap: ca: has no certificate in it")
		}
	}
	l.dial = (&net.Dialer{Timeout: 5 * time.Second}).DialContext // named by our operator, wherever it is
	if proxy != "" && !loopback(l.host) {
		if l.dial, err = proxyDialer(proxy); err != nil {
			return nil, err
		}
	}
	return l, nil
}

func (l *ldapClient) name() string { return sourceLDAP }

func (l *ldapClient) speaksAs(a address.Address) word {
	switch {
	case l.domains[a.Domain]:
		return ofOrganisation
	case l.Only:
		return ofNobody
	}
	return ofVerifier
}

// lookup searches for the address; as a third party only where that is wanted.
func (l *ldapClient) lookup(ctx context.Context, q question) (ans answer, attempts []Attempt) {
	if !q.search && l.speaksAs(q.address) < ofDomain {
		return answer{}, nil
	}
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	defer func() {
		if recover() != nil { // the library reads what a stranger sent
			ans = answer{outcome: Unavailable, detail: l.host + " gave an answer that can't be read"}
		}
		attempts = []Attempt{ans.attempt(sourceLDAP, time.Since(start))}
	}()
	conn, err := l.connect(ctx)
	if err != nil {
		return l.fault(ctx, err), nil
	}
	defer conn.Close()
	entries, err := l.search(conn, q.address)
	if err != nil {
		return l.fault(ctx, err), nil
	}
	return l.answer(entries, q.address), nil
}

var (
	errLDAPTLS   = errors.New("no TLS that can be verified")
	errLDAPLogin = errors.New("the login was refused")
)

// connect is a connection that is logged in, over TLS unless it goes to loopback.
// It ends with ctx.
func (l *ldapClient) connect(ctx context.Context) (conn *ldap.Conn, err error) {
	raw, err := l.dial(ctx, "tcp", net.JoinHostPort(l.host, l.port))
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { raw.Close() })
	bounded := net.Conn(&boundedConn{Conn: raw, left: maxLDAP})
	if l.implicit {
		over := tls.Client(bounded, l.tls)
		if err := over.HandshakeContext(ctx); err != nil {
			raw.Close()
			return nil, fmt.Errorf("%w: %w", errLDAPTLS, err)
		}
		bounded = over
	}
	conn = ldap.NewConn(bounded, l.implicit)
	conn.SetTimeout(l.timeout + time.Second) // ctx ends first
	conn.Start()
	if !l.implicit && !l.clear {
		if err := conn.StartTLS(l.tls.Clone()); err != nil { // RFC 4511, Section 4.14
			conn.Close()
			return nil, fmt.Errorf("%w: %w", errLDAPTLS, err)
		}
	}
	if l.BindDN != "" {
		if err := conn.Bind(l.BindDN, l.Password); err != nil {
			conn.Close()
			return nil, fmt.Errorf("%w: %w", errLDAPLogin, err)
		}
	}
	return conn, nil
}

// search asks for entries of the address. Attributes that a server doesn't know
// make their part of the filter undefined, not the whole (RFC 4511, Section
// 4.5.1.7). Referrals are not followed: nobody named where they lead.
func (l *ldapClient) search(conn *ldap.Conn, a address.Address) ([]*ldap.Entry, error) {
	s := ldap.EscapeFilter(a.String())
	filter := fmt.Sprintf("(|(gpgMailbox=%s)(mail=%s)(pgpUserID=%s)(pgpUserID=*<%s>))", s, s, s, s)
	req := ldap.NewSearchRequest(l.Base, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, maxLDAPEntries, int(l.timeout/time.Second), false,
		filter, []string{"pgpKey", "pgpKeyV2", "pgpDisabled"}, nil)
	req.EnforceSizeLimit = true
	got, err := conn.Search(req)
	if err != nil {
		return nil, err
	}
	return got.Entries, nil
}

func (l *ldapClient) fault(ctx context.Context, err error) answer {
	detail := l.host + " could not be asked"
	switch {
	case errors.Is(err, errLDAPTLS):
		detail = l.host + " has no TLS certificate that can be verified"
	case errors.Is(err, errLDAPLogin):
		detail = l.host + " refuses the login of discovery.ldap"
	case ldap.IsErrorWithCode(err, ldap.LDAPResultSizeLimitExceeded), errors.Is(err, ldap.ErrSizeLimitExceeded):
		detail = l.host + " has too many entries of the address"
	case ldap.IsErrorWithCode(err, ldap.LDAPResultNoSuchObject):
		detail = l.host + " has nothing at the base of discovery.ldap"
	case ctx.Err() != nil:
		detail = l.host + " did not answer in time"
	}
	return answer{outcome: Unavailable, detail: detail}
}

// answer reads the certificates of entries. Where some can't be read, those that
// can count.
func (l *ldapClient) answer(entries []*ldap.Entry, a address.Address) answer {
	out := answer{outcome: Absent, detail: l.host + " has no certificate of the address"}
	for _, e := range entries {
		if e.GetEqualFoldAttributeValue("pgpDisabled") == "1" {
			continue
		}
		for _, v := range append(e.GetEqualFoldRawAttributeValues("pgpKey"), e.GetEqualFoldRawAttributeValues("pgpKeyV2")...) {
			one := answerOf(v, a, l.host, maxCertificates)
			out.others = append(out.others, one.others...)
			switch {
			case one.outcome == Found:
				out.outcome = Found
				out.certs = append(out.certs, one.certs...)
			case out.outcome == Absent:
				out.outcome, out.detail = one.outcome, one.detail
			}
		}
	}
	switch {
	case len(out.certs) > maxCertificates:
		return answer{outcome: Unavailable, detail: fmt.Sprintf("%s has %d certificates of the address; at most %d are read", l.host, len(out.certs), maxCertificates)}
	case out.outcome == Found:
		out.detail = fmt.Sprintf("%s has %d certificate(s)", l.host, len(out.certs))
	}
	return out
}

// boundedConn gives no more than left bytes.
type boundedConn struct {
	net.Conn
	left int // only touched by the one goroutine that reads
}

func (b *boundedConn) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, io.ErrUnexpectedEOF
	}
	n, err := b.Conn.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}

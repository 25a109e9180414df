package keydir

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"syscall"
	"time"

	"golang.org/x/net/proxy"
)

// errNotPublic means that a name resolved to an address where no public
// directory can be: what is asked there is our own network.
var errNotPublic = errors.New("not a public address")

var errNoAddress = errors.New("the name has no addresses")

// errProxy marks failures that a proxy reported or caused.
var errProxy = errors.New("the proxy could not connect")

// notPublic are the special-purpose blocks (RFC 6890 and its registries) that
// netip's own questions don't cover, those that embed an IPv4 address included.
var notPublic = prefixes(
	"0.0.0.0/8",        // this network, RFC 791
	"100.64.0.0/10",    // shared, RFC 6598
	"192.0.0.0/24",     // protocol assignments, RFC 6890
	"192.88.99.0/24",   // 6to4 relays, RFC 7526
	"168.63.129.16/32", // Azure's own host in every machine's network
	"198.18.0.0/15",    // benchmarks, RFC 2544
	"240.0.0.0/4",      // reserved and broadcast, RFC 1112
	"::/96",            // IPv4-compatible, RFC 4291
	"::ffff:0:0:0/96",  // IPv4-translated, RFC 2765
	"64:ff9b:1::/48",   // NAT64, RFC 8215
	"100::/64",         // discard, RFC 6666
	"2001::/23",        // protocol assignments with Teredo, RFC 2928
	"2002::/16",        // 6to4, RFC 3056
	"fec0::/10",        // site-local, RFC 3879
)

func prefixes(s ...string) (out []netip.Prefix) {
	for _, p := range s {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

// nat64 is the well-known prefix (RFC 6052), by which a network of IPv6 alone
// reaches the IPv4 address in the last four bytes.
var nat64 = netip.MustParsePrefix("64:ff9b::/96")

// checkPublic is errNotPublic unless ip may be a public directory's.
func checkPublic(ip netip.Addr) error {
	ip = ip.Unmap().WithZone("")
	if nat64.Contains(ip) {
		b := ip.As16()
		ip = netip.AddrFrom4([4]byte(b[12:]))
	}
	bad := !ip.IsValid() || !ip.IsGlobalUnicast() || ip.IsPrivate()
	for _, p := range notPublic {
		bad = bad || p.Contains(ip)
	}
	if bad {
		return fmt.Errorf("%s: %w", ip, errNotPublic)
	}
	return nil
}

// checkControl is for net.Dialer.Control: the last look before connect, at the
// number that is connected to.
func checkControl(network, addr string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		return fmt.Errorf("%s: %w", addr, errNotPublic)
	}
	return checkPublic(ap.Addr())
}

type dialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

// lookupOf resolves names as n says.
func lookupOf(n Network) func(ctx context.Context, host string) ([]netip.Addr, error) {
	if n.Lookup != nil {
		return n.Lookup
	}
	// StrictErrors: without it an AAAA that fails beside an A without data is
	// told as "no such host". PreferGo: the C library tells less.
	resolver := &net.Resolver{PreferGo: true, StrictErrors: true}
	return func(ctx context.Context, host string) ([]netip.Addr, error) {
		return resolver.LookupNetIP(ctx, "ip", host)
	}
}

// publicDialer connects to public addresses only. It resolves the name once and
// connects to the very addresses that it checked, so that a name that resolves
// differently the next time gains nothing.
func publicDialer(n Network) dialFunc {
	lookup := lookupOf(n)
	dial := n.Dial
	if dial == nil {
		dial = (&net.Dialer{Control: checkControl, Timeout: 5 * time.Second}).DialContext
	}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		host, port, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		// Rooted: a search list would ask for other names.
		ips, err := lookup(ctx, host+".")
		if err != nil {
			return nil, err
		}
		return dialAny(ctx, dial, ips, port)
	}
}

// dialAny tries the first four addresses. One that isn't public fails all. The
// host refuses only if every address does that we have a route to (a machine
// without IPv6 has none to half of them).
func dialAny(ctx context.Context, dial dialFunc, ips []netip.Addr, port string) (net.Conn, error) {
	for _, ip := range ips {
		if err := checkPublic(ip); err != nil {
			return nil, err
		}
	}
	worst := errNoAddress
	for _, ip := range ips[:min(len(ips), 4)] {
		c, err := dial(ctx, "tcp", net.JoinHostPort(ip.Unmap().String(), port))
		if err == nil {
			return c, nil
		}
		if severity(err) >= severity(worst) {
			worst = err
		}
	}
	return nil, worst
}

// severity orders what went wrong with several addresses of one host.
func severity(err error) int {
	var sys syscall.Errno
	switch {
	case err == errNoAddress:
		return 0
	case !errors.As(err, &sys):
		return 3
	case sys == syscall.ECONNREFUSED:
		return 2
	case sys == syscall.ENETUNREACH, sys == syscall.EAFNOSUPPORT, sys == syscall.EADDRNOTAVAIL:
		return 1
	}
	return 3
}

// proxyDialer lets the proxy resolve and connect (RFC 1928). Where the proxy
// stands, and what it may reach, is its operator's concern.
func proxyDialer(p string) (dialFunc, error) {
	u, err := url.Parse(p)
	if err != nil || u.Scheme != "socks5" && u.Scheme != "socks5h" || u.Port() == "" || u.Hostname() == "" || u.Path != "" {
		return nil, errors.New("discovery.proxy is no SOCKS5 proxy; write socks5://127.0.0.1:9050")
	}
	var auth *proxy.Auth
	if u.User != nil {
		password, _ := u.User.Password()
		auth = &proxy.Auth{User: u.User.Username(), Password: password}
	}
	d, err := proxy.SOCKS5("tcp", u.Host, auth, &net.Dialer{Timeout: 5 * time.Second})
	if err != nil {
		return nil, fmt.Errorf("discovery.proxy: %w", err)
	}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := d.(proxy.ContextDialer).DialContext(ctx, network, addr)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errProxy, err)
		}
		return c, nil
	}, nil
}

package keydir

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/pgp"
)

// Schema is the tables of keydir; the Store of a Config must be opened with it.
var Schema = store.Schema{Name: "keydir", Steps: []string{
	`CREATE TABLE keydir_peer (addr TEXT PRIMARY KEY, state BLOB NOT NULL, mac BLOB NOT NULL)`,
	`CREATE TABLE keydir_cert (fpr TEXT PRIMARY KEY, bytes BLOB NOT NULL, mac BLOB NOT NULL)`,
	`CREATE TABLE keydir_keyid (keyid BIGINT NOT NULL, fpr TEXT NOT NULL, PRIMARY KEY (keyid, fpr))`,
	`CREATE TABLE keydir_domain (domain TEXT PRIMARY KEY, seen BIGINT NOT NULL, mac BLOB NOT NULL)`,
}}

// Config configures a Resolver.
type Config struct {
	// Store keeps certificates and trust. Required; opened with Schema.
	Store store.Store
	// Sources are what may be asked: "wkd", "autocrypt". Nil means both. Empty
	// but not nil asks nobody: only what is imported is used.
	Sources []string
	// Proxy is a SOCKS5 proxy for every look-up, "socks5://host:port", which
	// then resolves names too. A proxy doesn't tell a name that does not exist
	// from a host that is down, so its failures are all unavailable.
	Proxy string
	// Override gives the base URL to ask for a domain (split horizon, tests):
	// https, or http to a loopback address. The check that a directory has a
	// public address doesn't apply to it; Proxy does unless it is loopback.
	Override map[string]string
	// Own gives the certificates of our own keys: they are found without asking,
	// and Confirmed, for the addresses that they name. Nil means none. It may be
	// called concurrently.
	Own func() []*pgp.Certificate
	// Learned is told when other certificates hold for an address than before,
	// or one is better known; mail may wait for that. It is called after that is
	// stored, concurrently, and delays who caused it. Nil tells nobody.
	Learned func(ctx context.Context, a address.Address)
	// Now is the clock. Nil means time.Now.
	Now func() time.Time
	// Logger takes what changed; addresses at debug level only. Nil discards.
	Logger *slog.Logger
	// Network stands in for the network, in tests.
	Network Network
}

// Network is how directories are reached. Zero fields mean the real network.
type Network struct {
	// Lookup resolves a host name, which is rooted ("example.org."). A name that
	// does not exist, or has no addresses, is a *net.DNSError with IsNotFound.
	Lookup func(ctx context.Context, host string) ([]netip.Addr, error)
	// Dial connects to an IP address and port that passed the address check.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Roots are the certification authorities that directories may have.
	Roots *x509.CertPool
	// Timeout bounds one look-up; 0 means 10 s.
	Timeout time.Duration
	// Refetch bounds how long a send waits for news of a certificate that is
	// stored; 0 means 3 s.
	Refetch time.Duration
}

// Resolver finds certificates. It is safe for concurrent use.
type Resolver struct {
	store     store.Store
	discovery atomic.Pointer[discovery]
	network   Network
	own       func() []*pgp.Certificate
	learned   func(context.Context, address.Address)
	now       func() time.Time
	log       *slog.Logger
	refetch   time.Duration
	timeout   time.Duration

	cache   *cache
	parsed  parsed
	flights flights
	// base ends with Close; look-ups that outlive their callers belong to it.
	base   context.Context
	cancel context.CancelFunc
	wait   sync.WaitGroup
}

// New makes a Resolver. The error joins everything that is wrong with c. The
// caller closes the Resolver before the store.
func New(c Config) (*Resolver, error) {
	r := &Resolver{store: c.Store, own: c.Own, now: c.Now, log: c.Logger, cache: newCache(cacheEntries), flights: newFlights(maxLookups)}
	r.refetch, r.timeout = orDefault(c.Network.Refetch, 3*time.Second), orDefault(c.Network.Timeout, 10*time.Second)
	if r.own == nil {
		r.own = func() []*pgp.Certificate { return nil }
	}
	if r.learned = c.Learned; r.learned == nil {
		r.learned = func(context.Context, address.Address) {}
	}
	if r.now == nil {
		r.now = time.Now
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	var problems []error
	if c.Store == nil {
		problems = append(problems, errors.New("keydir: no store"))
	}
	r.network = c.Network
	problems = append(problems, r.Replace(c.Sources, c.Proxy, c.Override))
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	r.base, r.cancel = context.WithCancel(context.Background())
	return r, nil
}

// discovery is who is asked, and how.
type discovery struct {
	wkd       *wkdClient // nil where wkd is no source
	probe     *wkdClient // the same where it is none, for Examine
	autocrypt bool
}

// asked is who is asked now.
func (r *Resolver) asked() *discovery { return r.discovery.Load() }

// Replace changes whom to ask from now on, as Config's fields of these names say.
// Look-ups under way end as they began. After an error, which joins everything
// that is wrong, nothing has changed.
func (r *Resolver) Replace(sources []string, proxy string, override map[string]string) error {
	sources, errSources := parseSources(sources)
	overrides, errOverrides := parseOverrides(override)
	wkd, err := newWKDClient(r.network, proxy, overrides)
	if err := errors.Join(errSources, errOverrides, err); err != nil {
		return err
	}
	d := &discovery{probe: wkd, autocrypt: slices.Contains(sources, "autocrypt")}
	if slices.Contains(sources, "wkd") {
		d.wkd = wkd
	}
	r.discovery.Store(d)
	return nil
}

// Close ends look-ups under way and waits for them.
func (r *Resolver) Close() error {
	r.cancel()
	r.wait.Wait()
	return nil
}

func orDefault(d, def time.Duration) time.Duration {
	if d == 0 {
		return def
	}
	return d
}

func parseSources(sources []string) ([]string, error) {
	if sources == nil {
		return []string{"wkd", "autocrypt"}, nil
	}
	var problems []error
	for _, s := range sources {
		switch s {
		case "wkd", "autocrypt":
		case "vks", "hkp", "dane":
			problems = append(problems, fmt.Errorf(`discovery.sources: %q is not built in this version; write "wkd" and "autocrypt"`, s))
		default:
			problems = append(problems, fmt.Errorf(`discovery.sources: %q is not known; write "wkd" or "autocrypt"`, s))
		}
	}
	return sources, errors.Join(problems...)
}

// parseOverrides reads wkd_override: by domain, in the form that addresses have.
func parseOverrides(m map[string]string) (map[string]*url.URL, error) {
	var problems []error
	out := make(map[string]*url.URL, len(m))
	for _, domain := range slices.Sorted(maps.Keys(m)) {
		a, err := address.Parse("x@" + domain)
		if err != nil {
			problems = append(problems, fmt.Errorf("discovery.wkd_override: %q is no domain; write example.org", domain))
			continue
		}
		u, err := url.Parse(m[domain])
		switch {
		case err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
			err = fmt.Errorf("discovery.wkd_override: what stands for %s is no base URL; write https://host or http://127.0.0.1:8080", domain)
		case u.Scheme == "https", u.Scheme == "http" && loopback(u.Hostname()):
			u.Path = strings.TrimSuffix(u.Path, "/")
			out[a.Domain] = u
			continue
		default:
			err = fmt.Errorf("discovery.wkd_override: %s for %s; write https://…, or http://… to a loopback address such as 127.0.0.1", u.Redacted(), domain)
		}
		problems = append(problems, err)
	}
	return out, errors.Join(problems...)
}

// loopback tells whether host is a loopback address, by number: a name may be
// made to resolve to anything.
func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

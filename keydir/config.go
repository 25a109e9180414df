package keydir

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"net/netip"
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
	// What was told, alarms, and what is served for own addresses.
	"-- additive\nCREATE TABLE keydir_note (id TEXT PRIMARY KEY, state BLOB NOT NULL, mac BLOB NOT NULL)",
}}

// Config configures a Resolver.
type Config struct {
	// Store keeps certificates and trust. Required; opened with Schema.
	Store store.Store
	// Discovery is whom to ask.
	Discovery
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
	// Timeout bounds one look-up; 0 means 10 s. Third parties have half of it.
	Timeout time.Duration
	// Grace is how long the others are waited for once the domain's own
	// directory has given a certificate; 0 means 500 ms.
	Grace time.Duration
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
	grace     time.Duration

	newRows    atomic.Uint64 // made by received mail since the start
	maxUnused  int
	pruneEvery uint64

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
	r.maxUnused, r.pruneEvery = maxUnused, pruneEvery
	r.grace = orDefault(c.Network.Grace, 500*time.Millisecond)
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
	problems = append(problems, r.Replace(c.Discovery))
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	r.base, r.cancel = context.WithCancel(context.Background())
	return r, nil
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

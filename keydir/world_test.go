package keydir_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"log"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/pgp"
)

var (
	bob   = address.Address{Local: "bob", Domain: "example.org"}
	carol = address.Address{Local: "carol", Domain: "example.org"}
	start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
)

// world is an internet of one's own: names, hosts and a clock.
type world struct {
	*keydir.Resolver
	t     *testing.T
	store store.Store
	conf  keydir.Config
	ca    *authority

	mu     sync.Mutex // guards everything below
	now    time.Time
	tick   time.Duration // how far the clock goes on each time that somebody looks
	names  map[string]func() ([]netip.Addr, error)
	hosts  map[string]string // "203.0.113.1:443" to where it listens
	dialed []string
	looked []string
	asked  []*http.Request
	logged bytes.Buffer
	tor    bool // the proxy resolves
}

func newWorld(t *testing.T, options ...func(*keydir.Config)) *world {
	t.Helper()
	s, err := store.OpenMemory(keydir.Schema)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, store: s, ca: newAuthority(t), now: start, names: map[string]func() ([]netip.Addr, error){}, hosts: map[string]string{}}
	w.conf = keydir.Config{
		Store: s, Now: w.clock, Logger: slog.New(slog.NewTextHandler(locked{w}, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Network: keydir.Network{Lookup: w.lookup, Dial: w.dial, Roots: w.ca.pool, Timeout: time.Minute, Refetch: time.Minute},
	}
	for _, o := range options {
		o(&w.conf)
	}
	w.open()
	t.Cleanup(func() { w.Close(); s.Close() })
	return w
}

// open makes a Resolver without memory of its own, as after a restart.
func (w *world) open() {
	w.t.Helper()
	if w.Resolver != nil {
		w.Close()
	}
	var err error
	if w.Resolver, err = keydir.New(w.conf); err != nil {
		w.t.Fatal(err)
	}
}

type locked struct{ w *world }

func (l locked) Write(b []byte) (int, error) {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	return l.w.logged.Write(b)
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(w.tick)
	return w.now
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

func (w *world) lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	w.mu.Lock()
	w.looked = append(w.looked, host)
	f := w.names[strings.TrimSuffix(host, ".")]
	w.mu.Unlock()
	if f == nil {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	return f()
}

func (w *world) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	w.mu.Lock()
	w.dialed = append(w.dialed, addr)
	to, ok := w.hosts[addr]
	w.mu.Unlock()
	if addr == "198.51.100.99:443" {
		return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ENETUNREACH}
	}
	if !ok {
		return nil, fmt.Errorf("nothing at %s", addr)
	}
	return (&net.Dialer{}).DialContext(ctx, network, to)
}

func (w *world) lookedUp() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.looked)
}

func (w *world) connectedTo() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.dialed)
}

func (w *world) requests() []*http.Request {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.asked)
}

// resolve gives a name addresses.
func (w *world) resolve(name string, addrs ...string) {
	w.name(name, func() (ips []netip.Addr, err error) {
		for _, a := range addrs {
			ips = append(ips, netip.MustParseAddr(a))
		}
		return ips, nil
	})
}

func (w *world) name(name string, f func() ([]netip.Addr, error)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.names[name] = f
}

// listen gives a name an address at which accept answers, on 127.0.0.1:0.
func (w *world) listen(name string, accept func(net.Listener)) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { l.Close() })
	w.mu.Lock()
	ip := fmt.Sprintf("203.0.113.%d", len(w.hosts)+1)
	w.hosts[ip+":443"] = l.Addr().String()
	w.mu.Unlock()
	w.resolve(name, ip)
	go accept(l)
}

// resolveReply is what a SOCKS5 proxy says of a name that f resolves: that it
// doesn't know the command, or as Tor does.
func (w *world) resolveReply(f func() ([]netip.Addr, error)) byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.tor {
		return 7
	}
	if f == nil {
		return 4
	}
	if _, err := f(); err != nil {
		return 4
	}
	return 0
}

// lead has a name, at port 443 of its address, lead to addr.
func (w *world) lead(name, addr string) {
	w.mu.Lock()
	ip := fmt.Sprintf("203.0.113.%d", len(w.hosts)+1)
	w.hosts[ip+":443"] = addr
	w.mu.Unlock()
	w.resolve(name, ip)
}

// web gives a name an HTTPS server with a certificate for certName.
func (w *world) web(name, certName string, h http.HandlerFunc) {
	w.serve(name, w.ca.issue(certName, start), h)
}

func (w *world) serve(name string, cert tls.Certificate, h http.HandlerFunc) {
	s := &http.Server{
		Handler: http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
			w.mu.Lock()
			w.asked = append(w.asked, req)
			w.mu.Unlock()
			h(rw, req)
		}),
		ErrorLog: log.New(io.Discard, "", 0),
	}
	w.t.Cleanup(func() { s.Close() })
	w.listen(name, func(l net.Listener) {
		s.Serve(tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{cert}, Time: func() time.Time { return time.Now() }}))
	})
}

// refuse gives a name an address at which nothing listens.
func (w *world) refuse(name string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	l.Close()
	w.mu.Lock()
	ip := fmt.Sprintf("203.0.113.%d", len(w.hosts)+1)
	w.hosts[ip+":443"] = l.Addr().String()
	w.mu.Unlock()
	w.resolve(name, ip)
}

// directory gives example.org a directory by the advanced method, of which bob's
// certificates and status can be set.
func (w *world) directory() *directory {
	d := &directory{}
	w.web("openpgpkey.example.org", "openpgpkey.example.org", d.ServeHTTP)
	return d
}

type directory struct {
	mu     sync.Mutex
	status int
	body   []byte
	count  int
	came   chan struct{} // closed at the next request, where one is waited for
}

func (d *directory) next() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.came = make(chan struct{})
	return d.came
}

func (d *directory) set(status int, keys ...*pgp.Key) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.status, d.body = status, nil
	for _, k := range keys {
		d.body = append(d.body, k.Certificate().Bytes()...)
	}
}

func (d *directory) setBody(b []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.status, d.body = 200, b
}

func (d *directory) requests() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.count
}

func (d *directory) ServeHTTP(rw http.ResponseWriter, req *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.count++
	if d.came != nil {
		close(d.came)
		d.came = nil
	}
	if d.status != 0 && d.status != 200 {
		rw.WriteHeader(d.status)
		return
	}
	rw.Header().Set("Content-Type", "application/octet-stream")
	rw.Write(d.body)
}

func (w *world) find(a address.Address) keydir.Finding {
	w.t.Helper()
	f, err := w.Find(context.Background(), a)
	if err != nil {
		w.t.Fatalf("Find(%s): %v", a, err)
	}
	if f.Address != a {
		w.t.Errorf("Find(%s) is about %s", a, f.Address)
	}
	if (len(f.Certificates) > 0) != (f.Outcome == keydir.Found && f.Problem == "") {
		w.t.Errorf("%d certificates with outcome %q, problem %q", len(f.Certificates), f.Outcome, f.Problem)
	}
	return f
}

// finds checks outcome, problem and identity, and whose certificates they are.
func (w *world) finds(why string, a address.Address, o keydir.Outcome, problem string, id pgp.Identity, keys ...*pgp.Key) keydir.Finding {
	w.t.Helper()
	f := w.find(a)
	if f.Outcome != o || f.Problem != problem || f.Identity != id {
		w.t.Errorf("%s: %q, problem %q, identity %q (%s); want %q, %q, %q", why, f.Outcome, f.Problem, f.Identity, f.Detail, o, problem, id)
	}
	var got, want []pgp.Fingerprint
	for _, c := range f.Certificates {
		got = append(got, c.Fingerprint())
	}
	for _, k := range keys {
		want = append(want, k.Fingerprint())
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		w.t.Errorf("%s: certificates %s, want %s", why, got, want)
	}
	return f
}

func key(t testing.TB, a address.Address) *pgp.Key {
	t.Helper()
	k, err := pgp.GenerateKey(a, pgp.DefaultProfile, start.Add(-24*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// authority issues TLS certificates.
type authority struct {
	t    *testing.T
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	pool *x509.CertPool
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t, pool: x509.NewCertPool()}
	a.key = ecKey(t)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.pool.AddCert(a.cert)
	return a
}

func ecKey(t *testing.T) *ecdsa.PrivateKey {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// issue makes a certificate for name; one that has ended where end is long past.
func (a *authority) issue(name string, end time.Time) tls.Certificate {
	after := time.Now().Add(time.Hour)
	if end.IsZero() {
		after = time.Now().Add(-time.Minute)
	}
	k := ecKey(a.t)
	template := &x509.Certificate{SerialNumber: big.NewInt(2), DNSNames: []string{name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: after}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, k.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: k}
}

// loopbackServer serves without TLS, and gives its base URL.
func loopbackServer(t testing.TB, h http.HandlerFunc) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: h}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	return "http://" + l.Addr().String()
}

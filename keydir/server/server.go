// Package server publishes certificates: a Web Key Directory over HTTP
// (draft-koch-openpgp-webkey-service).
//
// A [Directory] keeps the certificates in a [store.Store]; [New] makes the
// handler that answers look-ups from a snapshot of it in memory; [Directory.Export]
// writes the same answers as a static tree. Each answer is a certificate with
// the one user ID of the address asked, without foreign signatures.
//
// There is no listing, and every look-up that finds nothing gets the same
// answer. Nobody asking is logged.
package server

import (
	"encoding/base32"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/keydir"
)

// Config configures the handler.
type Config struct {
	Directory *Directory // required
	// Domains are those that are answered for. Others are not found, whatever
	// the Directory has.
	Domains []string
	Logger  *slog.Logger // discards if nil
	// Rate is how many requests a second one client (IPv4 address or IPv6 /64)
	// may make for long; 0 means 20. Five times as many at once are let through.
	// Clients on loopback have no limit: they are a reverse proxy, which knows
	// its own clients.
	Rate float64
	Now  func() time.Time // time.Now if nil
}

// New makes the handler: GET and HEAD of
//
//	/.well-known/openpgpkey/DOMAIN/hu/HASH and …/DOMAIN/policy, the advanced
//	method, whatever the Host (a reverse proxy may have changed it);
//	/.well-known/openpgpkey/hu/HASH and …/policy, the direct method, where Host
//	is one of the domains.
func New(c Config) http.Handler {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Rate <= 0 {
		c.Rate = 20
	}
	h := &handler{directory: c.Directory, log: c.Logger, domains: map[string]bool{}}
	h.clients = &limiter{rate: c.Rate, burst: 5 * c.Rate, now: c.Now}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	for _, d := range c.Domains {
		if a, err := address.Domain(d); err == nil {
			h.domains[a] = true
		} else {
			h.log.Error("keydir: not a domain, and not served", "domain", d)
		}
	}
	return h
}

// Harden sets the limits that a server of this handler needs against slow and
// large requests, where s has none of its own.
func Harden(s *http.Server) {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	set(&s.ReadHeaderTimeout, 5*time.Second)
	set(&s.ReadTimeout, 10*time.Second)
	set(&s.WriteTimeout, 20*time.Second)
	set(&s.IdleTimeout, time.Minute)
	if s.MaxHeaderBytes == 0 {
		s.MaxHeaderBytes = 16 << 10
	}
}

type handler struct {
	directory *Directory
	log       *slog.Logger
	domains   map[string]bool
	clients   *limiter
	told      atomic.Pointer[snapshot] // whose skipped rows were logged
}

const (
	root      = "/.well-known/openpgpkey/"
	maxQuery  = 1024 // bytes
	notFound  = "not found\n"
	cacheable = "public, max-age=3600"
)

// ServeHTTP implements http.Handler.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Access-Control-Allow-Origin", "*")
	header.Set("X-Content-Type-Options", "nosniff")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		header.Set("Allow", "GET, HEAD")
		respond(w, r, http.StatusMethodNotAllowed, "text/plain; charset=utf-8", []byte("only GET and HEAD\n"))
		return
	}
	if !h.clients.allow(r.RemoteAddr) {
		header.Set("Retry-After", "1")
		respond(w, r, http.StatusTooManyRequests, "text/plain; charset=utf-8", []byte("too many requests\n"))
		return
	}
	domain, file, ok := h.target(r)
	switch {
	case !ok:
	case file == "policy":
		header.Set("Cache-Control", cacheable)
		respond(w, r, http.StatusOK, "text/plain; charset=utf-8", []byte(policyFile))
		return
	default:
		if h.certificate(w, r, domain, file) {
			return
		}
	}
	header.Set("Cache-Control", "public, max-age=60")
	respond(w, r, http.StatusNotFound, "text/plain; charset=utf-8", []byte(notFound))
}

// policyFile is the policy of a domain (Section 4.5): no keyword applies, and an
// empty one says that the directory is there.
const policyFile = ""

// target gives the domain asked for, if it is ours, and "policy" or a hash.
func (h *handler) target(r *http.Request) (domain, file string, ok bool) {
	path, ok := strings.CutPrefix(r.URL.Path, root)
	if !ok || len(path) > 300 {
		return "", "", false
	}
	if parts := strings.Split(path, "/"); parts[0] != "hu" && parts[0] != "policy" {
		domain, path = parts[0], strings.Join(parts[1:], "/")
	} else {
		domain = hostname(r.Host)
	}
	domain = strings.ToLower(domain)
	if !h.domains[domain] {
		return "", "", false
	}
	if path == "policy" {
		return domain, path, true
	}
	file, ok = strings.CutPrefix(path, "hu/")
	return domain, file, ok && isHash(file)
}

// hostname is Host without port and final dot.
func hostname(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return strings.TrimSuffix(host, ".")
}

// encoding is z-base-32, as keydir.WKDHash has it.
var encoding = base32.NewEncoding("ybndrfg8ejkmcpqxot1uwisza345h769").WithPadding(base32.NoPadding)

// hash is the SHA-1 of a local part, in binary.
type hash [20]byte

func hashOf(s string) (h hash, ok bool) {
	if len(s) != 32 {
		return h, false
	}
	n, err := encoding.Decode(h[:], []byte(s))
	return h, err == nil && n == len(h)
}

// isHash wants exactly 32 characters of the alphabet; base32 alone would pass
// over line ends.
func isHash(s string) bool {
	if strings.ContainsAny(s, "\r\n") {
		return false
	}
	_, ok := hashOf(s)
	return ok
}

// certificate answers with the certificate, if there is one.
func (h *handler) certificate(w http.ResponseWriter, r *http.Request, domain, file string) bool {
	if !localFits(r.URL.RawQuery, file) {
		return false
	}
	snap, err := h.directory.snapshot(r.Context())
	if err == nil && len(snap.skipped) > 0 && h.told.Swap(snap) != snap {
		h.log.Error("keydir: some published certificates are not served", "first", snap.skipped[0], "count", len(snap.skipped))
	}
	if err != nil {
		h.log.Error("keydir: reading the published certificates", "err", err)
		w.Header().Set("Retry-After", "60")
		respond(w, r, http.StatusServiceUnavailable, "text/plain; charset=utf-8", []byte("try again later\n"))
		return true
	}
	key, _ := hashOf(file)
	found := snap.domains[domain][key]
	if found == nil {
		return false
	}
	w.Header().Set("ETag", found.etag)
	w.Header().Set("Cache-Control", cacheable)
	if matches(r.Header.Values("If-None-Match"), found.etag) {
		w.WriteHeader(http.StatusNotModified)
		return true
	}
	respond(w, r, http.StatusOK, "application/octet-stream", found.body)
	return true
}

// localFits tells whether each l= parameter hashes to file; it may be missing
// (Section 3.1).
func localFits(query, file string) bool {
	if query == "" {
		return true
	}
	if len(query) > maxQuery {
		return false
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return false
	}
	for _, l := range values["l"] {
		if keydir.WKDHash(l) != file {
			return false
		}
	}
	return true
}

// matches compares entity tags weakly (RFC 9110, Section 13.1.2).
func matches(fields []string, etag string) bool {
	for _, f := range fields {
		tags := strings.Split(f, ",")
		if slices.ContainsFunc(tags, func(t string) bool {
			t = strings.TrimSpace(t)
			return t == "*" || strings.TrimPrefix(t, "W/") == etag
		}) {
			return true
		}
	}
	return false
}

func respond(w http.ResponseWriter, r *http.Request, status int, contentType string, body []byte) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // the client is gone if this fails
	}
}

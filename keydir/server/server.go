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
	"context"
	"encoding/base32"
	"encoding/hex"
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
	// Put: an [Intake] stands beside, which the policy tells.
	Put bool
}

// New makes the handler: GET and HEAD of
//
//	/.well-known/openpgpkey/DOMAIN/hu/HASH and …/DOMAIN/policy, the advanced
//	method, whatever the Host (a reverse proxy may have changed it);
//	/.well-known/openpgpkey/hu/HASH and …/policy, the direct method, where Host
//	is one of the domains;
//	/pks/lookup and /vks/v1/by-…, for programs that ask key servers.
func New(c Config) *Handler {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Rate <= 0 {
		c.Rate = 20
	}
	h := &Handler{patience: patience, directory: c.Directory, log: c.Logger, domains: map[string]bool{}, now: c.Now, put: c.Put}
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

// Handler answers look-ups. It may be used concurrently, by net/http and by
// Serve, which is faster.
type Handler struct {
	directory *Directory
	log       *slog.Logger
	domains   map[string]bool
	clients   *limiter
	now       func() time.Time
	put       bool
	patience  time.Duration
	told      atomic.Int64 // how many skipped rows were logged
}

// patience is how long a client may take to send a request.
const patience = 10 * time.Second

const (
	root      = "/.well-known/openpgpkey/"
	vksRoot   = "/vks/v1/"
	maxQuery  = 1024 // bytes
	notFound  = "not found\n"
	cacheable = "public, max-age=3600"
)

// request is what an answer depends on.
type request struct {
	method, host, path, query, remote string
	ifNoneMatch                       []string
}

// response is an answer. Empty fields aren't sent.
type response struct {
	status                                              int
	contentType, cache, etag, allow, retry, disposition string
	body                                                []byte // of HEAD too: its length is told
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a := h.answer(r.Context(), request{method: r.Method, host: r.Host, path: r.URL.EscapedPath(), query: r.URL.RawQuery,
		remote: r.RemoteAddr, ifNoneMatch: r.Header.Values("If-None-Match")}, nil)
	header := w.Header()
	set := func(name, value string) {
		if value != "" {
			header.Set(name, value)
		}
	}
	set("Access-Control-Allow-Origin", "*")
	set("X-Content-Type-Options", "nosniff")
	set("Content-Type", a.contentType)
	set("Cache-Control", a.cache)
	set("ETag", a.etag)
	set("Allow", a.allow)
	set("Retry-After", a.retry)
	set("Content-Disposition", a.disposition)
	if a.status == http.StatusNotModified {
		w.WriteHeader(a.status)
		return
	}
	set("Content-Length", strconv.Itoa(len(a.body)))
	w.WriteHeader(a.status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(a.body) // the client is gone if this fails
	}
}

func text(status int, body string) response {
	return response{status: status, contentType: "text/plain; charset=utf-8", body: []byte(body)}
}

// answer answers a request; the body may be appended to buf.
func (h *Handler) answer(ctx context.Context, q request, buf []byte) response {
	if q.method != http.MethodGet && q.method != http.MethodHead {
		a := text(http.StatusMethodNotAllowed, "only GET and HEAD\n")
		a.allow = "GET, HEAD"
		return a
	}
	if !h.clients.allow(q.remote) {
		a := text(http.StatusTooManyRequests, "too many requests\n")
		a.retry = "1"
		return a
	}
	switch {
	case q.path == "/pks/lookup":
		return h.hkp(ctx, q)
	case strings.HasPrefix(q.path, vksRoot):
		return h.vks(ctx, q.path)
	}
	domain, file, key, ok := h.target(q)
	switch {
	case !ok:
	case file == "policy" || file == "submission-address":
		if f, ok := h.directory.wellKnown(ctx)[file]; ok {
			if h.put && file == "policy" {
				f += keydir.PutPolicy + "\n"
			}
			a := text(http.StatusOK, f)
			a.cache = cacheable
			return a
		}
	default:
		if a, ok := h.certificate(ctx, q, domain, file, key, buf); ok {
			return a
		}
	}
	return absent()
}

// wellKnown is what a domain has beside certificates (Sections 4.1 and 4.5): the
// policy, an empty one of which says that the directory is there, and where a
// submission address has a key that is published, that address. No other keyword
// of the draft is true of us: names beside an address are taken (mailbox-only),
// whoever submits must confirm (auth-submit), DANE isn't needed (dane-only), and
// no client needs to treat us as an older protocol (protocol-version).
func (d *Directory) wellKnown(ctx context.Context) map[string]string {
	a := d.Submission
	if a.IsZero() || d.ready(ctx) != nil {
		return map[string]string{"policy": ""}
	}
	if k, ok := d.key(a.Domain, hashOfAddress(a)); !ok || !d.table.has(k) {
		return map[string]string{"policy": ""}
	}
	return map[string]string{"policy": "submission-address: " + a.String() + "\n", "submission-address": a.String() + "\n"}
}

// target gives the domain asked for, if it is ours, and "policy",
// "submission-address" or a hash, which is key.
func (h *Handler) target(q request) (domain, file string, key hash, ok bool) {
	path, ok := strings.CutPrefix(q.path, root)
	if !ok || len(path) > 300 {
		return "", "", key, false
	}
	if first, rest, _ := strings.Cut(path, "/"); first != "hu" && first != "policy" && first != "submission-address" {
		domain, path = first, rest
	} else {
		domain = hostname(q.host)
	}
	domain = strings.ToLower(domain)
	if !h.domains[domain] {
		return "", "", key, false
	}
	if path == "policy" || path == "submission-address" {
		return domain, path, key, true
	}
	if file, ok = strings.CutPrefix(path, "hu/"); ok {
		key, ok = hashOf(file)
	}
	return domain, file, key, ok
}

// hostname is Host without port and final dot.
func hostname(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return strings.TrimSuffix(host, ".")
}

// encoding is z-base-32, as keydir.WKDHash has it.
var encoding = base32.NewEncoding(zBase32).WithPadding(base32.NoPadding)

const zBase32 = "ybndrfg8ejkmcpqxot1uwisza345h769"

// hash is the SHA-1 of a local part, in binary.
type hash [20]byte

// hashOf reads exactly 32 characters of the alphabet.
func hashOf(s string) (h hash, ok bool) {
	if len(s) != 32 {
		return h, false
	}
	for i := range 4 { // eight characters are five bytes
		var v uint64
		for _, c := range []byte(s[8*i : 8*i+8]) {
			d := zBase32Value[c]
			if d == 0 {
				return hash{}, false
			}
			v = v<<5 | uint64(d-1)
		}
		h[5*i], h[5*i+1], h[5*i+2], h[5*i+3], h[5*i+4] = byte(v>>32), byte(v>>24), byte(v>>16), byte(v>>8), byte(v)
	}
	return h, true
}

// zBase32Value is one more than a character's value; 0 of every other byte.
var zBase32Value = func() (t [256]byte) {
	for i, c := range []byte(zBase32) {
		t[c] = byte(i + 1)
	}
	return t
}()

// certificate answers with the certificate, if there is one.
func (h *Handler) certificate(ctx context.Context, q request, domain, file string, key hash, buf []byte) (response, bool) {
	if !localFits(q.query, file) {
		return response{}, false
	}
	if err := h.directory.ready(ctx); err != nil {
		return h.unavailable(err), true
	}
	h.tellUnread()
	k, known := h.directory.key(domain, key)
	if !known {
		return response{}, false
	}
	body, tag, ok := h.directory.table.get(k, buf)
	if !ok {
		return response{}, false
	}
	a := response{status: http.StatusOK, contentType: "application/octet-stream", cache: cacheable, etag: etagOf(tag), body: body}
	if matches(q.ifNoneMatch, a.etag) {
		a.status, a.contentType, a.body = http.StatusNotModified, "", nil
	}
	return a, true
}

// tellUnread logs that rows can't be answered, once for each number of them.
func (h *Handler) tellUnread() {
	n, err := h.directory.unread()
	if h.told.Swap(int64(n)) != int64(n) && n > 0 {
		h.log.Error("keydir: some published certificates are not served", "first", err, "count", n)
	}
}

// etagOf is the entity tag (RFC 9110, Section 8.8.3).
func etagOf(tag [16]byte) string {
	var b [34]byte
	b[0], b[33] = '"', '"'
	hex.Encode(b[1:33], tag[:])
	return string(b[:])
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

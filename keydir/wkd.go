package keydir

import (
	"context"
	"crypto/sha1"
	"encoding/base32"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"letterlock.org/letterlock/internal/address"
)

// wkdEncoding is z-base-32.
var wkdEncoding = base32.NewEncoding("ybndrfg8ejkmcpqxot1uwisza345h769").WithPadding(base32.NoPadding)

// WKDHash is the name of an address's file in a Web Key Directory: z-base-32 of
// the SHA-1 of the local part, its ASCII letters in lower case
// (draft-koch-openpgp-webkey-service, Section 3.1).
func WKDHash(local string) string {
	sum := sha1.Sum([]byte(asciiLower(local)))
	return wkdEncoding.EncodeToString(sum[:])
}

// wkdClient asks Web Key Directories. It keeps nothing between look-ups.
type wkdClient struct {
	fetch     *fetcher // the public ones
	local     *fetcher // those of overrides, wherever they are
	overrides map[string]*url.URL
	proxied   bool
	resolver  *proxyResolver // nil without a proxy
}

func newWKDClient(n Network, proxy string, overrides map[string]*url.URL) (*wkdClient, error) {
	fetch, err := newFetcher(n, proxy)
	if err != nil {
		return nil, err
	}
	return &wkdClient{fetch: fetch, local: newLocalFetcher(n), overrides: overrides, proxied: proxy != "", resolver: newProxyResolver(proxy)}, nil
}

func (w *wkdClient) name() string { return sourceWKD }

func (w *wkdClient) speaksAs(address.Address) word { return ofDomain }

// lookup asks the directory of a's domain: the advanced method, and the direct
// one only if the advanced one's host does not resolve (Section 3.1: an existing
// openpgpkey host without the certificate settles it).
func (w *wkdClient) lookup(ctx context.Context, q question) (answer, []Attempt) {
	a := q.address
	if strings.HasPrefix(a.Domain, "[") || isIP(a.Domain) {
		ans := answer{outcome: NoDirectory, detail: "an address at an IP address has no key directory"}
		return ans, []Attempt{ans.attempt("wkd-advanced", 0)}
	}
	var attempts []Attempt
	ask := func(source string, f *fetcher, u *url.URL) answer {
		start := time.Now()
		ans := f.get(ctx, u).answer(a)
		attempts = append(attempts, ans.attempt(source, time.Since(start)))
		return ans
	}
	if base, ok := w.overrides[a.Domain]; ok {
		u := wkdURL(a, true)
		f := w.local
		if w.proxied && !loopback(base.Hostname()) {
			f = w.fetch
		}
		ans := ask("wkd-override", f, &url.URL{Scheme: base.Scheme, Host: base.Host, Path: base.Path + u.Path, RawQuery: u.RawQuery})
		ans.directory = true // says the configuration
		return ans, attempts
	}
	ans := ask("wkd-advanced", w.fetch, wkdURL(a, true))
	switch {
	case ans.outcome == Absent && ans.unresolved:
	case w.proxied && ans.outcome == Unavailable && ans.unresolved:
		// The proxy could not connect, perhaps because the name doesn't exist. A
		// certificate of the direct method is the domain's word all the same;
		// anything less leaves open what the advanced method would have said,
		// unless the proxy (Tor) tells that the host has no address. That isn't
		// quite that the name does not exist, so it is no directory, not absent.
		direct := ask("wkd-direct", w.fetch, wkdURL(a, false))
		switch {
		case direct.outcome == Found:
			return direct, attempts
		case direct.outcome == Unavailable:
		case w.resolver.lacks(ctx, a.Domain):
			direct.outcome, direct.detail = NoDirectory, direct.detail+", and the proxy finds no address of openpgpkey."+a.Domain
			return direct, attempts
		}
		return ans, attempts
	default:
		// A host of that name that answers like a directory is one.
		ans.directory = ans.directory || ans.outcome == Absent
		return ans, attempts
	}
	return ask("wkd-direct", w.fetch, wkdURL(a, false)), attempts
}

// wkdURL is where a's certificate is (Section 3.1). The host has no final dot,
// since it is what the server's certificate must name.
func wkdURL(a address.Address, advanced bool) *url.URL {
	u := &url.URL{Scheme: "https", Host: a.Domain, Path: "/.well-known/openpgpkey/hu/" + WKDHash(a.Local),
		RawQuery: "l=" + strings.ReplaceAll(url.QueryEscape(a.Local), "+", "%20")}
	if advanced {
		u.Host, u.Path = "openpgpkey."+a.Domain, "/.well-known/openpgpkey/"+a.Domain+"/hu/"+WKDHash(a.Local)
	}
	return u
}

func isIP(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}

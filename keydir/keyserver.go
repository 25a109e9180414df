package keydir

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/pgp"
)

// Limits of what a key server may answer: more than a directory, since what
// anybody uploaded for an address comes in one answer.
const (
	maxServerBody         = 256 << 10
	maxServerCertificates = 16
	maxKnown              = 4 // fingerprints asked for in one look-up
)

// keyServer asks a server of certificates that is no domain's own: by VKS (the
// interface of keys.openpgp.org, which verifies addresses) or by HKP
// (draft-gallagher-openpgp-hkp), where anybody uploads. It keeps nothing between
// look-ups.
type keyServer struct {
	kind    string // sourceVKS or sourceHKP
	base    *url.URL
	fetch   *fetcher
	timeout time.Duration
}

// newKeyServers makes the sources of one kind.
func newKeyServers(kind string, servers []string, n Network, proxy string, timeout time.Duration) (all []source, err error) {
	if len(servers) > 8 {
		return nil, fmt.Errorf("discovery.%s: at most 8 servers", kind)
	}
	for _, server := range servers {
		u, err := keyServerURL(kind, server)
		if err != nil {
			return nil, err
		}
		f, err := newFetcher(n, proxy)
		if err != nil {
			return nil, err
		}
		if isIP(u.Hostname()) && (proxy == "" || loopback(u.Hostname())) {
			f = newLocalFetcher(n) // named by number: it may be our own network's
		}
		f.who, f.limit = u.Hostname(), maxServerBody
		all = append(all, &keyServer{kind, u, f, timeout})
	}
	return all, nil
}

// keyServerURL reads what discovery.vks and discovery.hkp say. Only hkp:// and
// loopback go without TLS, by the word of whoever wrote it.
func keyServerURL(kind, server string) (*url.URL, error) {
	u, err := url.Parse(server)
	if err != nil || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("discovery.%s: what stands there is no server; write https://keys.example.org", kind)
	}
	u.Path = strings.TrimSuffix(u.Path, "/")
	switch {
	case u.Scheme == "https", u.Scheme == "http" && loopback(u.Hostname()):
	case u.Scheme == "hkps" && kind == sourceHKP:
		u.Scheme = "https"
	case u.Scheme == "hkp" && kind == sourceHKP:
		u.Scheme = "http"
		if u.Port() == "" {
			u.Host = net.JoinHostPort(u.Hostname(), "11371")
		}
	default:
		return nil, fmt.Errorf("discovery.%s: %s; write https://…, or http://… to a loopback address such as 127.0.0.1", kind, u.Redacted())
	}
	return u, nil
}

func (k *keyServer) name() string { return k.kind }

func (k *keyServer) speaksAs(address.Address) word {
	if k.kind == sourceVKS {
		return ofVerifier
	}
	return ofAnybody
}

// lookup asks for what is known by fingerprint, and for the address where that
// is wanted.
func (k *keyServer) lookup(ctx context.Context, q question) (answer, []Attempt) {
	ctx, cancel := context.WithTimeout(ctx, k.timeout)
	defer cancel()
	var out answer
	var attempts []Attempt
	for _, f := range q.known[:min(len(q.known), maxKnown)] {
		start := time.Now()
		ans := k.byFingerprint(ctx, f)
		out.others = append(out.others, ans.others...)
		attempts = append(attempts, ans.attempt(k.kind, time.Since(start)))
	}
	if !q.search {
		return out, attempts
	}
	start := time.Now()
	ans := k.byAddress(ctx, q.address)
	attempts = append(attempts, ans.attempt(k.kind, time.Since(start)))
	ans.others = append(ans.others, out.others...)
	return ans, attempts
}

// byAddress asks for the certificates that name an address.
func (k *keyServer) byAddress(ctx context.Context, a address.Address) answer {
	u := k.url("/vks/v1/by-email/"+url.PathEscape(a.String()), a.String())
	got := k.fetch.get(ctx, u)
	if got.outcome == NoDirectory { // says the configuration: it is one
		got.outcome = Unavailable
	}
	if got.outcome != "" {
		return answer{outcome: got.outcome, detail: got.detail}
	}
	ans := answerOf(got.body, a, k.fetch.who, maxServerCertificates)
	if ans.outcome != Found && len(ans.others) > 0 {
		return answer{outcome: Absent, detail: ans.detail}
	}
	ans.detail = fmt.Sprintf("%s has %s", k.fetch.who, ans.detail)
	return ans
}

// byFingerprint asks for a newer state of one certificate; others of the answer
// are dropped.
func (k *keyServer) byFingerprint(ctx context.Context, f pgp.Fingerprint) answer {
	got := k.fetch.get(ctx, k.url("/vks/v1/by-fingerprint/"+string(f), "0x"+string(f)))
	if got.outcome != "" {
		return answer{outcome: got.outcome, detail: got.detail + " by fingerprint"}
	}
	ans := answerOf(got.body, address.Address{}, k.fetch.who, maxServerCertificates)
	ans.others = slices.DeleteFunc(ans.others, func(c *pgp.Certificate) bool { return c.Fingerprint() != f })
	if len(ans.others) == 0 {
		return answer{outcome: Unavailable, detail: k.fetch.who + " did not answer with the certificate that was asked for"}
	}
	return answer{outcome: Found, others: ans.others, detail: k.fetch.who + " has the certificate that is known"}
}

// url is what to get: a path of VKS, or an HKP search, of which only the exact
// matches are wanted.
func (k *keyServer) url(vks, hkp string) *url.URL {
	u := *k.base
	if k.kind == sourceVKS {
		u.RawPath = u.Path + vks
		u.Path, _ = url.PathUnescape(u.RawPath)
		return &u
	}
	u.Path += "/pks/lookup"
	u.RawQuery = url.Values{"op": {"get"}, "options": {"mr"}, "exact": {"on"}, "search": {hkp}}.Encode()
	return &u
}

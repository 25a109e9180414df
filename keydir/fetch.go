package keydir

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"syscall"
	"time"
)

// Limits of one look-up.
const (
	maxBody      = 64 << 10
	maxHeader    = 16 << 10
	maxRedirects = 3 // on the same host
	userAgent    = "letterlock"
)

// fetched is what one request gave. Exactly one of body and outcome is set.
type fetched struct {
	body       []byte
	outcome    Outcome
	unresolved bool // the name doesn't exist; over a proxy, perhaps
	detail     string
}

// fetcher makes the requests: no cookies, no compression, no connection that
// outlives its request, nothing in it that tells who asks.
type fetcher struct {
	client *http.Client
	who    string // whom an answer is of, in words for a person
	limit  int64  // bytes of an answer
}

func newFetcher(n Network, proxy string) (*fetcher, error) {
	dial := publicDialer(n)
	if proxy != "" {
		var err error
		if dial, err = proxyDialer(proxy); err != nil {
			return nil, err
		}
	}
	return fetcherOver(dial, n.Roots), nil
}

// newLocalFetcher is for overrides: the operator named the host.
func newLocalFetcher(n Network) *fetcher {
	return fetcherOver((&net.Dialer{Timeout: 5 * time.Second}).DialContext, n.Roots)
}

func fetcherOver(dial dialFunc, roots *x509.CertPool) *fetcher {
	return &fetcher{who: "its directory", limit: maxBody, client: &http.Client{
		Transport: &http.Transport{
			DialContext:            dial,
			TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			TLSNextProto:           map[string]func(string, *tls.Conn) http.RoundTripper{}, // HTTP/1.1 only
			DisableCompression:     true,
			DisableKeepAlives:      true,
			MaxResponseHeaderBytes: maxHeader,
		},
		CheckRedirect: stayHere,
	}}
}

var (
	errRedirectsAway = errors.New("it redirects to another host")
	errRedirects     = errors.New("it redirects in circles")
)

// stayHere follows redirects on the same host only.
func stayHere(req *http.Request, via []*http.Request) error {
	switch first := via[0].URL; {
	case req.URL.Scheme != first.Scheme || req.URL.Host != first.Host:
		return errRedirectsAway
	case len(via) > maxRedirects:
		return errRedirects
	}
	req.Header.Del("Referer")
	return nil
}

// get asks for u and says what came of it, in the words of invariant 1.
func (f *fetcher) get(ctx context.Context, u *url.URL) fetched {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return fetched{outcome: Unavailable, detail: "the request could not be made"}
	}
	req.Header.Set("User-Agent", userAgent)
	resp, err := f.client.Do(req)
	if err != nil {
		return refusal(u.Hostname(), err)
	}
	defer resp.Body.Close()
	return f.read(resp)
}

// read takes a response. Absent is 404 and 410 only. Other answers of the 4xx
// class, and a web page where a certificate belongs, come from a host that is no
// directory; those that say "not now", and everything else, from one that can't
// be asked.
func (f *fetcher) read(resp *http.Response) fetched {
	switch code := resp.StatusCode; {
	case code == http.StatusOK:
	case code == http.StatusNotFound, code == http.StatusGone:
		return fetched{outcome: Absent, detail: fmt.Sprintf("%s answered %d", f.who, code)}
	case code == http.StatusRequestTimeout, code == http.StatusMisdirectedRequest, code == http.StatusTooEarly, code == http.StatusTooManyRequests:
		return fetched{outcome: Unavailable, detail: fmt.Sprintf("%s answered %d", f.who, code)}
	case code >= 400 && code < 500:
		return fetched{outcome: NoDirectory, detail: fmt.Sprintf("its web server answered %d", code)}
	default:
		return fetched{outcome: Unavailable, detail: fmt.Sprintf("%s answered %d", f.who, code)}
	}
	if e := resp.Header.Get("Content-Encoding"); e != "" && e != "identity" {
		return fetched{outcome: Unavailable, detail: f.who + " answered compressed, which was not asked for"}
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, f.limit+1))
	switch {
	case isPage(resp.Header.Get("Content-Type"), body):
		return fetched{outcome: NoDirectory, detail: "its web server answered with a web page"}
	case err != nil:
		return fetched{outcome: Unavailable, detail: "the answer of " + f.who + " broke off"}
	case int64(len(body)) > f.limit:
		return fetched{outcome: Unavailable, detail: fmt.Sprintf("the answer of %s is longer than %d KiB", f.who, f.limit>>10)}
	case len(body) == 0:
		return fetched{outcome: Unavailable, detail: "the answer of " + f.who + " is empty"}
	}
	return fetched{body: body}
}

// isPage tells a web page, which many hosts give for any path with status 200.
func isPage(contentType string, body []byte) bool {
	if bytes.HasPrefix(bytes.TrimLeft(body, "\ufeff \t\r\n"), []byte("<")) {
		return true
	}
	t, _, _ := mime.ParseMediaType(contentType)
	return t == "text/html" && !bytes.Contains(body, []byte("-----BEGIN PGP PUBLIC KEY BLOCK-----")) && (len(body) == 0 || body[0]&0x80 == 0)
}

// refusal sorts the ways in which a request fails. What isn't known is
// unavailable. Refused, wrong name and redirected may be forged by whoever
// controls the network; they count for nothing more than the domain's never
// having been seen with a directory, see Resolver.
func refusal(host string, err error) fetched {
	var dns *net.DNSError
	var remote *net.OpError
	var invalid *tls.CertificateVerificationError
	switch {
	case errors.Is(err, errProxy):
		return fetched{outcome: Unavailable, unresolved: true, detail: "the proxy could not connect to " + host}
	case errors.As(err, &dns):
		if dns.IsNotFound && !dns.IsTemporary && !dns.IsTimeout {
			return fetched{outcome: Absent, unresolved: true, detail: "DNS has no address of " + host}
		}
		return fetched{outcome: Unavailable, detail: host + " could not be resolved"}
	case errors.Is(err, errNotPublic):
		return fetched{outcome: Unavailable, detail: host + " resolves to an address that is not public; discovery.wkd_override allows it"}
	case errors.Is(err, syscall.ECONNREFUSED):
		return fetched{outcome: NoDirectory, detail: host + " refuses the connection"}
	case errors.Is(err, errRedirectsAway):
		return fetched{outcome: NoDirectory, detail: host + " redirects to another host"}
	case errors.Is(err, errRedirects):
		return fetched{outcome: Unavailable, detail: host + " redirects in circles"}
	case errors.As(err, &invalid) && wrongName(host, invalid):
		return fetched{outcome: NoDirectory, detail: "the TLS certificate of " + host + " is for another name"}
	case errors.As(err, &remote) && remote.Op == "remote error" && remote.Err.Error() == alertUnrecognizedName.Error():
		return fetched{outcome: NoDirectory, detail: host + " has no TLS certificate of its own"}
	case errors.As(err, &invalid):
		return fetched{outcome: Unavailable, detail: "the TLS certificate of " + host + " can't be verified"}
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled), isTimeout(err):
		return fetched{outcome: Unavailable, detail: host + " did not answer in time"}
	}
	return fetched{outcome: Unavailable, detail: "the connection to " + host + " failed"}
}

// alertUnrecognizedName is what a server sends that doesn't know the name that
// it was asked for (RFC 6066, Section 3). crypto/tls tells it by its text only.
const alertUnrecognizedName = tls.AlertError(112)

// wrongName tells whether the server's certificate is for other names, whatever
// else is wrong with it.
func wrongName(host string, err *tls.CertificateVerificationError) bool {
	if errors.As(err.Err, new(x509.HostnameError)) {
		return true
	}
	return len(err.UnverifiedCertificates) > 0 && err.UnverifiedCertificates[0].VerifyHostname(host) != nil
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

// Package mailservers finds the servers where the mail of an address is fetched
// and submitted, so that nobody has to look them up.
//
// Three sources are asked, all at once, and only where they belong to the address's
// own domain; no directory of a third party learns whose mail somebody sets up, and
// nobody learns the local part:
//
//   - what the domain publishes over HTTPS in Mozilla's form, as
//     draft-ietf-mailmaint-autoconfig has it;
//   - its SRV records (RFC 6186, RFC 8314);
//   - the usual names, such as imap.DOMAIN, where a server answers there.
//
// Only servers with TLS are found. A password goes there later, to whoever has a
// certificate for the name that was found; so [Found.Sure] says whether the name is
// more than the word of a DNS answer that anybody on the way may have forged.
package mailservers

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/endpoint"
)

// ErrNone means that nothing was found. The error that wraps it says what each
// source answered, in a line for each.
var ErrNone = errors.New("no mail servers found")

// Found is where an address's mail is.
type Found struct {
	IMAP, SMTP endpoint.Upstream
	User       string // login; the address itself where nobody says otherwise
	Source     string // who says so, in words for a person
	// Sure says that the domain itself vouches for both names: it publishes them
	// under its own TLS certificate, or they lie within it, so that their own
	// certificates do. Otherwise only DNS says so, and a person should be asked
	// (RFC 6186, Section 6).
	Sure bool
}

// Finder asks. It is safe for concurrent use.
type Finder struct {
	// Client makes the HTTPS requests.
	Client *http.Client
	// SRV looks up _SERVICE._tcp.DOMAIN, sorted by priority, as net.Resolver does.
	SRV func(ctx context.Context, service, domain string) ([]*net.SRV, error)
	// Answers tells why no mail server can be used there: nil where one greets, behind a
	// TLS certificate for its name.
	Answers func(ctx context.Context, up endpoint.Upstream) error
}

// Who waits for a search is a person.
const (
	timeout  = 15 * time.Second // for all of it
	patience = 6 * time.Second  // for one server
)

// New makes a finder over the network. proxy is that of [discovery], "" for none:
// what is asked over HTTPS goes through it. Names are resolved, and servers looked
// for, as they will be when mail is fetched from them.
func New(proxy string) (*Finder, error) {
	transport := &http.Transport{DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: maxAnswer}
	if proxy != "" {
		u, err := url.Parse(proxy)
		if err != nil {
			return nil, fmt.Errorf("discovery.proxy: %w", err)
		}
		transport.Proxy = http.ProxyURL(u)
	}
	resolver := &net.Resolver{PreferGo: true}
	return &Finder{
		Client: &http.Client{Transport: transport, CheckRedirect: onlyHTTPS, Timeout: patience},
		SRV: func(ctx context.Context, service, domain string) ([]*net.SRV, error) {
			_, all, err := resolver.LookupSRV(ctx, service, "tcp", domain+".")
			return all, err
		},
		Answers: greets,
	}, nil
}

// Find asks all sources and gives the best answer: what the domain publishes, then
// its SRV records, then the usual names. After ErrNone a person has to say.
func (f *Finder) Find(ctx context.Context, a address.Address) (Found, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if strings.HasPrefix(a.Domain, "[") {
		return Found{}, fmt.Errorf("%w: %s is a machine, not a domain", ErrNone, a.Domain)
	}
	found, errs := first([]func() (Found, error){
		func() (Found, error) { return f.published(ctx, a) },
		func() (Found, error) { return f.records(ctx, a) },
		func() (Found, error) { return f.usual(ctx, a) },
	})
	if errs == nil {
		return found, nil
	}
	why := make([]string, len(errs))
	for i, err := range errs {
		why[i] = err.Error()
	}
	return Found{}, fmt.Errorf("%w for %s:\n  %s", ErrNone, a.Domain, strings.Join(why, "\n  "))
}

// first calls all at once and gives the result of the first in their order that
// does not fail, without waiting for those after it; else what each said.
func first[T any](all []func() (T, error)) (result T, errs []error) {
	type answer struct {
		result T
		err    error
	}
	answers := make([]chan answer, len(all))
	for i, ask := range all {
		answers[i] = make(chan answer, 1)
		go func() {
			r, err := ask()
			answers[i] <- answer{r, err}
		}()
	}
	for _, c := range answers {
		a := <-c
		if a.err == nil {
			return a.result, nil
		}
		errs = append(errs, a.err)
	}
	return result, errs
}

// within tells whether a host is the domain or lies below it.
func within(host, domain string) bool {
	host = strings.ToLower(host)
	return host == domain || strings.HasSuffix(host, "."+domain)
}

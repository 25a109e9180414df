package keydir

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/pgp"
)

// Inlets is how a certificate gets into the directory of an address's domain.
type Inlets struct {
	// Put tells that it takes authenticated PUT.
	Put bool
	// Submission is the address of its Web Key Service, zero for none, and Service
	// that address's certificate.
	Submission address.Address
	Service    *pgp.Certificate
	// MailboxOnly: it takes no user ID with more than an address. AuthSubmit: it asks
	// nobody to confirm a mail that comes from an account of its own (Section 4.5).
	MailboxOnly, AuthSubmit bool
	// Published is what it answers for the address today.
	Published []*pgp.Certificate

	base *url.URL // above hu/ and policy
	from *fetcher
}

// Errors of publishing.
var (
	// ErrNoInlet: the domain has no directory, or one that takes nothing.
	ErrNoInlet = errors.New("the domain has no key directory that takes certificates from people")
	// ErrMailboxOnly: the directory takes user IDs that are an address.
	ErrMailboxOnly = errors.New("the directory takes only a user ID that is the address and nothing else")
	// ErrRefusedPut: the directory wants another proof.
	ErrRefusedPut = errors.New("the directory did not accept the proof")
)

// Inlets asks the directory of a's domain, advanced or direct, how a certificate
// gets into it. [ErrNoInlet] is final; other errors may pass.
func (r *Resolver) Inlets(ctx context.Context, a address.Address) (Inlets, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*r.timeout)
	defer cancel()
	w := r.asked().probe
	in := Inlets{}
	var policy string
	var err error
	for _, place := range w.places(a.Domain) {
		in.base, in.from = place.base, place.from
		var missing bool
		if policy, missing, err = in.file(ctx, "policy"); err == nil || !missing {
			break
		}
	}
	if err != nil {
		return in, fmt.Errorf("asking the key directory of %s: %w", a.Domain, err)
	}
	in.readPolicy(policy)
	if in.Published, err = in.certificates(ctx, a); err != nil {
		return in, fmt.Errorf("asking the key directory of %s: %w", a.Domain, err)
	}
	if text, _, err := in.file(ctx, "submission-address"); err == nil {
		if in.Submission, err = address.Parse(strings.TrimSpace(text)); err != nil {
			in.Submission = address.Address{}
		}
	}
	if !in.Submission.IsZero() {
		certs, err := r.service(ctx, in)
		if err != nil {
			return in, err
		}
		for _, c := range certs {
			if c.Has(in.Submission) && c.CheckEncrypt(r.now()) == nil {
				in.Service = c
			}
		}
		if in.Service == nil {
			in.Submission = address.Address{}
		}
	}
	if !in.Put && in.Submission.IsZero() {
		return in, ErrNoInlet
	}
	return in, nil
}

// readPolicy reads a policy's keywords, each on a line of its own.
func (in *Inlets) readPolicy(policy string) {
	for line := range strings.Lines(policy) {
		line = strings.TrimSpace(line)
		word, _, _ := strings.Cut(line, ":")
		switch strings.ToLower(strings.TrimSpace(word)) {
		case "mailbox-only":
			in.MailboxOnly = true
		case "auth-submit":
			in.AuthSubmit = true
		}
		if line == PutPolicy {
			in.Put = true
		}
	}
}

// TakesMail is ErrMailboxOnly where a Web Key Service would not take c, as it is
// published for one address, because of its user ID.
func (in Inlets) TakesMail(c *pgp.Certificate) error {
	for _, id := range c.UserIDs() {
		if _, err := address.Parse(id); err != nil && in.MailboxOnly {
			return fmt.Errorf("%w, and this key has %q: add such a user ID with your OpenPGP program, and import the key again", ErrMailboxOnly, id)
		}
	}
	return nil
}

// service is the certificate of the submission address, which may be of another
// domain.
func (r *Resolver) service(ctx context.Context, in Inlets) ([]*pgp.Certificate, error) {
	last := errors.New("nowhere to ask")
	for _, place := range r.asked().probe.places(in.Submission.Domain) {
		at := Inlets{base: place.base, from: place.from}
		certs, err := at.certificates(ctx, in.Submission)
		if err == nil && len(certs) > 0 {
			return certs, nil
		}
		last = err
	}
	if last != nil {
		return nil, fmt.Errorf("asking for the certificate of %s: %w", in.Submission, last)
	}
	return nil, nil
}

// place is a directory and what fetches from it.
type place struct {
	base *url.URL
	from *fetcher
}

// places are where the directory of a domain may be, in order.
func (w *wkdClient) places(domain string) []place {
	const root = "/.well-known/openpgpkey/"
	if o, ok := w.overrides[domain]; ok {
		f := w.local
		if w.proxied && !loopback(o.Hostname()) {
			f = w.fetch
		}
		return []place{{&url.URL{Scheme: o.Scheme, Host: o.Host, Path: o.Path + root + domain + "/"}, f}}
	}
	return []place{
		{&url.URL{Scheme: "https", Host: "openpgpkey." + domain, Path: root + domain + "/"}, w.fetch},
		{&url.URL{Scheme: "https", Host: domain, Path: root}, w.fetch},
	}
}

// file reads a small text; missing tells that the directory isn't there, and
// another place may be asked.
func (in Inlets) file(ctx context.Context, name string) (text string, missing bool, err error) {
	b, status, err := in.do(ctx, http.MethodGet, in.base.JoinPath(name), nil, nil)
	if err != nil {
		f := refusal(in.base.Hostname(), err)
		return "", f.unresolved, errors.New(f.detail)
	}
	switch {
	case status >= 500 || status == http.StatusTooManyRequests:
		return "", false, fmt.Errorf("%s answered %d", in.base.Hostname(), status)
	case status != http.StatusOK || isPage("", b) && len(bytes.TrimSpace(b)) > 0:
		return "", false, fmt.Errorf("%s has no %s: %w", in.base.Hostname(), name, ErrNoInlet)
	}
	return string(b), false, nil
}

func (in Inlets) certificates(ctx context.Context, a address.Address) ([]*pgp.Certificate, error) {
	u := in.base.JoinPath("hu", WKDHash(a.Local))
	u.RawQuery = "l=" + strings.ReplaceAll(url.QueryEscape(a.Local), "+", "%20")
	b, status, err := in.do(ctx, http.MethodGet, u, nil, nil)
	switch {
	case err != nil:
		return nil, errors.New(refusal(in.base.Hostname(), err).detail)
	case status == http.StatusNotFound || status == http.StatusGone:
		return nil, nil
	case status != http.StatusOK:
		return nil, fmt.Errorf("%s answered %d", in.base.Hostname(), status)
	}
	certs, err := pgp.ParseCertificates(b)
	if len(certs) > 0 {
		return certs, nil
	}
	return nil, err
}

// do makes one request as look-ups do, its answer bounded.
func (in Inlets) do(ctx context.Context, method string, u *url.URL, h http.Header, body []byte) ([]byte, int, error) {
	req, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, 0, err
	}
	for name, v := range h {
		req.Header[name] = v
	}
	req.Header.Set("User-Agent", userAgent)
	resp, err := in.from.client.Do(req)
	if err != nil {
		return nil, 0, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	return b, resp.StatusCode, err
}

// PutCertificate puts c for a; prove makes the proofs over a request.
// [ErrRefusedPut] says that they did not do.
func (in Inlets) PutCertificate(ctx context.Context, a address.Address, c *pgp.Certificate, now time.Time, prove func(canonical []byte) (Proofs, error)) error {
	var nonce [20]byte
	rand.Read(nonce[:]) // crypto/rand never fails
	p := PutRequest{Host: in.base.Host, Address: a, Date: now, Nonce: wkdEncoding.EncodeToString(nonce[:]), Body: c.Bytes()}
	by, err := prove(p.Canonical())
	if err != nil {
		return err
	}
	u := &url.URL{Scheme: in.base.Scheme, Host: in.base.Host, Path: PutRoot + a.String()}
	b, status, err := in.do(ctx, http.MethodPut, u, p.fields(by), p.Body)
	switch {
	case err != nil:
		return fmt.Errorf("publishing at %s: %s", u.Hostname(), refusal(u.Hostname(), err).detail)
	case status == http.StatusForbidden:
		return ErrRefusedPut
	case status/100 != 2:
		return fmt.Errorf("publishing at %s: it answered %d %q", u.Hostname(), status, b[:min(len(b), 200)])
	}
	return nil
}

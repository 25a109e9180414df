package keydir

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/pgp"
)

// Severity is how bad what a Check found is.
type Severity string

const (
	Well    Severity = "ok"
	Note    Severity = "note"    // worth knowing, nothing to mend
	Warning Severity = "warning" // some programs or some day will fail
	Fault   Severity = "fault"   // certificates are not found
)

// Check is one thing that was looked at.
type Check struct {
	Name     string   `json:"name"` // such as "advanced: policy file"
	Severity Severity `json:"severity"`
	Text     string   `json:"text"`           // what was found
	Mend     string   `json:"mend,omitempty"` // what to do
}

// expiresSoon is when an expiry is worth telling.
const expiresSoon = 30 * 24 * time.Hour

// Examine looks at the Web Key Directory of a domain from outside, as the
// programs of people who write to it do, and at the certificate of an address if
// a has a local part. It asks both methods, the one that programs would skip too.
// Overrides of the configuration count, so that a directory can be looked at
// before it is public.
func (r *Resolver) Examine(ctx context.Context, a address.Address) []Check {
	e := &examination{ctx: ctx, w: r.asked().probe, now: r.now(), a: a, network: r.network}
	if base, ok := e.w.overrides[a.Domain]; ok {
		e.add(Note, "method", "discovery.wkd_override of this configuration sends the look-ups of "+a.Domain+" to "+base.Redacted(), "")
		f := e.w.local
		if e.w.proxied && !loopback(base.Hostname()) {
			f = e.w.fetch
		}
		e.method("override", f, base)
		return e.checks
	}
	advanced := e.resolves("openpgpkey." + a.Domain)
	if advanced {
		e.method("advanced", e.w.fetch, &url.URL{Scheme: "https", Host: "openpgpkey." + a.Domain})
		e.add(Note, "direct: not asked", "openpgpkey."+a.Domain+" exists, so no program asks "+a.Domain+" itself", "")
		return e.checks
	}
	if e.resolves(a.Domain) {
		e.method("direct", e.w.fetch, &url.URL{Scheme: "https", Host: a.Domain})
	}
	return e.checks
}

// examination is one run of Examine.
type examination struct {
	ctx     context.Context
	w       *wkdClient
	network Network
	now     time.Time
	a       address.Address
	checks  []Check
}

func (e *examination) add(s Severity, name, text, mend string) {
	e.checks = append(e.checks, Check{name, s, text, mend})
}

// resolves tells whether a host has addresses, which are public.
func (e *examination) resolves(host string) bool {
	if e.w.proxied {
		return true // the proxy resolves
	}
	ips, err := lookupOf(e.network)(e.ctx, host+".")
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns) && dns.IsNotFound && strings.HasPrefix(host, "openpgpkey."):
		e.add(Note, "DNS", host+" does not exist; programs ask "+e.a.Domain+" itself (the direct method)",
			"For the advanced method, which needs no web server at "+e.a.Domain+": a CNAME or address of "+host+" to the directory.")
		return false
	case errors.As(err, &dns) && dns.IsNotFound:
		e.add(Fault, "DNS", host+" has no address either: the domain has no directory", "Give openpgpkey."+e.a.Domain+" a CNAME or address to the directory.")
		return false
	case err != nil:
		e.add(Fault, "DNS", host+" could not be resolved: programs take the directory for unavailable", "Look at the domain's name servers.")
		return false
	}
	for _, ip := range ips {
		if checkPublic(ip) != nil {
			e.add(Fault, "DNS", fmt.Sprintf("%s has the address %s, which is not public", host, ip), "Publish public addresses only.")
			return true
		}
	}
	e.add(Well, "DNS", fmt.Sprintf("%s has %d address(es)", host, len(ips)), "")
	return true
}

// probed is one answer, whole.
type probed struct {
	fetched
	status int
	header http.Header
}

// ask makes one request.
func (e *examination) ask(f *fetcher, method string, u *url.URL) probed {
	req, err := http.NewRequestWithContext(e.ctx, method, u.String(), nil)
	if err != nil {
		return probed{fetched: fetched{outcome: Unavailable, detail: "the request could not be made"}}
	}
	req.Header.Set("User-Agent", userAgent)
	req.Header.Set("Origin", "https://letterlock.invalid")
	resp, err := f.client.Do(req)
	if err != nil {
		return probed{fetched: refusal(u.Hostname(), err)}
	}
	defer resp.Body.Close()
	p := probed{status: resp.StatusCode, header: resp.Header}
	if p.body, err = io.ReadAll(io.LimitReader(resp.Body, maxBody+1)); err != nil {
		p.outcome, p.detail = Unavailable, "the answer broke off"
	}
	return p
}

// method looks at one of the two methods, at base.
func (e *examination) method(name string, f *fetcher, base *url.URL) {
	at := func(path, query string) *url.URL {
		top := root
		if name != "direct" {
			top += e.a.Domain + "/"
		}
		return &url.URL{Scheme: base.Scheme, Host: base.Host, Path: base.Path + top + path, RawQuery: query}
	}
	policy := e.ask(f, http.MethodGet, at("policy", ""))
	if policy.outcome != "" {
		e.add(Fault, name+": connection", policy.detail, mendConnection(base.Hostname(), policy.detail))
		return
	}
	if base.Scheme == "https" {
		e.add(Well, name+": connection", "TLS with a certificate that is valid for "+base.Hostname(), "")
	}
	e.policy(name, policy)
	e.submission(name, e.ask(f, http.MethodGet, at("submission-address", "")))
	e.nobody(name, e.ask(f, http.MethodGet, at("hu/"+WKDHash(nobody), "l="+nobody)))
	if e.a.Local == "" {
		return
	}
	file, query := "hu/"+WKDHash(e.a.Local), wkdURL(e.a, true).RawQuery
	got := e.ask(f, http.MethodGet, at(file, query))
	if !e.found(name, got) {
		return
	}
	e.headers(name, got)
	if bare := e.ask(f, http.MethodGet, at(file, "")); !bytes.Equal(bare.body, got.body) || bare.status != got.status {
		e.add(Warning, name+": without l=", "the answer is another one without the l parameter, which some programs leave out", "Answer by the hash alone.")
	}
	if head := e.ask(f, http.MethodHead, at(file, query)); head.status != http.StatusOK {
		e.add(Warning, name+": HEAD", fmt.Sprintf("HEAD is answered %d", head.status), "Answer HEAD as GET.")
	}
	e.certificate(name, got.body)
}

const (
	root = "/.well-known/openpgpkey/"
	// nobody is a local part that no mailbox has.
	nobody = "letterlock-doctor-asks-for-nobody"
)

func mendConnection(host, detail string) string {
	switch {
	case strings.Contains(detail, "for another name"), strings.Contains(detail, "can't be verified"), strings.Contains(detail, "of its own"):
		return "Give the web server of " + host + " a TLS certificate for that name by a public authority."
	case strings.Contains(detail, "redirects"):
		return "Answer " + root + " at " + host + " itself."
	}
	return "See that " + host + " answers https from outside."
}

func (e *examination) policy(name string, p probed) {
	switch {
	case p.status != http.StatusOK:
		e.add(Warning, name+": policy file", fmt.Sprintf("answered %d; GnuPG takes it as the sign that there is a directory", p.status), "Put an empty file policy beside hu/.")
	case isPage(p.header.Get("Content-Type"), p.body):
		e.add(Warning, name+": policy file", "is a web page", "Put an empty file policy beside hu/, and have it answered as it is.")
	default:
		e.add(Well, name+": policy file", fmt.Sprintf("%d bytes", len(p.body)), "")
	}
}

func (e *examination) submission(name string, p probed) {
	line := strings.TrimSpace(string(p.body))
	a, err := address.Parse(line)
	switch {
	case p.status != http.StatusOK || isPage(p.header.Get("Content-Type"), p.body):
		e.add(Note, name+": submission address", "none: certificates are not taken by mail", "")
	case err != nil:
		e.add(Warning, name+": submission address", "the file is no mail address", "Write one address on one line.")
	default:
		e.add(Well, name+": submission address", a.String(), "")
	}
}

func (e *examination) nobody(name string, p probed) {
	switch {
	case p.outcome != "":
		e.add(Fault, name+": absent address", p.detail, "")
	case p.status == http.StatusNotFound || p.status == http.StatusGone:
		e.add(Well, name+": absent address", fmt.Sprintf("answered %d", p.status), "")
	case p.status == http.StatusOK:
		e.add(Fault, name+": absent address", "answered 200, as if anybody had a certificate", "Answer 404 where there is no certificate.")
	default:
		e.add(Warning, name+": absent address", fmt.Sprintf("answered %d, which is not an answer about certificates", p.status), "Answer 404 where there is no certificate.")
	}
}

// found tells whether there is a body that could be a certificate.
func (e *examination) found(name string, p probed) bool {
	switch {
	case p.outcome != "":
		e.add(Fault, name+": certificate", p.detail, "")
	case p.status == http.StatusNotFound, p.status == http.StatusGone:
		e.add(Fault, name+": certificate", fmt.Sprintf("%s has none (%d)", e.a, p.status), fmt.Sprintf("Publish one: letterlock keydir add %s FILE.", e.a))
	case p.status != http.StatusOK:
		e.add(Fault, name+": certificate", fmt.Sprintf("answered %d", p.status), "")
	case isPage(p.header.Get("Content-Type"), p.body):
		e.add(Fault, name+": certificate", "is a web page", "Exclude "+root+" from the rules that answer every path with a page.")
	case len(p.body) > maxBody:
		e.add(Fault, name+": certificate", fmt.Sprintf("is longer than %d KiB; programs stop reading", maxBody>>10), "Publish only the user ID of the address, without foreign signatures.")
	default:
		return true
	}
	return false
}

func (e *examination) headers(name string, p probed) {
	if t, _, _ := mime.ParseMediaType(p.header.Get("Content-Type")); t != "application/octet-stream" {
		e.add(Warning, name+": content type", fmt.Sprintf("is %q", t), "Give files in hu/ the type application/octet-stream.")
	} else {
		e.add(Well, name+": content type", t, "")
	}
	if p.header.Get("Access-Control-Allow-Origin") != "*" {
		e.add(Warning, name+": CORS", "there is no Access-Control-Allow-Origin: *; programs in browsers can't look here", "Add that header field to everything under "+root+".")
	} else {
		e.add(Well, name+": CORS", "any origin", "")
	}
	if c := p.header.Get("Content-Encoding"); c != "" && c != "identity" {
		e.add(Fault, name+": encoding", fmt.Sprintf("the answer is compressed (%s) though nobody asked", c), "Switch compression off for "+root+".")
	}
}

// certificate looks at what was answered.
func (e *examination) certificate(name string, body []byte) {
	name += ": certificate"
	if bytes.HasPrefix(bytes.TrimSpace(body), []byte("-----BEGIN")) {
		e.add(Fault, name, "is armored; many programs refuse that", "Publish it binary: gpg --no-armor --export, or letterlock keydir export.")
	}
	certs, err := pgp.ParseCertificates(body)
	switch {
	case errors.Is(err, pgp.ErrSecretKey):
		e.add(Fault, name, "A SECRET KEY IS PUBLISHED HERE", "Withdraw it now, revoke the key and make a new one: it is not secret any more.")
		return
	case len(certs) == 0:
		e.add(Fault, name, "is no OpenPGP certificate", "")
		return
	case err != nil:
		e.add(Warning, name, "a part can't be read: "+err.Error(), "")
	}
	usable := 0
	for _, c := range certs {
		if e.one(name, c) {
			usable++
		}
	}
	if usable > 1 {
		e.add(Warning, name, fmt.Sprintf("%d certificates could be used; programs take any of them, ours takes none", usable), "Publish one, and revoked predecessors only.")
	}
}

// one looks at one certificate and tells whether it can be used.
func (e *examination) one(name string, c *pgp.Certificate) bool {
	what := string(c.Fingerprint())
	if !c.Has(e.a) {
		e.add(Fault, name, fmt.Sprintf("%s has no valid user ID of %s; programs drop it", what, e.a), "Publish the certificate that names the address, with that user ID.")
		return false
	}
	if n := len(c.UserIDs()); n > 1 {
		e.add(Note, name, fmt.Sprintf("%s shows %d user IDs; only that of the address is needed", what, n), "")
	}
	switch err := c.CheckEncrypt(e.now); {
	case errors.Is(err, pgp.ErrRevoked):
		e.add(Note, name, what+" is revoked", "")
		return false
	case errors.Is(err, pgp.ErrExpired):
		e.add(Fault, name, what+" has expired", "Extend it and publish it again.")
		return false
	case err != nil:
		e.add(Fault, name, fmt.Sprintf("%s can't be encrypted to: %v", what, err), "Make a newer key.")
		return false
	}
	switch end := c.Expires(); {
	case end.IsZero():
		e.add(Well, name, what+", "+c.Algorithm()+", does not expire", "")
	case end.Before(e.now.Add(expiresSoon)):
		e.add(Warning, name, fmt.Sprintf("%s expires on %s", what, end.UTC().Format(time.DateOnly)), "Extend it and publish it again.")
	default:
		e.add(Well, name, fmt.Sprintf("%s, %s, until %s", what, c.Algorithm(), end.UTC().Format(time.DateOnly)), "")
	}
	return true
}

package mailservers

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"unicode"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/endpoint"
)

// maxAnswer bounds what a domain publishes, in bytes.
const maxAnswer = 64 << 10

// places are where a domain publishes its servers
// (draft-ietf-mailmaint-autoconfig, Section 4.1), without the parameter that
// would name the person.
func places(domain string) []string {
	return []string{
		"https://autoconfig." + domain + "/mail/config-v1.1.xml",
		"https://" + domain + "/.well-known/autoconfig/mail/config-v1.1.xml",
	}
}

// published reads what the domain publishes.
func (f *Finder) published(ctx context.Context, a address.Address) (Found, error) {
	var asks []func() (Found, error)
	for _, place := range places(a.Domain) {
		asks = append(asks, func() (Found, error) { return f.publishedAt(ctx, place, a) })
	}
	found, errs := first(asks)
	for _, err := range errs {
		if errors.Is(err, errUnusable) {
			return found, err
		}
	}
	if errs != nil {
		return found, errs[0]
	}
	return found, nil
}

func (f *Finder) publishedAt(ctx context.Context, place string, a address.Address) (Found, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, place, nil)
	if err != nil {
		return Found{}, err
	}
	req.Header.Set("User-Agent", "letterlock")
	host := req.URL.Host
	resp, err := f.Client.Do(req)
	if err != nil {
		return Found{}, fmt.Errorf("%s can't be asked", host)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return Found{}, fmt.Errorf("%s publishes none (%d)", host, resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil || len(body) > maxAnswer {
		return Found{}, fmt.Errorf("what %s publishes can't be read", host)
	}
	found, err := parse(body, a)
	if err != nil {
		return Found{}, fmt.Errorf("%s: %w", host, err)
	}
	found.Source, found.Sure = host+" publishes it", true
	return found, nil
}

// onlyHTTPS follows the domain's own word to another host, never to one that
// can't prove who it is.
func onlyHTTPS(req *http.Request, via []*http.Request) error {
	if req.URL.Scheme != "https" || len(via) > 3 {
		return http.ErrUseLastResponse
	}
	req.Header.Del("Referer")
	return nil
}

// errUnusable means that servers are published, but none that we can use.
var errUnusable = errors.New("publishes no servers that letterlock can use")

// clientConfig is the part of the form that matters here.
type clientConfig struct {
	Providers []struct {
		Incoming []server `xml:"incomingServer"`
		Outgoing []server `xml:"outgoingServer"`
	} `xml:"emailProvider"`
}

type server struct {
	Type     string   `xml:"type,attr"`
	Host     string   `xml:"hostname"`
	Port     string   `xml:"port"`
	Security string   `xml:"socketType"`
	User     string   `xml:"username"`
	Logins   []string `xml:"authentication"`
}

// parse reads a configuration in Mozilla's form: the first server of each kind
// that has TLS and takes a password, in the domain's order.
func parse(text []byte, a address.Address) (Found, error) {
	d := xml.NewDecoder(bytes.NewReader(text))
	d.CharsetReader = func(label string, r io.Reader) (io.Reader, error) {
		return nil, fmt.Errorf("charset %q", label)
	}
	var c clientConfig
	if err := d.Decode(&c); err != nil {
		return Found{}, errors.New("it publishes something else, no mail servers")
	}
	var incoming, outgoing []server
	for _, p := range c.Providers {
		incoming, outgoing = append(incoming, p.Incoming...), append(outgoing, p.Outgoing...)
	}
	imap, oauth := choose(endpoint.IMAP, incoming, a)
	smtp, _ := choose(endpoint.SMTP, outgoing, a)
	switch {
	case imap != nil && smtp != nil:
	case oauth:
		return Found{}, fmt.Errorf("%w: they ask for OAuth2 logins; many such providers make passwords for single applications, for which they name other servers or the same", errUnusable)
	default:
		return Found{}, errUnusable
	}
	return Found{IMAP: imap.up, SMTP: smtp.up, User: imap.user}, nil
}

// chosen is a server that can be used.
type chosen struct {
	up   endpoint.Upstream
	user string
}

// choose gives the first server of a protocol that can be used; nil for none.
// oauth tells whether one can't only for its login.
func choose(p endpoint.Protocol, all []server, a address.Address) (c *chosen, oauth bool) {
	for _, s := range all {
		if !strings.EqualFold(s.Type, map[endpoint.Protocol]string{endpoint.IMAP: "imap", endpoint.SMTP: "smtp"}[p]) {
			continue
		}
		up, err := s.upstream(p, a)
		if err != nil {
			continue
		}
		if !s.takesPassword() {
			oauth = true
			continue
		}
		user := filled(s.User, a)
		if user == "" || strings.ContainsFunc(user, notInLogin) {
			user = a.String()
		}
		return &chosen{up, user}, false
	}
	return nil, oauth
}

func (s server) upstream(p endpoint.Protocol, a address.Address) (endpoint.Upstream, error) {
	scheme := map[endpoint.Protocol]map[string]string{
		endpoint.IMAP: {"SSL": "imaps", "STARTTLS": "imap"},
		endpoint.SMTP: {"SSL": "submissions", "STARTTLS": "submission"},
	}[p][strings.ToUpper(strings.TrimSpace(s.Security))]
	if scheme == "" {
		return endpoint.Upstream{}, errUnusable
	}
	return upstream(p, scheme, filled(s.Host, a), strings.TrimSpace(s.Port))
}

// takesPassword tells whether one of the ways to log in is a password.
func (s server) takesPassword() bool {
	for _, l := range s.Logins {
		switch strings.ToLower(strings.TrimSpace(l)) {
		case "password-cleartext", "plain", "password-encrypted", "secure":
			return true
		}
	}
	return len(s.Logins) == 0
}

// notInLogin are characters that no provider means.
func notInLogin(r rune) bool { return !unicode.IsPrint(r) || r == '"' || r == '\\' }

// filled puts the address into the form's placeholders.
func filled(s string, a address.Address) string {
	return strings.NewReplacer("%EMAILADDRESS%", a.String(), "%EMAILLOCALPART%", a.Local, "%EMAILDOMAIN%", a.Domain).Replace(strings.TrimSpace(s))
}

// upstream is SCHEME://HOST:PORT where host is a name that may be written into a
// configuration and connected to.
func upstream(p endpoint.Protocol, scheme, host, port string) (endpoint.Upstream, error) {
	host = strings.TrimSuffix(host, ".")
	name, err := address.Domain(host)
	if err != nil || strings.HasPrefix(name, "[") {
		return endpoint.Upstream{}, fmt.Errorf("%q is no host name", host)
	}
	if port != "" {
		name = net.JoinHostPort(name, port)
	}
	return endpoint.ParseUpstream(p, scheme+"://"+name)
}

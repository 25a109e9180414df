package mailservers_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/endpoint"
	"letterlock.org/letterlock/internal/mailservers"
)

// world is what a finder can reach: pages by URL, SRV records by service and
// domain, servers by their upstream.
type world struct {
	pages   map[string]string
	records map[string][]*net.SRV
	servers []string

	mu    sync.Mutex
	asked []string // URLs
}

func (w *world) RoundTrip(r *http.Request) (*http.Response, error) {
	w.mu.Lock()
	w.asked = append(w.asked, r.URL.String())
	w.mu.Unlock()
	body, ok := w.pages[r.URL.String()]
	if !ok {
		return nil, errors.New("no such host")
	}
	resp := &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Request: r}
	if to, ok := strings.CutPrefix(body, "redirect "); ok {
		resp.StatusCode, body = http.StatusFound, ""
		resp.Header.Set("Location", to)
	}
	resp.Body = io.NopCloser(strings.NewReader(body))
	return resp, nil
}

func (w *world) finder(t *testing.T) *mailservers.Finder {
	t.Helper()
	f, err := mailservers.New("")
	if err != nil {
		t.Fatal(err)
	}
	f.Client.Transport = w
	f.SRV = func(_ context.Context, service, domain string) ([]*net.SRV, error) {
		if r, ok := w.records[service+" "+domain]; ok {
			return r, nil
		}
		return nil, &net.DNSError{Err: "no such host", IsNotFound: true}
	}
	f.Answers = func(_ context.Context, up endpoint.Upstream) error {
		for _, s := range w.servers {
			if s == up.String() {
				return nil
			}
		}
		return errors.New("nobody answers")
	}
	return f
}

// form is a configuration in Mozilla's form.
func form(servers ...string) string {
	return `<?xml version="1.0" encoding="UTF-8"?><clientConfig version="1.1"><emailProvider id="example.org"><domain>example.org</domain>` +
		strings.Join(servers, "") + `</emailProvider></clientConfig>`
}

func fetching(host, security, user, login string) string {
	return fmt.Sprintf(`<incomingServer type="imap"><hostname>%s</hostname><port>9930</port><socketType>%s</socketType><username>%s</username><authentication>%s</authentication></incomingServer>`, host, security, user, login)
}

func sending(host, security string) string {
	return fmt.Sprintf(`<outgoingServer type="smtp"><hostname>%s</hostname><port>4650</port><socketType>%s</socketType><username>x</username><authentication>password-cleartext</authentication></outgoingServer>`, host, security)
}

const (
	autoconfig = "https://autoconfig.example.org/mail/config-v1.1.xml"
	wellKnown  = "https://example.org/.well-known/autoconfig/mail/config-v1.1.xml"
)

func srv(target string, port uint16) []*net.SRV { return []*net.SRV{{Target: target, Port: port}} }

func TestFind(t *testing.T) {
	good := form(fetching("in.provider.example", "SSL", "%EMAILADDRESS%", "password-cleartext"), sending("out.provider.example", "SSL"))
	ours := map[string][]*net.SRV{"imaps example.org": srv("in.example.org.", 993), "submissions example.org": srv("out.example.org.", 465)}
	oursAnswer := []string{"imaps://in.example.org:993", "submissions://out.example.org:465"}
	for _, tt := range []struct {
		name string
		*world
		want string // IMAP SMTP user sure, or what the error says
	}{
		{"what the domain publishes, wherever that is", &world{pages: map[string]string{autoconfig: good}},
			"imaps://in.provider.example:9930 submissions://out.provider.example:4650 alice@example.org true"},
		{"the well-known place does too", &world{pages: map[string]string{wellKnown: good}},
			"imaps://in.provider.example:9930 submissions://out.provider.example:4650 alice@example.org true"},
		{"what is published comes before records", &world{pages: map[string]string{wellKnown: good}, records: ours, servers: oursAnswer},
			"imaps://in.provider.example:9930 submissions://out.provider.example:4650 alice@example.org true"},
		{"a redirect to another host over TLS", &world{pages: map[string]string{autoconfig: "redirect https://provider.example/c.xml", "https://provider.example/c.xml": good}},
			"imaps://in.provider.example:9930 submissions://out.provider.example:4650 alice@example.org true"},
		{"a redirect to what can't prove who it is", &world{pages: map[string]string{autoconfig: "redirect http://provider.example/c.xml", "http://provider.example/c.xml": good}},
			"publishes none (302)"},
		{"STARTTLS and the local part as login", &world{pages: map[string]string{autoconfig: form(fetching("in.%EMAILDOMAIN%", "STARTTLS", "%EMAILLOCALPART%", "password-encrypted"), sending("out.example.org", "STARTTLS"))}},
			"imap://in.example.org:9930 submission://out.example.org:4650 alice true"},
		{"cleartext is passed over", &world{pages: map[string]string{autoconfig: form(fetching("a.example.org", "plain", "", "password-cleartext"), fetching("b.example.org", "SSL", "", "password-cleartext"), sending("a.example.org", "plain"), sending("b.example.org", "SSL"))}},
			"imaps://b.example.org:9930 submissions://b.example.org:4650 alice@example.org true"},
		{"nothing but cleartext", &world{pages: map[string]string{autoconfig: form(fetching("a.example.org", "plain", "", "password-cleartext"), sending("b.example.org", "SSL"))}},
			"no servers that letterlock can use"},
		{"OAuth2 only", &world{pages: map[string]string{autoconfig: form(fetching("a.example.org", "SSL", "", "OAuth2"), sending("b.example.org", "SSL"))}},
			"ask for OAuth2 logins"},
		{"a login with control characters is not taken", &world{pages: map[string]string{autoconfig: form(fetching("a.example.org", "SSL", "x&#10;y", "password-cleartext"), sending("b.example.org", "SSL"))}},
			"imaps://a.example.org:9930 submissions://b.example.org:4650 alice@example.org true"},
		{"a host that is none", &world{pages: map[string]string{autoconfig: form(fetching("a.example.org/x@y", "SSL", "", "password-cleartext"), sending("b.example.org", "SSL"))}},
			"no servers that letterlock can use"},
		{"a web page for every name", &world{pages: map[string]string{autoconfig: "<!DOCTYPE html><html><body>Hello<br></body></html>"}, records: ours, servers: oursAnswer},
			"imaps://in.example.org:993 submissions://out.example.org:465 alice@example.org true"},
		{"an endless answer", &world{pages: map[string]string{autoconfig: strings.Repeat(" ", 70<<10) + good}}, "can't be read"},
		{"records within the domain", &world{records: ours, servers: oursAnswer},
			"imaps://in.example.org:993 submissions://out.example.org:465 alice@example.org true"},
		{"records of another domain are for the person to confirm", &world{
			records: map[string][]*net.SRV{"imap example.org": srv("in.example.net.", 143), "submission example.org": srv("out.example.org.", 587)},
			servers: []string{"imap://in.example.net:143", "submission://out.example.org:587"}},
			"imap://in.example.net:143 submission://out.example.org:587 alice@example.org false"},
		{"a name that only ends like the domain is another", &world{
			records: map[string][]*net.SRV{"imaps example.org": srv("in.badexample.org.", 993), "submissions example.org": srv("out.example.org.", 465)},
			servers: []string{"imaps://in.badexample.org:993", "submissions://out.example.org:465"}},
			"imaps://in.badexample.org:993 submissions://out.example.org:465 alice@example.org false"},
		{"a record that says not here", &world{records: map[string][]*net.SRV{"imaps example.org": srv(".", 0)}}, "no SRV record names a server for imap"},
		{"records whose server is down give way to the usual names", &world{records: ours, servers: []string{"imaps://mail.example.org:993", "submission://smtp.example.org:587"}},
			"imaps://mail.example.org:993 submission://smtp.example.org:587 alice@example.org true"},
		{"implicit TLS comes first among the usual names", &world{servers: []string{"imap://imap.example.org:143", "imaps://mail.example.org:993", "submission://smtp.example.org:587", "submissions://mail.example.org:465"}},
			"imaps://mail.example.org:993 submissions://mail.example.org:465 alice@example.org true"},
		{"nothing at all", &world{}, "nothing that is safe answers for imap at imap.example.org or mail.example.org"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f, err := tt.finder(t).Find(t.Context(), address.Address{Local: "alice", Domain: "example.org"})
			got := fmt.Sprintf("%s %s %s %t", f.IMAP, f.SMTP, f.User, f.Sure)
			if err != nil {
				got = err.Error()
				if !errors.Is(err, mailservers.ErrNone) {
					t.Errorf("not ErrNone: %v", err)
				}
			}
			if err == nil && got != tt.want || err != nil && !strings.Contains(got, tt.want) {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			tt.mu.Lock() // who answers too late may still be asked
			defer tt.mu.Unlock()
			for _, u := range tt.asked {
				if strings.Contains(u, "alice") {
					t.Errorf("%s names the person", u)
				}
			}
		})
	}
}

func TestFindOfAMachineAsksNobody(t *testing.T) {
	w := &world{}
	_, err := w.finder(t).Find(t.Context(), address.Address{Local: "alice", Domain: "[192.0.2.1]"})
	if !errors.Is(err, mailservers.ErrNone) || len(w.asked) > 0 {
		t.Errorf("asked %q: %v", w.asked, err)
	}
}

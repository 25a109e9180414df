package mailservers

import (
	"context"
	"fmt"
	"net"
	"strconv"

	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/emersion/go-smtp"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/endpoint"
)

// services are the SRV records of each protocol, implicit TLS first (RFC 8314,
// Section 5.1).
var services = map[endpoint.Protocol][]string{
	endpoint.IMAP: {"imaps", "imap"},
	endpoint.SMTP: {"submissions", "submission"},
}

// records reads the SRV records. Their names lie within the domain, or a person has
// to confirm them.
func (f *Finder) records(ctx context.Context, a address.Address) (Found, error) {
	imap, err := f.recordOf(ctx, endpoint.IMAP, a.Domain)
	if err != nil {
		return Found{}, err
	}
	smtp, err := f.recordOf(ctx, endpoint.SMTP, a.Domain)
	if err != nil {
		return Found{}, err
	}
	return Found{IMAP: imap, SMTP: smtp, User: a.String(), Source: "DNS says so (SRV records of " + a.Domain + ")",
		Sure: within(imap.Host, a.Domain) && within(smtp.Host, a.Domain)}, nil
}

// recordOf is the first server of a protocol that the records name and that answers.
func (f *Finder) recordOf(ctx context.Context, p endpoint.Protocol, domain string) (endpoint.Upstream, error) {
	named := ""
	for _, service := range services[p] {
		all, err := f.SRV(ctx, service, domain)
		if err != nil {
			continue
		}
		for _, r := range all[:min(len(all), 4)] {
			if r.Target == "." { // "not here": RFC 2782
				continue
			}
			up, err := upstream(p, service, r.Target, strconv.Itoa(int(r.Port)))
			if err != nil {
				continue
			}
			if err = f.Answers(ctx, up); err == nil {
				return up, nil
			}
			named = fmt.Sprintf("; %s does not answer", up.Host)
		}
	}
	return endpoint.Upstream{}, fmt.Errorf("no SRV record names a server for %s%s", p, named)
}

// usualNames are where servers are that nobody announces: scheme and first label.
var usualNames = map[endpoint.Protocol][][2]string{
	endpoint.IMAP: {{"imaps", "imap"}, {"imaps", "mail"}, {"imap", "imap"}, {"imap", "mail"}},
	endpoint.SMTP: {{"submissions", "smtp"}, {"submissions", "mail"}, {"submission", "smtp"}, {"submission", "mail"}},
}

// usual tries the usual names within the domain.
func (f *Finder) usual(ctx context.Context, a address.Address) (Found, error) {
	imap, err := f.usualOf(ctx, endpoint.IMAP, a.Domain)
	if err != nil {
		return Found{}, err
	}
	smtp, err := f.usualOf(ctx, endpoint.SMTP, a.Domain)
	if err != nil {
		return Found{}, err
	}
	return Found{IMAP: imap, SMTP: smtp, User: a.String(), Source: "they answer there", Sure: true}, nil
}

func (f *Finder) usualOf(ctx context.Context, p endpoint.Protocol, domain string) (endpoint.Upstream, error) {
	var tries []func() (endpoint.Upstream, error)
	for _, n := range usualNames[p] {
		tries = append(tries, func() (endpoint.Upstream, error) {
			up, err := upstream(p, n[0], n[1]+"."+domain, "")
			if err == nil {
				err = f.Answers(ctx, up)
			}
			return up, err
		})
	}
	up, errs := first(tries)
	if errs != nil {
		return up, fmt.Errorf("nothing that is safe answers for %s at %s.%s or mail.%s", p, p, domain, domain)
	}
	return up, nil
}

// greets tells whether a mail server answers, behind a TLS certificate for its
// name.
func greets(ctx context.Context, up endpoint.Upstream) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := up.Dial(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if up.Protocol == endpoint.IMAP {
		return greetsIMAP(up, conn)
	}
	return greetsSMTP(up, conn)
}

func greetsIMAP(up endpoint.Upstream, conn net.Conn) error {
	if up.Security != endpoint.STARTTLS {
		return imapclient.New(conn, nil).WaitGreeting()
	}
	c, err := imapclient.NewStartTLS(conn, &imapclient.Options{TLSConfig: up.TLSConfig()})
	if err != nil {
		return err
	}
	return c.Noop().Wait()
}

func greetsSMTP(up endpoint.Upstream, conn net.Conn) error {
	if up.Security != endpoint.STARTTLS {
		return smtp.NewClient(conn).Hello("localhost")
	}
	c, err := smtp.NewClientStartTLS(conn, up.TLSConfig())
	if err != nil {
		return err
	}
	return c.Noop()
}

package mailservers_test

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapserver"
	"github.com/emersion/go-imap/v2/imapserver/imapmemserver"
	"github.com/emersion/go-smtp"

	"letterlock.org/letterlock/internal/endpoint"
	"letterlock.org/letterlock/internal/mailservers"
	"letterlock.org/letterlock/internal/store"
)

// nobody is a session that does nothing but end.
type nobody struct{ smtp.Session }

func (nobody) Reset()        {}
func (nobody) Logout() error { return nil }

// The servers have a certificate for "localhost" of an authority of our own.
func TestGreets(t *testing.T) {
	st, err := store.OpenMemory(endpoint.Schema)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	ca, err := endpoint.OpenAuthority(t.Context(), st, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	serving := ca.TLSConfig()
	start := func(serve func(net.Listener), implicit bool) int {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		port := l.Addr().(*net.TCPAddr).Port
		if implicit {
			l = tls.NewListener(l, serving)
		}
		go serve(l)
		return port
	}
	silent := log.New(io.Discard, "", 0)
	mem := imapmemserver.New()
	imapd := func(config *tls.Config) func(net.Listener) {
		return func(l net.Listener) {
			imapserver.New(&imapserver.Options{Caps: imap.CapSet{imap.CapIMAP4rev1: {}}, TLSConfig: config, Logger: silent, InsecureAuth: config == nil,
				NewSession: func(*imapserver.Conn) (imapserver.Session, *imapserver.GreetingData, error) {
					return mem.NewSession(), nil, nil
				}}).Serve(l)
		}
	}
	smtpd := func(config *tls.Config) func(net.Listener) {
		return func(l net.Listener) {
			s := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return nobody{}, nil }))
			s.Domain, s.TLSConfig, s.ErrorLog = "localhost", config, silent
			s.Serve(l)
		}
	}
	other := func(l net.Listener) {
		for c, err := l.Accept(); err == nil; c, err = l.Accept() {
			io.WriteString(c, "SSH-2.0-OpenSSH_9.2\r\n")
			c.Close()
		}
	}
	for _, tt := range []struct {
		name     string
		protocol endpoint.Protocol
		security endpoint.Security
		port     int
		roots    *x509.CertPool
		ok       bool
	}{
		{"IMAP behind TLS", endpoint.IMAP, endpoint.TLS, start(imapd(nil), true), ca.Pool(), true},
		{"IMAP with STARTTLS", endpoint.IMAP, endpoint.STARTTLS, start(imapd(serving), false), ca.Pool(), true},
		{"IMAP without TLS", endpoint.IMAP, endpoint.STARTTLS, start(imapd(nil), false), ca.Pool(), false},
		{"IMAP of an authority that nobody knows", endpoint.IMAP, endpoint.STARTTLS, start(imapd(serving), false), x509.NewCertPool(), false},
		{"submission behind TLS", endpoint.SMTP, endpoint.TLS, start(smtpd(nil), true), ca.Pool(), true},
		{"submission with STARTTLS", endpoint.SMTP, endpoint.STARTTLS, start(smtpd(serving), false), ca.Pool(), true},
		{"submission without TLS", endpoint.SMTP, endpoint.STARTTLS, start(smtpd(nil), false), ca.Pool(), false},
		{"submission of an authority that nobody knows", endpoint.SMTP, endpoint.TLS, start(smtpd(nil), true), x509.NewCertPool(), false},
		{"another service in place of IMAP", endpoint.IMAP, endpoint.TLS, start(other, true), ca.Pool(), false},
		{"another service in place of submission", endpoint.SMTP, endpoint.STARTTLS, start(other, false), ca.Pool(), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			up := endpoint.Upstream{Protocol: tt.protocol, Security: tt.security, Host: "localhost", Port: tt.port, Roots: tt.roots}
			if err := mailservers.Greets(t.Context(), up); (err == nil) != tt.ok {
				t.Errorf("%v", err)
			}
		})
	}
}

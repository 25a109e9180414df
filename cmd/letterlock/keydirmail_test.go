package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/endpoint"
	"letterlock.org/letterlock/keydir/server"
)

// postOffice is a submission server that notes what it saw of a client.
type postOffice struct {
	port  int
	roots *x509.CertPool

	mu    sync.Mutex // guards what follows
	seen  []string
	mails [][]byte
	wire  bytes.Buffer // what came before TLS
}

func (p *postOffice) note(what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen = append(p.seen, what)
}

func (p *postOffice) NewSession(c *smtp.Conn) (smtp.Session, error) {
	return &postSession{p, c}, nil
}

type postSession struct {
	p *postOffice
	c *smtp.Conn
}

func (s *postSession) AuthMechanisms() []string { return []string{sasl.Plain} }

func (s *postSession) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		_, protected := s.c.TLSConnectionState()
		s.p.note(map[bool]string{true: "AUTH under TLS ", false: "AUTH IN CLEAR "}[protected] + user + " " + password)
		return nil
	}), nil
}

func (s *postSession) Mail(string, *smtp.MailOptions) error { return nil }

func (s *postSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	if strings.HasPrefix(to, "nobody@") {
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no such mailbox"}
	}
	if strings.HasPrefix(to, "later@") {
		return &smtp.SMTPError{Code: 450, EnhancedCode: smtp.EnhancedCode{4, 2, 1}, Message: "greylisted"}
	}
	return nil
}

func (s *postSession) Data(r io.Reader) error {
	b, err := io.ReadAll(r)
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	s.p.mails = append(s.p.mails, b)
	return err
}
func (s *postSession) Reset()        {}
func (s *postSession) Logout() error { return nil }

// tapped copies what a client sends.
type tapped struct {
	net.Conn
	p *postOffice
}

func (c tapped) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	c.p.wire.Write(b[:n])
	return n, err
}

type tap struct {
	net.Listener
	p *postOffice
}

func (l tap) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return tapped{c, l.p}, nil
}

// newPostOffice has a certificate for 127.0.0.1 and example.com.
func newPostOffice(t *testing.T, implicit, starttls bool) *postOffice {
	t.Helper()
	web := httptest.NewUnstartedServer(nil)
	web.StartTLS()
	config := &tls.Config{Certificates: web.TLS.Certificates}
	p := &postOffice{roots: x509.NewCertPool()}
	p.roots.AddCert(web.Certificate())
	web.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.port = l.Addr().(*net.TCPAddr).Port
	s := smtp.NewServer(p)
	s.Domain, s.ReadTimeout, s.WriteTimeout, s.AllowInsecureAuth = "mx.example.com", 10*time.Second, 10*time.Second, true
	s.ErrorLog = quietLog{}
	l = tap{l, p}
	if starttls {
		s.TLSConfig = config
	}
	if implicit {
		l = tls.NewListener(l, config)
	}
	done := make(chan struct{})
	go func() { _ = s.Serve(l); close(done) }()
	t.Cleanup(func() { s.Close(); <-done })
	return p
}

type quietLog struct{}

func (quietLog) Printf(string, ...any) {}
func (quietLog) Println(...any)        {}

const postPassword = "very-secret"

func TestDirectoryMailIsSentUnderVerifiedTLS(t *testing.T) {
	for _, tt := range []struct {
		name               string
		implicit, starttls bool // of the server
		security           endpoint.Security
		host               string
		strange            bool // the certificate is nobody's that we know
		sent               bool
	}{
		{name: "STARTTLS", starttls: true, security: endpoint.STARTTLS, host: "127.0.0.1", sent: true},
		{name: "TLS from the beginning", implicit: true, security: endpoint.TLS, host: "127.0.0.1", sent: true},
		{name: "STARTTLS under another name", starttls: true, security: endpoint.STARTTLS, host: "localhost"},
		{name: "TLS under another name", implicit: true, security: endpoint.TLS, host: "localhost"},
		{name: "STARTTLS by a stranger", starttls: true, security: endpoint.STARTTLS, host: "127.0.0.1", strange: true},
		{name: "TLS by a stranger", implicit: true, security: endpoint.TLS, host: "127.0.0.1", strange: true},
		{name: "STARTTLS that was taken away", security: endpoint.STARTTLS, host: "127.0.0.1"},
		{name: "a server without TLS", security: endpoint.TLS, host: "127.0.0.1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPostOffice(t, tt.implicit, tt.starttls)
			u := endpoint.Upstream{Protocol: endpoint.SMTP, Security: tt.security, Host: tt.host, Port: p.port, Roots: p.roots, DialTimeout: time.Minute}
			if tt.strange {
				u.Roots = x509.NewCertPool()
			}
			err := sendMail(t.Context(), u, "keys", postPassword, keyMailTo("joe.doe@example.org"))
			if (err == nil) != tt.sent {
				t.Fatalf("sending: %v", err)
			}
			if err != nil && strings.Contains(err.Error(), postPassword) {
				t.Errorf("the password is in %v", err)
			}
			p.mu.Lock()
			defer p.mu.Unlock()
			wire := p.wire.String()
			for _, secret := range []string{"AUTH PLAIN", "Publish", "joe.doe", "AGtleXMAdmVyeS1zZWNyZXQ"} {
				if strings.Contains(wire, secret) {
					t.Errorf("%q went over the wire in clear", secret)
				}
			}
			switch {
			case tt.sent && (len(p.mails) != 1 || strings.Join(p.seen, "\n") != "AUTH under TLS keys "+postPassword):
				t.Errorf("the server saw %q and %d mails", p.seen, len(p.mails))
			case !tt.sent && (len(p.mails) != 0 || len(p.seen) != 0):
				t.Errorf("the server saw %q and %d mails of what was not to be sent", p.seen, len(p.mails))
			}
		})
	}
	for _, s := range []string{"smtp+insecure://mx.example.org:25", "smtp+insecure://192.0.2.1:25"} {
		if _, err := endpoint.ParseUpstream(endpoint.SMTP, s); !errors.Is(err, endpoint.ErrCleartext) {
			t.Errorf("%s: %v", s, err)
		}
	}
}

func TestDirectoryMailThatIsRefused(t *testing.T) {
	p := newPostOffice(t, true, false)
	u := endpoint.Upstream{Protocol: endpoint.SMTP, Security: endpoint.TLS, Host: "127.0.0.1", Port: p.port, Roots: p.roots}
	for to, final := range map[string]bool{"nobody@example.org": true, "later@example.org": false} {
		if err := sendMail(t.Context(), u, "", "", keyMailTo(to)); err == nil || errors.Is(err, server.ErrRefused) != final {
			t.Errorf("%s: %v", to, err)
		}
	}
}

func keyMailTo(to string) server.Mail {
	a, _ := address.Parse(to)
	from, _ := address.Parse("keys@example.org")
	return server.Mail{From: from, To: a, Text: []byte("From: keys@example.org\r\nTo: " + to + "\r\nSubject: Publish?\r\n\r\n.\r\nText\r\n")}
}

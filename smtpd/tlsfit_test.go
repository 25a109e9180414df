package smtpd_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"strings"
	"testing"
	"time"

	"letterlock.org/letterlock/smtpd"
	"letterlock.org/letterlock/smtpd/queue"
)

// TestTLSThatDoesNotFit: nothing is sent, and what is wrong is said by name.
func TestTLSThatDoesNotFit(t *testing.T) {
	old, client := certify(t)
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	newer, client12 := certify(t)
	newer.MaxVersion = tls.VersionTLS12
	whole, alone, root := chain(t)
	for _, tt := range []struct {
		name   string
		mode   smtpd.TLSMode
		server *tls.Config // nil speaks none
		client *tls.Config
		want   string
	}{
		{"TLS 1.2 only", smtpd.ImplicitTLS, newer, client12, "250"},
		{"older TLS only", smtpd.ImplicitTLS, old, client, "451 4.7.0 your mail server speaks no TLS that we do at this port; upstream in the configuration is submissions://"},
		{"older TLS only behind STARTTLS", smtpd.STARTTLS, old, client, "451 4.7.0 your mail server speaks no TLS that we do at this port"},
		{"TLS 1.2 only behind STARTTLS", smtpd.STARTTLS, newer, client12, "250"},
		{"no TLS where it should be from the beginning", smtpd.ImplicitTLS, nil, client, "451 4.7.0 your mail server speaks no TLS that we do at this port"},
		{"a chain of certificates", smtpd.ImplicitTLS, whole, root, "250"},
		{"a chain without its middle", smtpd.ImplicitTLS, alone, root, "451 4.7.5 your mail server's TLS certificate is not valid for it, so nothing was sent: nobody we trust has signed it, and the server sends no certificate between"},
		{"a certificate that it signed itself", smtpd.ImplicitTLS, newer, root, "451 4.7.5 your mail server's TLS certificate is not valid for it, so nothing was sent: nobody we trust has signed it; upstream_ca"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			u := newUpstream(t)
			u.user = "alice"
			if tt.mode == smtpd.STARTTLS {
				u.tls = tt.server
			}
			b := newBridge(t, u, func(_ *smtpd.Config, a *smtpd.Account, _ *queue.Config) {
				a.Upstream.Mode, a.Upstream.TLS = tt.mode, tt.client
				if tt.server == nil {
					a.Upstream.Dial = newOddServer(t, nil).dial
				} else if tt.mode == smtpd.ImplicitTLS {
					a.Upstream.Dial = tlsFront(t, u, tt.server)
				}
			})
			k := b.login()
			k.run("C: MAIL FROM:<alice@example.org>\nS: 250\nC: RCPT TO:<bob@example.net>")
			if got := k.reply(); !strings.HasPrefix(got, tt.want) {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
			if tt.want != "250" && u.saw("AUTH") {
				t.Error("the password went out")
			}
		})
	}
}

// chain makes a server that shows a certificate and the one between it and an
// authority, one that shows its own alone, and a client that knows the authority.
func chain(t *testing.T) (whole, alone, client *tls.Config) {
	t.Helper()
	var parent *x509.Certificate
	var parentKey *ecdsa.PrivateKey
	var made []*x509.Certificate
	for i, name := range []string{"authority", "between", "mail.example"} {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		c := &x509.Certificate{SerialNumber: big.NewInt(int64(i + 1)), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			IsCA: i < 2, BasicConstraintsValid: true}
		if i == 2 {
			c.DNSNames = []string{name}
		}
		if parent == nil {
			parent, parentKey = c, k
		}
		der, err := x509.CreateCertificate(rand.Reader, c, parent, &k.PublicKey, parentKey)
		if err != nil {
			t.Fatal(err)
		}
		if c, err = x509.ParseCertificate(der); err != nil {
			t.Fatal(err)
		}
		made, parent, parentKey = append(made, c), c, k
	}
	pool := x509.NewCertPool()
	pool.AddCert(made[0])
	show := func(ders ...[]byte) *tls.Config {
		return &tls.Config{Certificates: []tls.Certificate{{Certificate: ders, PrivateKey: parentKey}}}
	}
	return show(made[2].Raw, made[1].Raw), show(made[2].Raw), &tls.Config{RootCAs: pool, ServerName: "mail.example"}
}

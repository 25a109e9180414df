package smtpd_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"letterlock.org/letterlock/smtpd"
	"letterlock.org/letterlock/smtpd/queue"
)

// certify makes a certificate for 127.0.0.1, and the pool that trusts it.
func certify(t testing.TB) (server, client *tls.Config) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"mail.example"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	leaf, _ := x509.ParseCertificate(der)
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: k}}},
		&tls.Config{RootCAs: pool, ServerName: "mail.example"}
}

func TestSTARTTLSAndImplicitTLSForClients(t *testing.T) {
	server, client := certify(t)
	for _, implicit := range []bool{false, true} {
		u := newUpstream(t)
		b := newBridge(t, u, func(c *smtpd.Config, _ *smtpd.Account, _ *queue.Config) {
			c.TLS, c.Listeners[0].Implicit = server, implicit
		})
		c, err := net.Dial("tcp", b.addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(2 * time.Minute))
		k := &talk{t, c, bufio.NewReader(c)}
		if !implicit {
			k.run("S: 220\nC: EHLO x\nS: 250")
			k.run("C: STARTTLS\nS: 220")
		}
		tc := tls.Client(c, client)
		k = &talk{t, tc, bufio.NewReader(tc)}
		if implicit {
			k.run("S: 220")
		}
		got := k.run("C: EHLO x\nS: 250")
		if strings.Contains(got, "STARTTLS") || !strings.Contains(got, "AUTH PLAIN LOGIN") {
			t.Errorf("implicit %v: EHLO in TLS: %q", implicit, got)
		}
		k.run("C: AUTH PLAIN AGFsaWNlQGV4YW1wbGUub3JnAHB3\nS: 235")
		if got := k.submit(wired(letter("1", "bob@example.net")), "bob@example.net"); !strings.HasPrefix(got, "250") {
			t.Errorf("reply %q", got)
		}
	}
}

func TestUpstreamTLS(t *testing.T) {
	server, client := certify(t)
	foreign := client.Clone()
	foreign.ServerName = "other.example"
	for _, tt := range []struct {
		name string
		mode smtpd.TLSMode
		set  func(u *upstream)
		conf *tls.Config
		want string
	}{
		{"STARTTLS", smtpd.STARTTLS, func(u *upstream) { u.tls = server }, client, "250"},
		{"STARTTLS taken away by somebody", smtpd.STARTTLS, func(u *upstream) {}, client, "451 4.7.0"},
		{"another host's certificate", smtpd.STARTTLS, func(u *upstream) { u.tls = server }, foreign, "451 4.7.5"},
		{"text injected before TLS", smtpd.STARTTLS, func(u *upstream) {
			u.tls = server
			u.fault = func(step string, _ int, _ string) fault {
				if step == "starttls" {
					return fault{reply: "220 go\r\n250 injected"}
				}
				return fault{}
			}
		}, client, "451 4.4.1"},
		{"implicit", smtpd.ImplicitTLS, func(u *upstream) {}, client, "250"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			u := newUpstream(t)
			u.user = "alice"
			tt.set(u)
			b := newBridge(t, u, func(_ *smtpd.Config, a *smtpd.Account, _ *queue.Config) {
				a.Upstream.Mode, a.Upstream.TLS = tt.mode, tt.conf
				if tt.mode == smtpd.ImplicitTLS {
					a.Upstream.Dial = tlsFront(t, u, server)
				}
			})
			k := b.login()
			k.run("C: MAIL FROM:<alice@example.org>\nS: 250")
			k.send("RCPT TO:<bob@example.net>\r\n")
			if got := k.reply(); !strings.HasPrefix(got, tt.want) {
				t.Errorf("reply %q, want %s; log:\n%s", got, tt.want, b.log)
			}
			if tt.want != "250" && u.saw("AUTH") {
				t.Error("the password went out")
			}
		})
	}
}

// tlsFront puts TLS before the double.
func tlsFront(t *testing.T, u *upstream, server *tls.Config) func(context.Context) (net.Conn, error) {
	ln, err := tls.Listen("tcp", "127.0.0.1:0", server)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); u.serve(c) }()
		}
	}()
	return func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", ln.Addr().String())
	}
}

func TestAWrongUpstreamPassword(t *testing.T) {
	u := newUpstream(t)
	u.user = "alice"
	b := newBridge(t, u, func(_ *smtpd.Config, a *smtpd.Account, _ *queue.Config) { a.Upstream.Password = "wrong" })
	b.login().run(`
		C: MAIL FROM:<alice@example.org>
		S: 250
		C: RCPT TO:<bob@example.net>
		S: 451 4.7.0 your mail server refused the login`)
}

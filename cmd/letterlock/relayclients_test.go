package main_test

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/smtp"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/mailtest/peer"
)

// clientCert makes a client certificate, of an authority or of itself.
func clientCert(t *testing.T, name string, ca *tls.Certificate) tls.Certificate {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, IsCA: ca == nil, BasicConstraintsValid: true}
	parent, signer := c, any(k)
	if ca != nil {
		parent, signer = ca.Leaf, ca.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, k.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: k, Leaf: leaf}
}

// TestWhoMayUseTheRelay: nobody by where they are; by password or certificate,
// as what each stands for.
func TestWhoMayUseTheRelay(t *testing.T) {
	sink := peer.StartSink(t)
	ca, mine, strange := clientCert(t, "CA", nil), clientCert(t, "app", nil), clientCert(t, "stranger", nil)
	print := sha256.Sum256(mine.Certificate[0])
	_, relay := newRelayWorld(t, sink.Addr, "") // for its folder
	w := relay.w
	caFile := w.file("client-ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Certificate[0]})))
	more := fmt.Sprintf("trusted = [\"192.0.2.1\"]\nclient_ca = %q\nclient_certificates = { %q = \"app@example.org\" }\nusers = { \"mta@example.org\" = \"any\", \"ann@example.org\" = \"own\" }\nsign = \"sender\"\n", caFile, hex.EncodeToString(print[:]))
	relay = w.configure("relay", fmt.Sprintf("[relay]\nlisten = \"127.0.0.1:0\"\nsmarthost = \"smtp+insecure://%s\"\ndomains = [\"example.org\"]\nhostname = \"relay.example.org\"\n%s\n[discovery]\nwkd_override = { \"example.net\" = \"http://%[3]s\", \"example.com\" = \"http://%[3]s\" }", sink.Addr, more, w.keydir.ready[0].Listen))
	relay.command("key", "generate", "ann@example.org")
	annPassword := strings.TrimSpace(relay.command("relay", "password", "ann@example.org"))
	mtaPassword := strings.TrimSpace(relay.command("relay", "password", "mta@example.org"))
	relay.serve(1)
	trust := &tls.Config{ServerName: "127.0.0.1", RootCAs: peer.Pool(t, filepath.Join(w.state, "relay", "ca.pem"))}
	signed := clientCert(t, "mta", &ca)
	for _, tt := range []struct {
		name           string
		cert           *tls.Certificate
		user, password string
		from           string
		want           string // "" is accepted
	}{
		{"nobody", nil, "", "", "ann@example.org", "530"},
		{"a stranger's certificate", &strange, "", "", "ann@example.org", "530"},
		{"a wrong password", nil, "ann@example.org", "guess", "ann@example.org", "535"},
		{"a login, as itself", nil, "ann@example.org", annPassword, "ann@example.org", ""},
		{"a login, as another", nil, "ann@example.org", annPassword, "boss@example.org", "550"},
		{"an MTA's login, as anybody", nil, "mta@example.org", mtaPassword, "boss@example.org", ""},
		{"a known certificate, as itself", &mine, "", "", "app@example.org", ""},
		{"a known certificate, as another", &mine, "", "", "boss@example.org", "550"},
		{"a certificate of the authority", &signed, "", "", "boss@example.org", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := len(sink.Received())
			c, err := smtp.Dial(relay.ready[0].Listen)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			own := trust.Clone()
			if tt.cert != nil {
				own.Certificates = []tls.Certificate{*tt.cert}
			}
			if err := c.StartTLS(own); err != nil {
				t.Fatal(err)
			}
			err = nil
			if tt.user != "" {
				err = c.Auth(smtp.PlainAuth("", tt.user, tt.password, "127.0.0.1"))
			}
			if err == nil {
				err = c.Mail(tt.from)
			}
			if err == nil {
				err = c.Rcpt(known)
			}
			if err == nil {
				wc, derr := c.Data()
				if err = derr; err == nil {
					wc.Write(relayMail(tt.from, known, ""))
					err = wc.Close()
				}
			}
			if tt.want != "" {
				if err == nil || !strings.HasPrefix(err.Error(), tt.want) || len(sink.Received()) != before {
					t.Fatalf("got %v, want %q", err, tt.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got := sink.Received()[before]
			if clear(got) || got.From != tt.from {
				t.Errorf("from %s, in clear %v", got.From, clear(got))
			}
			proto := "with UTF8SMTPS id" // net/smtp asks for SMTPUTF8
			if tt.from != "boss@example.org" {
				proto = "with UTF8SMTPSA id"
			}
			if !strings.Contains(string(got.Raw), proto) {
				t.Errorf("the trace doesn't say %q: %.300s", proto, got.Raw)
			}
			// Only Ann has a key here, and only her own login proves her.
			if strings.Contains(string(got.Raw), "Autocrypt: addr=ann@example.org") != (tt.from == "ann@example.org") {
				t.Error("signed by whom?")
			}
		})
	}
}

// TestXCLIENTMakesNoOpenRelay: whom a trusted MTA speaks for is judged as if he
// had come himself; and a stranger's XCLIENT is none.
func TestXCLIENTMakesNoOpenRelay(t *testing.T) {
	sink := peer.StartSink(t)
	w, _ := newRelayWorld(t, sink.Addr, "")
	for _, tt := range []struct{ name, trusted, script string }{
		{"an outside client", `["127.0.0.1"]`, "EHLO mta 250;XCLIENT ADDR=203.0.113.9 220;EHLO out 250;MAIL FROM:<ann@example.org> 530;RCPT TO:<" + unknown + "> 503"},
		{"an inside client", `["127.0.0.1", "10.0.0.0/8"]`, "EHLO mta 250;XCLIENT ADDR=10.1.2.3 220;EHLO in 250;MAIL FROM:<ann@example.org> 250;RCPT TO:<" + unknown + "> 250"},
		{"a login that the MTA tells of, unasked", `["127.0.0.1"]`, "EHLO mta 250;XCLIENT ADDR=203.0.113.9 LOGIN=ann@example.org 220;EHLO out 250;MAIL FROM:<ann@example.org> 530"},
		{"from a stranger", `["192.0.2.1"]`, "EHLO mta 250;XCLIENT ADDR=192.0.2.1 5;MAIL FROM:<ann@example.org> 530"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			relay := w.configure(fmt.Sprintf("x%d", time.Now().UnixNano()), relayConfig(w, "127.0.0.1:0", sink.Addr, "trusted = "+tt.trusted))
			relay.serve(1)
			c, err := net.Dial("tcp", relay.ready[0].Listen)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(patience))
			r := bufio.NewReader(c)
			answer := func() string {
				for {
					line, err := r.ReadString('\n')
					if err != nil || len(line) < 4 || line[3] == ' ' {
						return line
					}
				}
			}
			answer()
			for step := range strings.SplitSeq(tt.script, ";") {
				i := strings.LastIndexByte(step, ' ')
				fmt.Fprintf(c, "%s\r\n", step[:i])
				if got := answer(); !strings.HasPrefix(got, step[i+1:]) {
					t.Fatalf("%s: got %q, want %s", step[:i], got, step[i+1:])
				}
			}
		})
	}
}

// TestAPasswordIsToldInClearToMembersOnly: the author of what an MTA forwards may
// be anybody, and the notice would follow the mail through the same networks.
func TestAPasswordIsToldInClearToMembersOnly(t *testing.T) {
	sink := peer.StartSink(t)
	w, relay := newRelayWorld(t, sink.Addr, "password_notice = \"clear\"\n[policy]\ndefault = \"require\"\nmissing = \"password\"\n")
	relay.serve(1)
	err := handOver(relay.ready[0].Listen, "srs0=x@example.org", relayMail("friend@example.com", unknown, ""), unknown)
	if err == nil || !strings.Contains(err.Error(), "no certificate of yours") {
		t.Errorf("from an outsider: %v", err)
	}
	if got := sink.Received(); len(got) != 0 {
		t.Errorf("%d mails", len(got))
	}
	if err := handOver(relay.ready[0].Listen, "ann@example.org", relayMail("ann@example.org", unknown, ""), unknown); err != nil {
		t.Fatal(err)
	}
	got := sink.Await(t, 2)
	if locked, notice := peer.To(got, unknown), peer.To(got, "ann@example.org"); len(locked) != 1 || len(notice) != 1 || clear(locked[0]) || !strings.Contains(string(notice[0].Raw), "The password is") {
		t.Errorf("%d copies and %d notices", len(locked), len(notice))
	}
	noCanaryIn(t, w)
}

// TestWhatAPageIsLikeIsConfigured: [policy.password], which a reload changes too.
func TestWhatAPageIsLikeIsConfigured(t *testing.T) {
	sink := peer.StartSink(t)
	w, relay := newRelayWorld(t, sink.Addr, "password_notice = \"clear\"\n[policy]\ndefault = \"require\"\nmissing = \"password\"\n")
	relay.serve(1)
	at := relay.ready[0].Listen
	send := func(more string) error {
		return handOver(at, "ann@example.org", append(relayMail("ann@example.org", unknown, ""), more...), unknown)
	}
	if err := send(""); err != nil {
		t.Fatal(err)
	}
	if got := peer.To(sink.Await(t, 2), unknown); len(got) != 1 || !strings.Contains(string(got[0].Raw), "message.eml.asc") || !strings.Contains(string(got[0].Raw), "message.html") {
		t.Errorf("%d copies, or not with both", len(got))
	}
	w.configure("relay", relayConfig(w, "127.0.0.1:0", sink.Addr, "password_notice = \"clear\"\n[policy]\ndefault = \"require\"\nmissing = \"password\"\n[policy.password]\nopenpgp = false\nlimit = \"10kB\"\n"))
	relay.command("reload")
	if err := send(strings.Repeat("more than a few words\r\n", 500)); err == nil || !strings.Contains(err.Error(), "too large to be sent under a password") {
		t.Errorf("a longer one: %v", err)
	}
	if err := send("a few words\r\n"); err != nil {
		t.Fatal(err)
	}
	got := peer.To(sink.Await(t, 4), unknown)
	if len(got) != 2 || strings.Contains(string(got[1].Raw), "message.eml.asc") || !strings.Contains(string(got[1].Raw), "message.html") {
		t.Errorf("%d copies, the second with a copy for OpenPGP programs", len(got))
	}
	noCanaryIn(t, w)
}

package main_test

import (
	"bufio"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	gosmtp "github.com/emersion/go-smtp"

	"letterlock.org/letterlock/internal/mailtest"
	"letterlock.org/letterlock/internal/mailtest/peer"
)

// dialogue is a client's connection, spoken by hand.
type dialogue struct {
	t    testing.TB
	conn net.Conn
	r    *bufio.Reader
}

// talk connects and reads the greeting.
func talk(t testing.TB, at string) *dialogue {
	t.Helper()
	c, err := net.Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	d := &dialogue{t, c, bufio.NewReader(c)}
	c.SetDeadline(time.Now().Add(patience))
	if got := d.answer(); !strings.HasPrefix(got, "220") {
		t.Fatalf("greeting %q", got)
	}
	return d
}

// answer is the whole of a reply, its last line alone where it has several.
func (d *dialogue) answer() string {
	for {
		line, err := d.r.ReadString('\n')
		if err != nil || len(line) < 4 || line[3] == ' ' {
			return line
		}
	}
}

// say sends one line, which must be answered by what begins with want.
func (d *dialogue) say(line, want string) {
	d.t.Helper()
	fmt.Fprintf(d.conn, "%s\r\n", line)
	if got := d.answer(); !strings.HasPrefix(got, want) {
		d.t.Fatalf("%.60s: got %q, want %s", line, got, want)
	}
}

// ends: the server has closed the connection.
func (d *dialogue) ends() {
	d.t.Helper()
	if line, err := d.r.ReadString('\n'); err == nil {
		d.t.Fatalf("the connection stays, and says %q", line)
	}
}

// tls goes on under TLS with a client certificate, and gives the server's.
func (d *dialogue) tls(trust *x509.CertPool, cert *tls.Certificate) *x509.Certificate {
	d.t.Helper()
	d.say("STARTTLS", "220")
	conf := &tls.Config{ServerName: "127.0.0.1", RootCAs: trust}
	if cert != nil {
		conf.Certificates = []tls.Certificate{*cert}
	}
	c := tls.Client(d.conn, conf)
	if err := c.Handshake(); err != nil {
		d.t.Fatal(err)
	}
	d.conn, d.r = c, bufio.NewReader(c)
	d.say("EHLO client", "250")
	return c.ConnectionState().PeerCertificates[0]
}

// login is AUTH PLAIN.
func (d *dialogue) login(user, password, want string) {
	d.t.Helper()
	d.say("AUTH PLAIN "+base64.StdEncoding.EncodeToString([]byte("\x00"+user+"\x00"+password)), want)
}

// TestReloadOfARelay: who is taken out of [relay] is out at the next command, in
// the middle of a message too; who is put in is in; and all else that can change
// while it runs has changed.
func TestReloadOfARelay(t *testing.T) {
	one, two := peer.StartSink(t), peer.StartSink(t, func(s *gosmtp.Server) { s.EnableDSN = true })
	w, _ := newRelayWorld(t, one.Addr, "")
	mine := clientCert(t, "app", nil)
	print := sha256.Sum256(mine.Certificate[0])
	certA, keyA, trustA := peer.Certificate(t, filepath.Join(w.dir, "a"))
	certB, keyB, trustB := peer.Certificate(t, filepath.Join(w.dir, "b"))
	certFile, keyFile := filepath.Join(w.dir, "server.pem"), filepath.Join(w.dir, "server.key")
	show := func(cert, key string) {
		for from, to := range map[string]string{cert: certFile, key: keyFile} {
			b, err := os.ReadFile(from)
			if err == nil {
				err = os.WriteFile(to, b, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	show(certA, keyA)
	shown := fmt.Sprintf("tls_certificate = %q\ntls_key = %q\n", certFile, keyFile)
	before := shown + fmt.Sprintf("trusted = [\"192.0.2.1\"]\nclient_certificates = { %q = \"app@example.org\" }\nusers = { \"ann@example.org\" = \"own\", \"mta@example.org\" = \"any\" }\n", hex.EncodeToString(print[:]))
	relay := w.configure("relay", relayConfig(w, "127.0.0.1:0", one.Addr, before))
	ann, mta := strings.TrimSpace(relay.command("relay", "password", "ann@example.org")), strings.TrimSpace(relay.command("relay", "password", "mta@example.org"))
	relay.serve(1)
	at := relay.ready[0].Listen
	enter := func(trust *x509.CertPool, cert *tls.Certificate) *dialogue {
		t.Helper()
		d := talk(t, at)
		d.say("EHLO client", "250")
		d.tls(trust, cert)
		return d
	}
	idle, within, asMTA, app := enter(trustA, nil), enter(trustA, nil), enter(trustA, nil), enter(trustA, &mine)
	idle.login("ann@example.org", ann, "235")
	within.login("ann@example.org", ann, "235")
	within.say("MAIL FROM:<ann@example.org>", "250")
	within.say("RCPT TO:<"+unknown+">", "250")
	asMTA.login("mta@example.org", mta, "235")
	asMTA.say("MAIL FROM:<boss@example.org>", "250")
	asMTA.say("RCPT TO:<"+unknown+">", "250")
	app.say("MAIL FROM:<app@example.org>", "250")

	// Ann and the certificate go, the MTA's login stays, Ben comes; there is another
	// smarthost, another certificate in the same file, and a DKIM key.
	_, dkimKey, _ := ed25519.GenerateKey(rand.Reader)
	der, err := x509.MarshalPKCS8PrivateKey(dkimKey)
	if err != nil {
		t.Fatal(err)
	}
	dkim := w.file("dkim.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
	show(certB, keyB)
	after := shown + fmt.Sprintf("trusted = [\"192.0.2.1\"]\nusers = { \"ben@example.org\" = \"own\", \"mta@example.org\" = \"any\" }\ndkim = { domain = \"example.org\", selector = \"s\", key = %q }\n", dkim)
	w.configure("relay", relayConfig(w, "127.0.0.1:0", two.Addr, after+"[policy]\n[[policy.rule]]\nname = \"new\"\nto = [\"*@example.com\"]\nmode = \"refuse\"\n"))
	relay.command("reload")

	idle.say("NOOP", "421")
	idle.ends()
	within.say("DATA", "421")
	within.ends()
	app.say("RCPT TO:<"+unknown+">", "421")
	app.ends()
	enter(trustB, nil).login("ann@example.org", ann, "535")
	enter(trustB, &mine).say("MAIL FROM:<app@example.org>", "530")
	ben := strings.TrimSpace(relay.command("relay", "password", "ben@example.org"))
	newcomer := enter(trustB, nil)
	newcomer.login("ben@example.org", ben, "235")
	newcomer.say("MAIL FROM:<ben@example.org>", "250")
	newcomer.say("RCPT TO:<"+unknown+">", "550")
	newcomer.say("QUIT", "221")

	// What the new smarthost can is asked at once, and then offered.
	newcomer = enter(trustB, nil)
	newcomer.offers("DSN")

	// What the MTA had begun it may end: by the rules of now.
	asMTA.say("DATA", "354")
	asMTA.say(strings.TrimSuffix(string(relayMail("boss@example.org", unknown, "")), "\r\n")+"\r\n.", "550")
	asMTA.say("MAIL FROM:<boss@example.org>", "250")
	asMTA.say("RCPT TO:<"+known+">", "250")
	asMTA.say("DATA", "354")
	asMTA.say(strings.TrimSuffix(string(relayMail("boss@example.org", known, "")), "\r\n")+"\r\n.", "250")
	if got := two.Await(t, 1)[0]; clear(got) || !strings.HasPrefix(string(got.Raw), "DKIM-Signature:") {
		t.Errorf("through the new smarthost, in clear %v:\n%.300s", clear(got), got.Raw)
	}
	if n := len(one.Received()); n > 0 {
		t.Errorf("%d mails through the old smarthost", n)
	}

	// What takes a restart is told of, as long as it holds.
	w.configure("relay", relayConfig(w, "127.0.0.1:1", two.Addr, after+"inbound = { listen = \"127.0.0.1:0\", smarthost = \"smtp+insecure://127.0.0.1:1\" }\n"))
	relay.command("reload")
	if got := relay.command("status"); !strings.Contains(got, "take a restart: relay.listen, relay.inbound.listen") {
		t.Errorf("status after a change of listeners:\n%s", got)
	}
	if log, _ := os.ReadFile(relay.log); !strings.Contains(string(log), "this change takes a restart\" setting=relay.listen") {
		t.Error("the log has nothing of it")
	}
	enter(trustB, nil).login("ben@example.org", ben, "235") // still at the old listener
	w.configure("relay", relayConfig(w, "127.0.0.1:0", two.Addr, after))
	relay.command("reload")
	if got := relay.command("status"); strings.Contains(got, "take a restart") {
		t.Errorf("status after it was taken back:\n%s", got)
	}

	// What is wrong in any part changes nothing at all.
	w.configure("relay", relayConfig(w, "127.0.0.1:0", two.Addr, shown+"trusted = [\"192.0.2.1\"]\nusers = { \"cas@example.org\" = \"own\" }\nsign = \"domain\"\ndomain_key = \"nobody@example.org\"\n"))
	if got := relay.fails(3, "reload"); !strings.Contains(got, "letterlock key generate nobody@example.org") {
		t.Errorf("it says %s", got)
	}
	enter(trustB, nil).login("ben@example.org", ben, "235")
	noCanaryIn(t, w)
}

// TestXCLIENTEndsWithItsNetwork: what an MTA said of its clients counts as long as the
// MTA is trusted.
func TestXCLIENTEndsWithItsNetwork(t *testing.T) {
	sink := peer.StartSink(t)
	w, _ := newRelayWorld(t, sink.Addr, "")
	relay := w.configure("relay", relayConfig(w, "127.0.0.1:0", sink.Addr, `trusted = ["127.0.0.1", "10.0.0.0/8"]`))
	relay.serve(1)
	d := talk(t, relay.ready[0].Listen)
	d.say("EHLO mta", "250")
	d.say("XCLIENT ADDR=10.1.2.3", "220")
	d.say("EHLO inside", "250")
	d.say("MAIL FROM:<ann@example.org>", "250")
	w.configure("relay", relayConfig(w, "127.0.0.1:0", sink.Addr, `trusted = ["10.0.0.0/8"]`))
	relay.command("reload")
	d.say("RCPT TO:<"+unknown+">", "421")
	d.ends()
}

// TestAnAccountThatIsTakenAway: whose [[bridge]] is gone is out at the next command,
// and the others stay.
func TestAnAccountThatIsTakenAway(t *testing.T) {
	up, err := mailtest.Start(mailtest.Options{Users: map[string]string{alice: "upstream-alice", bob: "upstream-bob"}})
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	w := newWorld(t, up)
	account := func(address string) string {
		return fmt.Sprintf("[[bridge]]\naddress = %q\nupstream_password = \"file:%s\"\nsmtp = { %s }\n", address, w.file("pw", "upstream-"+strings.Split(address, "@")[0]+"\n"), w.smtp)
	}
	both := w.configure("both", account(alice)+account(bob))
	passwords := map[string]string{}
	for _, a := range []string{alice, bob} {
		both.command("account", "add", a)
		var shown struct{ Password string }
		if err := json.Unmarshal([]byte(both.command("account", "show", a, "--json")), &shown); err != nil {
			t.Fatal(err)
		}
		passwords[a] = shown.Password
	}
	both.serve(2)
	sessions := map[string]*dialogue{}
	for i, a := range []string{alice, bob} {
		d := talk(t, both.ready[i].Listen)
		d.say("EHLO client", "250")
		d.login(a, passwords[a], "235")
		d.say("MAIL FROM:<"+a+">", "250")
		sessions[a] = d
	}
	w.configure("both", account(bob))
	both.command("reload")
	sessions[alice].say("RSET", "421")
	sessions[alice].ends()
	sessions[bob].say("RSET", "250")
	sessions[bob].say("MAIL FROM:<"+bob+">", "250")
}

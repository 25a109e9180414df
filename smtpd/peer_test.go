package smtpd_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/mailtest/peer"
	"letterlock.org/letterlock/pgp"
	"letterlock.org/letterlock/smtpd"
	"letterlock.org/letterlock/smtpd/queue"
)

// TestThroughPostfix submits with other people's programs, through us, to a real
// Postfix, and reads what it delivered.
func TestThroughPostfix(t *testing.T) {
	if testing.Short() {
		t.Skip("starts Postfix and Dovecot")
	}
	p := peer.Postfix(t)
	ca, err := os.ReadFile(p.CA)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	for _, mode := range []smtpd.TLSMode{smtpd.STARTTLS, smtpd.ImplicitTLS} {
		at := map[smtpd.TLSMode]string{smtpd.STARTTLS: p.Addr, smtpd.ImplicitTLS: p.TLSAddr}[mode]
		up := smtpd.Upstream{Mode: mode, TLS: &tls.Config{RootCAs: pool, ServerName: "127.0.0.1"}, User: peer.Alice, Password: peer.AlicePassword, Name: at,
			Dial: func(ctx context.Context) (net.Conn, error) { return (&net.Dialer{}).DialContext(ctx, "tcp", at) }}
		caps, err := smtpd.Probe(t.Context(), up, smtpd.Timeouts{})
		if err != nil || !caps.EightBit || !caps.DSN || caps.Size == 0 {
			t.Errorf("%s: Probe: %+v, %v", mode, caps, err)
		}
		b := newBridge(t, newUpstream(t), func(c *smtpd.Config, a *smtpd.Account, _ *queue.Config) {
			a.Upstream, a.Addresses = up, []address.Address{addr(peer.Alice)}
			a.Signer = func(context.Context, address.Address) (pgp.Signer, error) { return key(t, peer.Alice), nil }
			a.Find = directory{t: t, has: []string{peer.Bob}}
			c.Timeouts = smtpd.Timeouts{}
		})
		for name, args := range clients(t, b.addr) {
			t.Run(string(mode)+"/"+name, func(t *testing.T) {
				peer.Require(t, args[0])
				ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
				defer cancel()
				if out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput(); err != nil {
					t.Fatalf("%v: %v\n%s", args, err, out)
				}
			})
		}
		b.stop()
	}
	want := 2 * len(clients(t, ""))
	bob := p.Dovecot.Client(t, peer.Bob)
	eventually(t, "Postfix delivers", func() bool {
		box, err := bob.Select("INBOX", nil).Wait()
		return err == nil && int(box.NumMessages) >= want
	})
	msgs, err := bob.Fetch(imap.SeqSet{{Start: 1, Stop: 0}}, &imap.FetchOptions{BodySection: []*imap.FetchItemBodySection{{}}}).Collect()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range msgs {
		text := string(m.BodySection[0].Bytes)
		if !strings.Contains(text, "BEGIN PGP MESSAGE") || strings.Contains(text, canary) {
			t.Errorf("Bob's server has:\n%s", text)
		}
	}
	if strings.Contains(string(p.Queue(t)), canary) {
		t.Error("Postfix has the canary in its queue")
	}
}

// clients are the programs that submit, with their arguments.
func clients(t *testing.T, at string) map[string][]string {
	file := filepath.Join(t.TempDir(), "mail")
	msg := strings.ReplaceAll(letter("peer", peer.Bob), "Message-ID: <peer@example.org>\r\n", "")
	msg = strings.ReplaceAll(msg, "alice@example.org", peer.Alice)
	if err := os.WriteFile(file, []byte(msg), 0o600); err != nil {
		t.Fatal(err)
	}
	host, port, _ := net.SplitHostPort(at)
	return map[string][]string{
		"curl": {"curl", "-sS", "--url", "smtp://" + at, "--user", "alice@example.org:pw", "--mail-from", peer.Alice, "--mail-rcpt", peer.Bob, "--upload-file", file},
		"swaks": {"swaks", "--server", host, "--port", port, "--auth", "LOGIN", "--auth-user", "alice@example.org", "--auth-password", "pw",
			"--from", peer.Alice, "--to", peer.Bob, "--data", "@" + file},
		"python": {"python3", "-c", `
import smtplib, sys
s = smtplib.SMTP(sys.argv[1], int(sys.argv[2])); s.login("alice@example.org", "pw")
s.sendmail("` + peer.Alice + `", [sys.argv[3]], open(sys.argv[4], "rb").read(), mail_options=["BODY=8BITMIME"], rcpt_options=["NOTIFY=FAILURE"]); s.quit()`, host, port, peer.Bob, file},
	}
}

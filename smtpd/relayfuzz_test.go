package smtpd_test

import (
	"strings"
	"testing"
)

// FuzzRelayedHeader: whatever header comes from an MTA, who has a certificate
// gets it encrypted or nobody gets anything, and the server lives.
func FuzzRelayedHeader(f *testing.F) {
	for _, seed := range []string{
		"From: a@example.org", "From: a@example.org\nFrom: b@example.org", "From:\nSender: x", "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: multipart/encrypted\n",
		"Content-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\"; boundary=b\nFrom: a@example.org", "Resent-From: a@example.org\nFrom: a, b: c;",
		"Received: from x (Letterlock t0ken)", "\n-----BEGIN PGP MESSAGE-----\n", "From: a@example.org\nContent-Transfer-Encoding: base64", "From : =?utf-8?q?x?= <a@example.org>",
	} {
		f.Add(seed)
	}
	u := newUpstream(f)
	b := newBridge(f, u, asRelay())
	f.Fuzz(func(t *testing.T, head string) {
		k := (&bridge{t: t, addr: b.addr}).mta()
		defer k.c.Close()
		mail := strings.ReplaceAll(strings.ReplaceAll(head, "\r", ""), "\n", "\r\n") + "\r\n\r\n" + canary + "\r\n"
		reply := k.hand(mail, "a@example.org", "bob@example.net")
		if len(reply) < 3 || strings.HasPrefix(reply, "(") {
			t.Fatalf("the server hung up: %q", reply)
		}
		if u.saw(canary) {
			t.Fatalf("in clear for who has a certificate, with %q", reply)
		}
	})
}

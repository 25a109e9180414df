package pgp_test

import (
	"bytes"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"letterlock.org/letterlock/pgp"
)

func TestWithdraw(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	alice := addr(t, "alice@example.org")
	ca, stranger := keyAt(t, "openpgp-ca@example.org", testNow.Add(-9*day)), keyAt(t, "openpgp-ca@example.org", testNow.Add(-9*day))
	plain := keyAt(t, "alice@example.org", testNow.Add(-9*day)).Certificate()
	do := func(c *pgp.Certificate, err error) *pgp.Certificate {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	certify := func(c *pgp.Certificate, at time.Time) *pgp.Certificate {
		return do(pgp.Certify(ca, c, alice, pgp.Certification{}, at))
	}
	withdraw := func(by *pgp.Key, c *pgp.Certificate, at time.Time) *pgp.Certificate {
		return do(pgp.Withdraw(by, c, alice, at))
	}
	one := certify(plain, testNow.Add(-8*day))
	gone := withdraw(ca, one, testNow.Add(-7*day))
	minimal := func(c *pgp.Certificate) *pgp.Certificate { return do(c.Minimal(alice, testNow, ca.Certificate())) }
	for _, tt := range []struct {
		name string
		c    *pgp.Certificate
		want bool
	}{
		{"what was certified is", one, true},
		{"what was withdrawn isn't", gone, false},
		{"nor once it came to an older copy", do(pgp.Merge(one, withdraw(ca, plain, testNow.Add(-7*day)))), false},
		{"a stranger withdraws nothing", withdraw(stranger, one, testNow.Add(-7*day)), true},
		{"what is certified anew counts", certify(gone, testNow.Add(-6*day)), true},
		{"what is published tells of the withdrawal", do(pgp.Merge(one, minimal(gone))), false},
		{"and of what was certified anew", minimal(certify(gone, testNow.Add(-6*day))), true},
		{"an older copy that is given later changes nothing", do(one.Withdrawn(gone, alice, ca.Certificate())), false},
		{"nor does one that knows nothing of it", do(gone.Withdrawn(one, alice, ca.Certificate())), false},
		{"whose word was not approved is not taken over", do(one.Withdrawn(withdraw(stranger, one, testNow), alice, ca.Certificate())), true},
	} {
		if _, ok := tt.c.CertifiedBy(ca.Certificate(), alice, testNow); ok != tt.want {
			t.Errorf("%s: certified: %v", tt.name, ok)
		}
	}
	if n := len(minimal(gone).Bytes()) - len(minimal(plain).Bytes()); n > 200 {
		t.Errorf("a withdrawal is %d bytes", n)
	}
	if same := do(one.Withdrawn(plain, alice, ca.Certificate())); same != one {
		t.Error("nothing was withdrawn, and the certificate is another")
	}
	if _, err := pgp.Withdraw(ca, plain, addr(t, "bob@example.org"), testNow); !errors.Is(err, pgp.ErrUnusable) {
		t.Errorf("of an address that it doesn't name: %v", err)
	}
	// No number of signatures that pretend to be the authority's hides its own.
	forged := func(c *pgp.Certificate, kind byte, n int) *pgp.Certificate {
		for i := range n {
			raw := bytes.Clone(lastSignature(t, withdraw(ca, plain, testNow.Add(time.Duration(-i-1)*time.Hour))))
			raw[3] = kind // the type, behind a header of two bytes and the version
			c = do(pgp.Merge(c, oneOf(t, slices.Concat(userIDPart(t, plain), raw))))
		}
		return c
	}
	if _, ok := do(pgp.Merge(forged(one, 0x13, 70), gone)).CertifiedBy(ca.Certificate(), alice, testNow); ok {
		t.Error("a withdrawal behind 70 forged certifications doesn't count")
	}
	if _, ok := do(pgp.Merge(forged(one, 0x13, 70), one)).CertifiedBy(ca.Certificate(), alice, testNow); !ok {
		t.Error("a certification before 70 forged ones doesn't count")
	}
}

// userIDPart is a certificate up to its user ID.
func userIDPart(t testing.TB, c *pgp.Certificate) []byte {
	t.Helper()
	var out bytes.Buffer
	for _, p := range opaque(t, c) {
		if err := p.Serialize(&out); err != nil {
			t.Fatal(err)
		}
		if p.Tag == 13 {
			break
		}
	}
	return out.Bytes()
}

// lastSignature is the last one under the user ID.
func lastSignature(t testing.TB, c *pgp.Certificate) []byte {
	t.Helper()
	var last *packet.OpaquePacket
	seen := false
	for _, p := range opaque(t, c) {
		switch {
		case p.Tag == 13:
			seen = true
		case seen && p.Tag == 2:
			last = p
		case seen:
			seen = false
		}
	}
	var out bytes.Buffer
	if err := last.Serialize(&out); err != nil || out.Bytes()[1] >= 192 {
		t.Fatal(err)
	}
	return out.Bytes()
}

func opaque(t testing.TB, c *pgp.Certificate) (all []*packet.OpaquePacket) {
	t.Helper()
	r := packet.NewOpaqueReader(bytes.NewReader(c.Bytes()))
	for {
		p, err := r.Next()
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

func oneOf(t testing.TB, b []byte) *pgp.Certificate {
	t.Helper()
	certs, err := pgp.ParseCertificates(b)
	if err != nil || len(certs) != 1 {
		t.Fatal(err)
	}
	return certs[0]
}

// GnuPG reads a withdrawal as we mean it.
func TestWithdrawalInGPG(t *testing.T) {
	t.Parallel()
	withPeers(t, []peer{gpgPeer()}, func(t *testing.T, _ peer, w *workshop, alice, _ *pgp.Key) {
		t.Cleanup(func() { _ = exec.Command("gpgconf", "--homedir", w.dir, "--kill", "gpg-agent").Run() })
		ca := makeKey(t, "openpgp-ca@example.org")
		a := addr(t, alice.Certificate().UserIDs()[0])
		c, err := pgp.Certify(ca, alice.Certificate(), a, pgp.Certification{}, testNow)
		if err == nil {
			c, err = pgp.Withdraw(ca, c, a, testNow.Add(time.Second))
		}
		if err != nil {
			t.Fatal(err)
		}
		gpg := func(in []byte, args ...string) string {
			cmd := exec.Command("gpg", append([]string{"--homedir", w.dir, "--batch", "--with-colons"}, args...)...)
			cmd.Stdin = bytes.NewReader(in)
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("gpg %v: %v\n%s", args, err, out)
			}
			return string(out)
		}
		gpg(append(bytes.Clone(c.Bytes()), ca.Certificate().Bytes()...), "--import")
		if sigs := gpg(nil, "--check-sigs", "--no-auto-check-trustdb"); !strings.Contains(sigs, "rev:!:") || strings.Contains(sigs, "rev:-:") {
			t.Errorf("gpg --check-sigs:\n%s", sigs)
		}
	})
}

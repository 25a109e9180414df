package pgp_test

import (
	"bytes"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"letterlock.org/letterlock/pgp"
)

func keyAt(t testing.TB, s string, at time.Time) *pgp.Key {
	t.Helper()
	k, err := pgp.GenerateKey(addr(t, s), pgp.DefaultProfile, at)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func revoked(t testing.TB, k *pgp.Key, why pgp.Reason, at time.Time) *pgp.Certificate {
	t.Helper()
	r, err := pgp.Revoke(k, why, at)
	if err != nil {
		t.Fatal(err)
	}
	return r.Certificate()
}

func TestSucceeds(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	alice := addr(t, "alice@example.org")
	old, stranger := keyAt(t, "alice@example.org", testNow.Add(-100*day)), keyAt(t, "alice@example.org", testNow.Add(-100*day))
	fresh := keyAt(t, "alice@example.org", testNow)
	next, err := pgp.Replace(fresh, old, alice, testNow)
	if err != nil {
		t.Fatal(err)
	}
	if next.Fingerprint() != fresh.Fingerprint() || next.CheckSign(testNow) != nil {
		t.Fatalf("Replace changed the key: %v", next.CheckSign(testNow))
	}
	later := testNow.Add(time.Hour)
	other, err := pgp.Certify(old, keyAt(t, "mallory@example.org", testNow).Certificate(), addr(t, "mallory@example.org"), pgp.Certification{}, testNow)
	if err != nil {
		t.Fatal(err)
	}
	brief, err := pgp.Certify(old, fresh.Certificate(), alice, pgp.Certification{Expires: testNow.Add(time.Minute)}, testNow)
	if err != nil {
		t.Fatal(err)
	}
	weak := weakKey(t, "alice@example.org", testNow.Add(-100*day))
	byWeak := engineCertified(t, weak, fresh.Certificate(), "alice@example.org", testNow)
	for _, tt := range []struct {
		name string
		next *pgp.Certificate
		old  *pgp.Certificate
		at   time.Time
		want bool
	}{
		{"a certified key takes the old one's place", next.Certificate(), old.Certificate(), later, true},
		{"as soon as it is made, though our clock is slow", next.Certificate(), old.Certificate(), testNow.Add(-9 * time.Minute), true},
		{"but not one that is made tomorrow", next.Certificate(), old.Certificate(), testNow.Add(-day), false},
		{"one that isn't certified doesn't", fresh.Certificate(), old.Certificate(), later, false},
		{"nor by another's word", next.Certificate(), stranger.Certificate(), later, false},
		{"nor one of another address", other, old.Certificate(), later, false},
		{"nor by a certification that has expired", brief, old.Certificate(), later, false},
		{"nor one that has expired itself", next.Certificate(), old.Certificate(), testNow.Add(731 * day), false},
		{"an old key that was superseded afterwards keeps its word", next.Certificate(), revoked(t, old, pgp.Superseded, later), later.Add(day), true},
		{"one that was retired afterwards too", next.Certificate(), revoked(t, old, pgp.Retired, later), later.Add(day), true},
		{"one that was superseded before has no word", next.Certificate(), revoked(t, old, pgp.Superseded, testNow.Add(-day)), later, false},
		{"a compromised key never has", next.Certificate(), revoked(t, old, pgp.Compromised, later), later.Add(day), false},
		{"an old key that ended lately has", next.Certificate(), old.Certificate(), old.Certificate().Expires().Add(29 * day), true},
		{"one that ended long ago hasn't", next.Certificate(), old.Certificate(), old.Certificate().Expires().Add(31 * day), false},
		{"a weak key's word doesn't count", byWeak, weak.Certificate(), later, false},
	} {
		if got := tt.next.Succeeds(tt.old, alice, tt.at); got != tt.want {
			t.Errorf("%s: got %v", tt.name, got)
		}
	}
	if _, err := pgp.Certify(old, old.Certificate(), alice, pgp.Certification{}, testNow); !errors.Is(err, pgp.ErrUnusable) {
		t.Errorf("a key certified itself: %v", err)
	}
	gone, _ := pgp.Revoke(old, pgp.Superseded, testNow)
	if _, err := pgp.Replace(fresh, gone, alice, later); !errors.Is(err, pgp.ErrRevoked) {
		t.Errorf("a revoked key named a successor: %v", err)
	}
}

// What is published and sent along keeps the old key's word and nobody else's.
func TestMinimalKeepsApprovedCertifications(t *testing.T) {
	t.Parallel()
	alice := addr(t, "alice@example.org")
	old, ca, stranger := makeKey(t, "alice@example.org"), makeKey(t, "openpgp-ca@example.org"), makeKey(t, "eve@example.net")
	k, err := pgp.Replace(makeKey(t, "alice@example.org"), old, alice, testNow)
	if err != nil {
		t.Fatal(err)
	}
	c := k.Certificate()
	for _, by := range []*pgp.Key{stranger, ca, ca} {
		if c, err = pgp.Certify(by, c, alice, pgp.Certification{}, testNow.Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	later := testNow.Add(time.Hour)
	bare, err := c.Minimal(alice, later)
	if err != nil {
		t.Fatal(err)
	}
	kept, err := c.Minimal(alice, later, ca.Certificate(), old.Certificate(), c)
	if err != nil {
		t.Fatal(err)
	}
	says := func(c *pgp.Certificate) (out string) {
		for _, by := range []*pgp.Key{old, ca, stranger} {
			if _, ok := c.CertifiedBy(by.Certificate(), alice, later); ok {
				out += by.Certificate().UserIDs()[0] + " "
			}
		}
		return out
	}
	if got := says(bare); got != "" {
		t.Errorf("without approval kept: %s", got)
	}
	if got, want := says(kept), "alice@example.org openpgp-ca@example.org "; got != want {
		t.Errorf("kept %q, want %q", got, want)
	}
	if n := len(kept.Bytes()) - len(bare.Bytes()); n > 500 {
		t.Errorf("two signatures are %d bytes", n)
	}
	mail := protect(t, crlf("From: alice@example.org\nTo: eve@example.net\nSubject: x\nDate: Mon, 02 Jan 2006 15:04:05 +0000\n\nhi\n"),
		pgp.Protection{Signer: k, Recipients: []*pgp.Certificate{stranger.Certificate()}, Autocrypt: c, From: alice, Now: later})
	inner, _ := decrypted(t, mail, k, stranger)
	_, data, found := strings.Cut(parseMail(t, inner).Header.Get("Autocrypt"), "keydata=")
	raw, err := base64.StdEncoding.DecodeString(strings.Map(func(r rune) rune {
		if strings.ContainsRune(" \r\n", r) {
			return -1
		}
		return r
	}, data))
	if !found || err != nil {
		t.Fatalf("Autocrypt: %v in\n%s", err, inner)
	}
	sent, err := pgp.ParseCertificates(raw)
	if err != nil || says(sent[0]) != "alice@example.org " {
		t.Errorf("the Autocrypt header tells %q, %v", says(sent[0]), err)
	}
}

// A trust signature is scoped to the domain, and GnuPG agrees with both kinds.
func TestCertificationsInGPG(t *testing.T) {
	t.Parallel()
	withPeers(t, []peer{gpgPeer()}, func(t *testing.T, _ peer, w *workshop, alice, _ *pgp.Key) {
		t.Cleanup(func() { _ = exec.Command("gpgconf", "--homedir", w.dir, "--kill", "gpg-agent").Run() })
		ca := makeKey(t, "openpgp-ca@example.org")
		a := addr(t, alice.Certificate().UserIDs()[0])
		c, err := pgp.Certify(ca, alice.Certificate(), a, pgp.Certification{Expires: testNow.Add(365 * 24 * time.Hour)}, testNow)
		if err != nil {
			t.Fatal(err)
		}
		trusted, err := pgp.Certify(alice, ca.Certificate(), addr(t, "openpgp-ca@example.org"), pgp.Certification{Depth: 1, Scope: "example.org"}, testNow)
		if err != nil {
			t.Fatal(err)
		}
		s, ok := trusted.CertifiedBy(alice.Certificate(), addr(t, "openpgp-ca@example.org"), testNow)
		if !ok || s.Depth != 1 || s.Scope != `<[^>]+[@.]example\.org>$` {
			t.Errorf("the trust signature says %+v", s)
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
		gpg(append(bytes.Clone(c.Bytes()), trusted.Bytes()...), "--import")
		sigs := gpg(nil, "--check-sigs", "--no-auto-check-trustdb")
		good := strings.Count(sigs, "sig:!:")
		if strings.Contains(sigs, "sig:-:") || strings.Contains(sigs, "sig:%:") || good < 4 || !strings.Contains(sigs, "1 120") {
			t.Errorf("gpg --check-sigs:\n%s", sigs)
		}
	})
}

// weakKey is an RSA key of 1024 bits, made by the engine.
func weakKey(t testing.TB, s string, at time.Time) *pgp.Key {
	t.Helper()
	config := &packet.Config{Algorithm: packet.PubKeyAlgoRSA, RSABits: 1024, Time: func() time.Time { return at }}
	e, err := openpgp.NewEntity(s, "", "", config)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := e.SerializePrivateWithoutSigning(&b, nil); err != nil {
		t.Fatal(err)
	}
	keys, err := pgp.ParseKeys(b.Bytes(), nil)
	if err != nil || len(keys) != 1 {
		t.Fatalf("ParseKeys: %v", err)
	}
	if _, ok := e.PrimaryKey.PublicKey.(*rsa.PublicKey); !ok {
		t.Fatal("not an RSA key")
	}
	return keys[0]
}

// engineCertified is c with a certification that our own code would not make.
func engineCertified(t testing.TB, by *pgp.Key, c *pgp.Certificate, id string, at time.Time) *pgp.Certificate {
	t.Helper()
	return engineStatement(t, by, c, id, &packet.Config{Time: func() time.Time { return at }, MinRSABits: 512})
}

func engineStatement(t testing.TB, by *pgp.Key, c *pgp.Certificate, id string, config *packet.Config) *pgp.Certificate {
	t.Helper()
	ring, err := openpgp.ReadKeyRing(bytes.NewReader(by.Marshal()))
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := openpgp.ReadKeyRing(bytes.NewReader(c.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	sig := &packet.Signature{SigType: packet.SigTypePositiveCert, PubKeyAlgo: ring[0].PrivateKey.PubKeyAlgo, Version: ring[0].PrivateKey.Version,
		Hash: config.Hash(), CreationTime: config.Now(), IssuerKeyId: &ring[0].PrivateKey.KeyId, IssuerFingerprint: ring[0].PrivateKey.Fingerprint}
	if err := sig.SignUserId(id, theirs[0].PrimaryKey, ring[0].PrivateKey, config); err != nil {
		t.Fatal(err)
	}
	theirs[0].Identities[id].OtherCertifications = append(theirs[0].Identities[id].OtherCertifications, packet.NewVerifiableSig(sig))
	var b bytes.Buffer
	if err := theirs[0].Serialize(&b); err != nil {
		t.Fatal(err)
	}
	certs, err := pgp.ParseCertificates(b.Bytes())
	if err != nil || len(certs) != 1 {
		t.Fatal(err)
	}
	return certs[0]
}

// What a stranger writes into a certificate makes no certification, and costs
// nobody a panic.
func FuzzCertifications(f *testing.F) {
	old, ca := keyAt(f, "alice@example.org", testNow), keyAt(f, "openpgp-ca@example.org", testNow)
	alice := addr(f, "alice@example.org")
	fresh := keyAt(f, "alice@example.org", testNow)
	next, err := pgp.Replace(fresh, old, alice, testNow)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(next.Certificate().Bytes())
	f.Add(fresh.Certificate().Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		certs, _ := pgp.ParseCertificates(b)
		for _, c := range certs {
			if _, ok := c.CertifiedBy(ca.Certificate(), alice, testNow); ok {
				t.Error("certified by a key that certified nothing")
			}
			succeeds := c.Succeeds(old.Certificate(), alice, testNow)
			if succeeds && c.Fingerprint() != next.Fingerprint() {
				t.Error("another key is the successor")
			}
			m, err := c.Minimal(alice, testNow, old.Certificate(), ca.Certificate())
			if err == nil && m.Succeeds(old.Certificate(), alice, testNow) != succeeds {
				t.Error("what is published is judged otherwise")
			}
		}
	})
}

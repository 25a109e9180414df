package pgp_test

import (
	"bytes"
	"errors"
	"os/exec"
	"testing"
	"time"

	"letterlock.org/letterlock/pgp"
)

func TestRevoke(t *testing.T) {
	t.Parallel()
	for _, why := range []pgp.Reason{pgp.Compromised, pgp.Superseded, pgp.Retired} {
		k := makeKey(t, "alice@example.org")
		later := testNow.Add(time.Hour)
		gone, err := pgp.Revoke(k, why, later)
		if err != nil {
			t.Fatal(err)
		}
		cert := gone.Certificate()
		if gone.Fingerprint() != k.Fingerprint() || !cert.Revoked(later.Add(time.Minute)) || k.Certificate().Revoked(later.Add(time.Minute)) {
			t.Errorf("%s: revoked %v", why, cert.Revoked(later.Add(time.Minute)))
		}
		if err := cert.CheckEncrypt(later.Add(time.Minute)); !errors.Is(err, pgp.ErrRevoked) {
			t.Errorf("%s: CheckEncrypt: %v", why, err)
		}
		if err := gone.CheckSign(later.Add(time.Minute)); !errors.Is(err, pgp.ErrRevoked) {
			t.Errorf("%s: CheckSign: %v", why, err)
		}
		for p := range packetsOf(t, k.Marshal()) {
			if !bytes.Contains(gone.Marshal(), p.Contents) {
				t.Errorf("%s: packet %d is gone", why, p.Tag)
			}
		}
		bare, ok := cert.RevocationOnly()
		if !ok || len(bare.UserIDs()) != 0 || !bare.Revoked(later.Add(time.Minute)) || bytes.Contains(bare.Bytes(), []byte("alice")) {
			t.Errorf("%s: the bare revocation: %v", why, ok)
		}
		if merged, err := pgp.Merge(k.Certificate(), bare); err != nil || !merged.Revoked(later.Add(time.Minute)) {
			t.Errorf("%s: merged with it: %v", why, err)
		}
		if _, err := pgp.Extend(gone, later.Add(time.Hour)); !errors.Is(err, pgp.ErrRevoked) {
			t.Errorf("%s: a revoked key was extended: %v", why, err)
		}
	}
	if _, err := pgp.Revoke(makeKey(t, "alice@example.org"), "bored", testNow); err == nil {
		t.Error("revoked for no reason")
	}
	if _, ok := makeKey(t, "alice@example.org").Certificate().RevocationOnly(); ok {
		t.Error("a key that isn't revoked has a revocation")
	}
}

// GnuPG takes a bare revocation to the certificate that it has.
func TestRevokedKeyInGPG(t *testing.T) {
	t.Parallel()
	withPeers(t, []peer{gpgPeer()}, func(t *testing.T, _ peer, w *workshop, alice, _ *pgp.Key) {
		t.Cleanup(func() { _ = exec.Command("gpgconf", "--homedir", w.dir, "--kill", "gpg-agent").Run() })
		gone, err := pgp.Revoke(alice, pgp.Superseded, testNow.Add(30*time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		bare, _ := gone.Certificate().RevocationOnly()
		w.write("gone.pub", bare.Armored())
		w.run("", "gpg", "--batch", "--import", "alice.pub")
		w.run("", "gpg", "--batch", "--import", "gone.pub")
		out, _ := w.run("", "gpg", "--batch", "--with-colons", "--list-keys", "alice@example.org")
		w.want("pub:r:", out)
	})
}

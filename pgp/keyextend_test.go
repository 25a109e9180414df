package pgp_test

import (
	"bytes"
	"errors"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/pgp"
)

// TestExtend: a key, expired or not, works for two more years, and its old
// packets are all still there.
func TestExtend(t *testing.T) {
	t.Parallel()
	for _, after := range []time.Duration{time.Hour, 16 * 30 * 24 * time.Hour, pgp.Lifetime + time.Hour} {
		k := makeKey(t, "alice@example.org")
		later := testNow.Add(after)
		longer, err := pgp.Extend(k, later)
		if err != nil {
			t.Fatal(err)
		}
		if longer.Fingerprint() != k.Fingerprint() || !longer.Certificate().Expires().Equal(later.Add(pgp.Lifetime)) {
			t.Errorf("expires %v", longer.Certificate().Expires())
		}
		end := later.Add(pgp.Lifetime - time.Hour)
		if err := errors.Join(longer.CheckSign(end), longer.Certificate().CheckEncrypt(end)); err != nil {
			t.Errorf("near its new end: %v", err)
		}
		if err := longer.CheckSign(end.Add(2 * time.Hour)); !errors.Is(err, pgp.ErrExpired) {
			t.Errorf("after its new end: %v", err)
		}
		for p := range packetsOf(t, k.Marshal()) {
			if !bytes.Contains(longer.Marshal(), p.Contents) {
				t.Errorf("packet %d is gone", p.Tag)
			}
		}
		minimal, err := longer.Certificate().Minimal(addr(t, "alice@example.org"), later)
		if err != nil || !minimal.Expires().Equal(longer.Certificate().Expires()) {
			t.Errorf("Minimal of an extended certificate: %v", err)
		}
	}
}

// TestExtendSubkeys: v6 keys and subkeys with an end of their own are extended;
// a subkey that was retired isn't.
func TestExtendSubkeys(t *testing.T) {
	t.Parallel()
	day := uint32(24 * 3600)
	config := &packet.Config{V6Keys: true, Algorithm: packet.PubKeyAlgoEd25519, KeyLifetimeSecs: 100 * day, Time: at(testNow).Time}
	e, err := openpgp.NewEntity("", "", "alice@example.org", config)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.AddSigningSubkey(config); err != nil {
		t.Fatal(err)
	}
	config.KeyLifetimeSecs = 10 * day
	if err := e.AddEncryptionSubkey(config); err != nil { // the newest: used while it lasts
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := e.SerializePrivateWithoutSigning(&b, nil); err != nil {
		t.Fatal(err)
	}
	keys, err := pgp.ParseKeys(b.Bytes(), nil)
	if err != nil {
		t.Fatal(err)
	}
	later := testNow.Add(50 * 24 * time.Hour)
	longer, err := pgp.Extend(keys[0], later)
	if err != nil {
		t.Fatal(err)
	}
	end := later.Add(pgp.Lifetime - time.Hour)
	if err := errors.Join(longer.CheckSign(end), longer.Certificate().CheckEncrypt(end)); err != nil {
		t.Errorf("near its new end: %v", err)
	}
	out := protect(t, "From: a@example.org\r\n\r\nhi\r\n", pgp.Protection{Signer: longer, Recipients: []*pgp.Certificate{longer.Certificate()}, Now: later})
	retired := e.Subkeys[len(e.Subkeys)-1].PublicKey.KeyId
	s, err := pgp.IsSealedSubmission(parseMail(t, out), message.Bytes([]byte(out)))
	if err != nil || len(s.KeyIDs) != 1 || s.KeyIDs[0] == retired {
		t.Errorf("encrypted to %x, %v; the retired subkey is %x", s.KeyIDs, err, retired)
	}
}

// TestExtendedKeyInGPG: gpg takes the extended certificate over the old one.
func TestExtendedKeyInGPG(t *testing.T) {
	t.Parallel()
	withPeers(t, []peer{gpgPeer()}, func(t *testing.T, _ peer, w *workshop, alice, _ *pgp.Key) {
		t.Cleanup(func() { _ = exec.Command("gpgconf", "--homedir", w.dir, "--kill", "gpg-agent").Run() })
		longer, err := pgp.Extend(alice, testNow.Add(30*time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		w.write("longer.pub", longer.Certificate().Armored())
		w.run("", "gpg", "--batch", "--import", "alice.pub")
		w.run("", "gpg", "--batch", "--import", "longer.pub")
		out, _ := w.run("", "gpg", "--batch", "--with-colons", "--list-keys", "alice@example.org")
		fields := strings.Split(out[strings.Index(out, "pub:"):], ":")
		end := longer.Certificate().Expires().Unix()
		if fields[6] != strconv.FormatInt(end, 10) {
			t.Errorf("gpg says it expires %s, want %d", fields[6], end)
		}
	})
}

package server_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"letterlock.org/letterlock/keydir/server"
	"letterlock.org/letterlock/pgp"
)

// states are a key with two encryption subkeys, and the same after its owner took
// the newer one back.
func states(t *testing.T, takeBack func(s *openpgp.Subkey, at *packet.Config) error) (before, after *pgp.Certificate) {
	t.Helper()
	k := key(t, "joe.doe@example.org")
	e, err := openpgp.ReadEntity(packet.NewReader(bytes.NewReader(k.Marshal())))
	if err != nil {
		t.Fatal(err)
	}
	at := func(d time.Duration) *packet.Config {
		return &packet.Config{Time: func() time.Time { return today.Add(d) }, Algorithm: packet.PubKeyAlgoEdDSA}
	}
	state := func() *pgp.Certificate {
		var b bytes.Buffer
		if err := e.Serialize(&b); err != nil {
			t.Fatal(err)
		}
		certs, err := pgp.ParseCertificates(b.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		return certs[0]
	}
	if err := e.AddEncryptionSubkey(at(time.Hour)); err != nil {
		t.Fatal(err)
	}
	before = state()
	if err := takeBack(&e.Subkeys[len(e.Subkeys)-1], at(2*time.Hour)); err != nil {
		t.Fatal(err)
	}
	return before, state()
}

// encryptsTo is the key ID of the subkey that mail is encrypted to.
func encryptsTo(t *testing.T, c *pgp.Certificate, now time.Time) uint64 {
	t.Helper()
	var b bytes.Buffer
	if err := pgp.EncryptData(ctx, &b, []byte("text"), now, c); err != nil {
		t.Fatal(err)
	}
	block, err := armor.Decode(&b)
	if err != nil {
		t.Fatal(err)
	}
	p, err := packet.Read(block.Body)
	if err != nil {
		t.Fatal(err)
	}
	return p.(*packet.EncryptedKey).KeyId
}

// A subkey that its owner takes back is not answered as live any more, and the
// answer says so to whoever has an older copy.
func TestASubkeyThatIsTakenBackIsToldAsSuch(t *testing.T) {
	revoke := func(s *openpgp.Subkey, at *packet.Config) error { return s.Revoke(packet.KeyCompromised, "", at) }
	shorten := func(s *openpgp.Subkey, at *packet.Config) error {
		b := s.Bindings[len(s.Bindings)-1].Packet
		sig := &packet.Signature{Version: b.Version, CreationTime: at.Now(), SigType: packet.SigTypeSubkeyBinding, PubKeyAlgo: b.PubKeyAlgo, Hash: b.Hash,
			IssuerKeyId: b.IssuerKeyId, IssuerFingerprint: b.IssuerFingerprint, FlagsValid: true, FlagEncryptCommunications: true, FlagEncryptStorage: true}
		lifetime := uint32(3600)
		sig.KeyLifetimeSecs = &lifetime
		if err := sig.SignKey(s.PublicKey, s.Primary.PrivateKey, at); err != nil {
			return err
		}
		s.Bindings = append(s.Bindings, packet.NewVerifiableSig(sig))
		return nil
	}
	for _, tt := range []struct {
		name string
		how  func(s *openpgp.Subkey, at *packet.Config) error
	}{{"revoked", revoke}, {"its life cut short", shorten}} {
		before, after := states(t, tt.how)
		newest := before.KeyIDs()[2]
		d, _ := directory(t)
		now := today.Add(3 * time.Hour)
		d.Now = func() time.Time { return now }
		a := addr(t, "joe.doe@example.org")
		if err := d.Add(ctx, a, before); err != nil {
			t.Fatal(err)
		}
		if got := encryptsTo(t, served(t, d)[0], now); got != newest {
			t.Fatalf("%s: before, mail is encrypted to %x, want %x", tt.name, got, newest)
		}
		offers, err := d.Offers(after.Bytes(), ours)
		if err != nil {
			t.Fatal(tt.name, err)
		}
		if done, err := d.Take(ctx, offers[0]); err != nil || len(done) != 1 {
			t.Fatal(tt.name, done, err)
		}
		answer := served(t, d)[0]
		if got := encryptsTo(t, answer, now); got == newest {
			t.Errorf("%s: after the upload mail is still encrypted to it", tt.name)
		}
		has, err := pgp.Merge(before, answer)
		if err != nil {
			t.Fatal(err)
		}
		if got := encryptsTo(t, has, now); got == newest {
			t.Errorf("%s: who has the older copy is not told", tt.name)
		}
		// An older copy brings nothing back, whoever gives it.
		if err := d.Add(ctx, a, before); err != nil {
			t.Fatal(err)
		}
		if got := encryptsTo(t, served(t, d)[0], now); got == newest {
			t.Errorf("%s: an older copy brought it back", tt.name)
		}
	}
}

// Whoever has a stolen key may add to what is published, without a mail. Adding so
// much that the revocation has no room gains them nothing.
func TestARevocationFindsRoom(t *testing.T) {
	d, _ := directory(t)
	k := key(t, "joe.doe@example.org")
	a := addr(t, "joe.doe@example.org")
	now := today.Add(time.Hour)
	d.Now = func() time.Time { return now }
	if err := d.Add(ctx, a, k.Certificate()); err != nil {
		t.Fatal(err)
	}
	e, err := openpgp.ReadEntity(packet.NewReader(bytes.NewReader(k.Marshal())))
	if err != nil {
		t.Fatal(err)
	}
	var full *pgp.Certificate
	for full == nil || len(full.Bytes()) < server.MaxCertificate-400 {
		for range max(1, (server.MaxCertificate-2000)/250-len(e.Subkeys)) {
			at := &packet.Config{Time: func() time.Time { return today.Add(time.Minute) }, Algorithm: packet.PubKeyAlgoEdDSA}
			if err := e.AddEncryptionSubkey(at); err != nil {
				t.Fatal(err)
			}
		}
		var b bytes.Buffer
		if err := e.Serialize(&b); err != nil {
			t.Fatal(err)
		}
		certs, err := pgp.ParseCertificates(b.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		full = certs[0]
	}
	take := func(c *pgp.Certificate) {
		t.Helper()
		offers, err := d.Offers(c.Bytes(), ours)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.Take(ctx, offers[0]); err != nil {
			t.Fatal(err)
		}
	}
	take(full)
	if n := len(served(t, d)[0].Bytes()); n < server.MaxCertificate-1000 {
		t.Fatalf("only %d bytes are published", n)
	}
	owners, err := pgp.Revoke(k, pgp.Compromised, today)
	if err != nil {
		t.Fatal(err)
	}
	take(owners.Certificate())
	got := served(t, d)
	if len(got) != 1 || !got[0].Revoked(now) || !got[0].Has(a) {
		t.Error("it is not answered as revoked")
	}
}

// A certificate that has somebody's primary key among its subkeys is not given to
// who asks for the fingerprint of that.
func TestAFingerprintIsThePrimaryKeysFirst(t *testing.T) {
	d, _ := directory(t)
	joe := add(t, d, "joe.doe@example.org")
	stolen, err := packet.Read(bytes.NewReader(opaquePrimary(t, joe)))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 25 {
		m := key(t, fmt.Sprintf("mallory%d@example.org", i))
		e, err := openpgp.ReadEntity(packet.NewReader(bytes.NewReader(m.Marshal())))
		if err != nil {
			t.Fatal(err)
		}
		b := e.Subkeys[0].Bindings[0].Packet
		sig := &packet.Signature{Version: b.Version, CreationTime: today, SigType: packet.SigTypeSubkeyBinding, PubKeyAlgo: b.PubKeyAlgo, Hash: b.Hash,
			IssuerKeyId: b.IssuerKeyId, IssuerFingerprint: b.IssuerFingerprint, FlagsValid: true, FlagEncryptStorage: true}
		if err := sig.SignKey(stolen.(*packet.PublicKey), e.PrivateKey, &packet.Config{Time: d.Now}); err != nil {
			t.Fatal(err)
		}
		whole := bytes.NewBuffer(bytes.Clone(m.Certificate().Bytes()))
		whole.Write(opaquePrimary(t, joe))
		if err := sig.Serialize(whole); err != nil {
			t.Fatal(err)
		}
		certs, err := pgp.ParseCertificates(whole.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Add(ctx, addr(t, fmt.Sprintf("mallory%d@example.org", i)), certs[0]); err != nil {
			t.Fatal(err)
		}
	}
	got, err := d.ByFingerprint(ctx, joe.Fingerprint())
	if err != nil || len(got) != 1 || got[0].Fingerprint() != joe.Fingerprint() {
		t.Errorf("%d certificates, %v", len(got), err)
	}
	if got, err = d.ByKeyID(ctx, joe.KeyIDs()[0]); err != nil || len(got) == 0 || got[0].Fingerprint() != joe.Fingerprint() {
		t.Errorf("by key ID %d certificates, %v", len(got), err)
	}
}

// opaquePrimary is a certificate's primary key as a subkey's packet.
func opaquePrimary(t *testing.T, c *pgp.Certificate) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := (&packet.OpaquePacket{Tag: 14, Contents: c.PrimaryKey()}).Serialize(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// A newer state of what is published is taken though nobody could encrypt to it:
// its owner said so. Otherwise such a certificate is refused, with its reason.
func TestAnOwnersEndOfAKeyIsTaken(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(e *openpgp.Entity, at *packet.Config) error
		want error
	}{
		{"its only encryption subkey revoked", func(e *openpgp.Entity, at *packet.Config) error {
			return e.Subkeys[0].Revoke(packet.KeyCompromised, "", at)
		}, pgp.ErrRevoked},
		{"its life cut short", func(e *openpgp.Entity, at *packet.Config) error {
			at.KeyLifetimeSecs = 3600
			for _, i := range e.Identities {
				sig := *i.SelfCertifications[0].Packet
				sig.CreationTime, sig.KeyLifetimeSecs = at.Now(), &at.KeyLifetimeSecs
				if err := sig.SignUserId(i.UserId.Id, e.PrimaryKey, e.PrivateKey, at); err != nil {
					return err
				}
				i.SelfCertifications = append(i.SelfCertifications, packet.NewVerifiableSig(&sig))
			}
			return nil
		}, pgp.ErrExpired},
	} {
		k := key(t, "joe.doe@example.org")
		a := addr(t, "joe.doe@example.org")
		e, err := openpgp.ReadEntity(packet.NewReader(bytes.NewReader(k.Marshal())))
		if err != nil {
			t.Fatal(err)
		}
		if err := tt.end(e, &packet.Config{Time: func() time.Time { return today.Add(2 * time.Hour) }, Algorithm: packet.PubKeyAlgoEdDSA}); err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := e.Serialize(&b); err != nil {
			t.Fatal(err)
		}
		d, _ := directory(t)
		now := today.Add(3 * time.Hour)
		d.Now = func() time.Time { return now }
		if err := d.Refresh(ctx); err != nil {
			t.Fatal(err)
		}
		o := newOffice(t, d)
		upload := func() int {
			code, _ := o.do("POST", "/vks/v1/upload", "application/pgp-keys", b.String())
			return code
		}
		if code := upload(); code != 400 {
			t.Errorf("%s: of a stranger's %d, want 400", tt.name, code)
		}
		if err := d.Add(ctx, a, k.Certificate()); err != nil {
			t.Fatal(err)
		}
		if err := served(t, d)[0].CheckEncrypt(now); err != nil {
			t.Fatal(tt.name, err)
		}
		if code := upload(); code != 200 {
			t.Errorf("%s: of what is published %d, want 200", tt.name, code)
		}
		if err := served(t, d)[0].CheckEncrypt(now); !errors.Is(err, tt.want) {
			t.Errorf("%s: it is answered, and can be used: %v", tt.name, err)
		}
	}
}

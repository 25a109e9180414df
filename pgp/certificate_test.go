package pgp_test

import (
	"bytes"
	"crypto/sha1"
	"encoding/binary"
	"encoding/csv"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/eddsa"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/pgp"
)

var keyTime = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// at is the engine's configuration for a time.
func at(t time.Time) *packet.Config {
	return &packet.Config{Time: func() time.Time { return t }, Algorithm: packet.PubKeyAlgoEdDSA, KeyLifetimeSecs: 2 * 365 * 86400}
}

// engineKey makes an entity with the engine, for tests that bend it.
func engineKey(t testing.TB, userID string, when time.Time) *openpgp.Entity {
	t.Helper()
	e, err := openpgp.NewEntity("", "", userID, at(when))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func public(t testing.TB, e *openpgp.Entity) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := e.Serialize(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func one(t testing.TB, b []byte) *pgp.Certificate {
	t.Helper()
	certs, err := pgp.ParseCertificates(b)
	if err != nil || len(certs) != 1 {
		t.Fatalf("got %d certificates and %v, want 1", len(certs), err)
	}
	return certs[0]
}

func addr(t testing.TB, s string) address.Address {
	t.Helper()
	a, err := address.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// cut splits a certificate into raw packets, knowing only what the engine writes.
func cut(t testing.TB, b []byte) (tags []byte, raws [][]byte) {
	t.Helper()
	r := packet.NewOpaqueReader(bytes.NewReader(b))
	for {
		p, err := r.Next()
		if err != nil {
			return tags, raws
		}
		var out bytes.Buffer
		if err := p.Serialize(&out); err != nil {
			t.Fatal(err)
		}
		tags, raws = append(tags, p.Tag), append(raws, out.Bytes())
	}
}

func TestCertificateFacts(t *testing.T) {
	t.Parallel()
	e := engineKey(t, "alice@example.org", keyTime)
	raw := public(t, e)
	c := one(t, raw)
	if got := c.Bytes(); !bytes.Equal(got, raw) {
		t.Error("Bytes are not the original ones")
	}
	if again := one(t, []byte("some text\n"+c.Armored())); !bytes.Equal(again.Bytes(), raw) {
		t.Error("Armored does not lead back to the same bytes")
	}
	if got, want := c.UserIDs(), []string{"<alice@example.org>"}; len(got) != 1 || got[0] != want[0] {
		t.Errorf("UserIDs = %q, want %q", got, want)
	}
	if got, want := c.Expires(), keyTime.Add(2*365*24*time.Hour); !got.Equal(want) {
		t.Errorf("Expires = %s, want %s", got, want)
	}
	if c.Version() != 4 || len(c.Fingerprint()) != 40 || len(c.KeyIDs()) != 2 {
		t.Errorf("version %d, fingerprint %q, key IDs %x", c.Version(), c.Fingerprint(), c.KeyIDs())
	}
	if !c.Has(addr(t, "Alice@Example.org")) || c.Has(addr(t, "bob@example.org")) {
		t.Error("Has is wrong about alice or bob")
	}
}

func TestCheckEncryptTellsExpiredRevokedWeakUnusableApart(t *testing.T) {
	t.Parallel()
	plain := engineKey(t, "a@example.org", keyTime)
	revoked := engineKey(t, "a@example.org", keyTime)
	if err := revoked.Revoke(packet.KeyCompromised, "", at(keyTime.Add(time.Hour))); err != nil {
		t.Fatal(err)
	}
	retired := engineKey(t, "a@example.org", keyTime)
	if err := retired.Revoke(packet.KeyRetired, "", at(keyTime.Add(time.Hour))); err != nil {
		t.Fatal(err)
	}
	cfg := at(keyTime)
	cfg.RSABits, cfg.MinRSABits, cfg.Algorithm = 1024, 1024, packet.PubKeyAlgoRSA
	short, err := openpgp.NewEntity("", "", "a@example.org", cfg)
	if err != nil {
		t.Fatal(err)
	}
	signOnly := engineKey(t, "a@example.org", keyTime)
	signOnly.Subkeys = nil
	old := engineKey(t, "a@example.org", keyTime)
	tests := []struct {
		name string
		cert []byte
		now  time.Time
		want error
	}{
		{"a live certificate is well", public(t, plain), keyTime.Add(time.Hour), nil},
		{"one past its expiry is expired", public(t, plain), keyTime.AddDate(3, 0, 0), pgp.ErrExpired},
		{"a compromised one is revoked even before its revocation", public(t, revoked), keyTime.Add(time.Minute), pgp.ErrRevoked},
		{"a retired one is well before it was retired", public(t, retired), keyTime.Add(time.Minute), nil},
		{"and revoked after", public(t, retired), keyTime.Add(2 * time.Hour), pgp.ErrRevoked},
		{"RSA of 1024 bits is weak", public(t, short), keyTime.Add(time.Hour), pgp.ErrWeak},
		{"without encryption subkey it is unusable", public(t, signOnly), keyTime.Add(time.Hour), pgp.ErrUnusable},
		{"a SHA-1 self-signature is weak", weakSelf(t, old), keyTime.Add(time.Hour), pgp.ErrWeak},
		{"before its creation it is unusable", public(t, plain), keyTime.Add(-time.Hour), pgp.ErrUnusable},
	}
	for _, tt := range tests {
		if got := one(t, tt.cert).CheckEncrypt(tt.now); !errors.Is(got, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
	}
}

// weakSelf gives e with its self-signature replaced by one with SHA-1, which
// the engine refuses to make.
func weakSelf(t testing.TB, e *openpgp.Entity) []byte {
	t.Helper()
	_, raws := cut(t, public(t, e))
	id := raws[1][2:]
	var signed bytes.Buffer
	if err := e.PrimaryKey.SerializeForHash(&signed); err != nil {
		t.Fatal(err)
	}
	signed.Write([]byte{0xb4, 0, 0, 0, byte(len(id))})
	signed.Write(id)
	raws[2] = weakSignature(t, e, 0x13, signed.Bytes(), e.PrimaryKey.CreationTime)
	return bytes.Join(raws, nil)
}

// weakSignature is a signature packet of e's primary key with SHA-1.
func weakSignature(t testing.TB, e *openpgp.Entity, kind byte, signed []byte, when time.Time) []byte {
	t.Helper()
	hashed := []byte{5, 2, 0, 0, 0, 0, 2, 27, 3}
	binary.BigEndian.PutUint32(hashed[2:], uint32(when.Unix()))
	body := append([]byte{4, kind, 22, 2, 0, byte(len(hashed))}, hashed...)
	h := sha1.New()
	h.Write(signed)
	h.Write(body)
	h.Write([]byte{4, 0xff, 0, 0, 0, byte(len(body))})
	digest := h.Sum(nil)
	r, s, err := eddsa.Sign(e.PrivateKey.PrivateKey.(*eddsa.PrivateKey), digest)
	if err != nil {
		t.Fatal(err)
	}
	body = append(body, 0, 10, 9, 16)
	body = binary.BigEndian.AppendUint64(body, e.PrimaryKey.KeyId)
	body = append(body, digest[:2]...)
	for _, n := range [][]byte{r, s} {
		m := new(big.Int).SetBytes(n)
		body = binary.BigEndian.AppendUint16(body, uint16(m.BitLen()))
		body = append(body, m.Bytes()...)
	}
	return append([]byte{0xc2, byte(len(body))}, body...)
}

func TestUserIDsThatDoNotCount(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, id string
		want     bool
	}{
		{"a bare address counts", "a@example.org", true},
		{"an address in brackets counts", "Alice (x) <A@EXAMPLE.org>", true},
		{"a bracketed address alone counts", "<a@example.org>", true},
		{"two addresses in brackets do not", "<a@example.org> <b@example.org>", false},
		{"text after the bracket does not", "<a@example.org> b", false},
		{"an address in the name only does not", "a@example.org <mallory@example.net>", false},
		{"two bare addresses do not", "a@example.org, b@example.org", false},
		{"a line end within does not", "a@example.org\r\nX: y", false},
		{"a NUL does not", "a@example.org\x00", false},
	}
	for _, tt := range tests {
		// NewEntity refuses some of these; put the text in afterwards and sign.
		e := engineKey(t, "x@example.org", keyTime)
		id := e.Identities["x@example.org"]
		if id == nil {
			for _, v := range e.Identities {
				id = v
			}
		}
		e.Identities = map[string]*openpgp.Identity{tt.id: id}
		id.Name, id.UserId = tt.id, &packet.UserId{Id: tt.id}
		if err := id.SelfCertifications[0].Packet.SignUserId(tt.id, e.PrimaryKey, e.PrivateKey, at(keyTime)); err != nil {
			t.Fatal(err)
		}
		c := one(t, userIDBytes(t, e, tt.id))
		if got := c.Has(addr(t, "a@example.org")); got != tt.want {
			t.Errorf("%s: Has = %v, want %v", tt.name, got, tt.want)
		}
		for _, s := range c.UserIDs() {
			if strings.ContainsAny(s, "\r\n\x00") {
				t.Errorf("%s: UserIDs shows control characters", tt.name)
			}
		}
	}
}

// userIDBytes serialises e with the user ID packet written as it is.
func userIDBytes(t testing.TB, e *openpgp.Entity, id string) []byte {
	t.Helper()
	tags, raws := cut(t, public(t, e))
	var out []byte
	for i, tag := range tags {
		if tag == 13 {
			raws[i] = append([]byte{0xcd, byte(len(id))}, id...)
		}
		out = append(out, raws[i]...)
	}
	return out
}

func TestPoisonedCertificateStillWorks(t *testing.T) {
	t.Parallel()
	e := engineKey(t, "a@example.org", keyTime)
	mallory := engineKey(t, "m@example.org", keyTime)
	_, raws := cut(t, public(t, e)) // key, user ID, signature, subkey, binding
	_, bad := cut(t, public(t, mallory))
	if err := mallory.Revoke(packet.KeyCompromised, "", at(keyTime)); err != nil {
		t.Fatal(err)
	}
	tags, withRevocation := cut(t, public(t, mallory))
	var foreign []byte
	for i, tag := range tags {
		if tag == 2 && i == 1 {
			foreign = withRevocation[i]
		}
	}
	if foreign == nil {
		t.Fatal("no revocation where it was expected")
	}
	junkSub := []byte{0xce, 6, 4, 0, 0, 0, 0, 99} // subkey of an unknown algorithm
	attribute := []byte{0xd1, 3, 2, 1, 0}         // user attribute
	unknown := []byte{0xc0 | 40, 2, 1, 2}         // unassigned, critical or not
	junkSig := []byte{0xc2, 4, 9, 0x18, 1, 1}     // signature of version 9
	spliced := bytes.Join([][]byte{raws[0], foreign, unknown, raws[1], raws[2], bad[2], attribute, bad[2], raws[3], junkSig, raws[4], bad[3], bad[4], junkSub, bad[4]}, nil)
	c := one(t, spliced)
	if !bytes.Equal(c.Bytes(), spliced) {
		t.Error("Bytes dropped something")
	}
	if err := c.CheckEncrypt(keyTime.Add(time.Hour)); err != nil {
		t.Errorf("CheckEncrypt = %v, want nil", err)
	}
	if !c.Has(addr(t, "a@example.org")) || c.Revoked(keyTime.Add(time.Hour)) {
		t.Error("lost its user ID, or counts as revoked by a stranger")
	}
	m, err := c.Minimal(addr(t, "a@example.org"), keyTime.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if want := bytes.Join(raws, nil); !bytes.Equal(m.Bytes(), want) {
		t.Errorf("Minimal has %d bytes, want the %d of the five own packets", len(m.Bytes()), len(want))
	}
}

func TestMergeRefreshesFromACertificateWithoutUserID(t *testing.T) {
	t.Parallel()
	e := engineKey(t, "a@example.org", keyTime)
	_, raws := cut(t, public(t, e))
	stored := one(t, public(t, e))
	if err := e.AddEncryptionSubkey(at(keyTime.Add(time.Hour))); err != nil {
		t.Fatal(err)
	}
	_, now := cut(t, public(t, e))
	update := one(t, bytes.Join(append([][]byte{raws[0]}, now[3:]...), nil))
	if err := update.CheckEncrypt(keyTime.Add(2 * time.Hour)); !errors.Is(err, pgp.ErrUnusable) {
		t.Errorf("without user ID CheckEncrypt = %v, want unusable", err)
	}
	merged, err := pgp.Merge(stored, update)
	if err != nil {
		t.Fatal(err)
	}
	if want := bytes.Join(now, nil); !bytes.Equal(merged.Bytes(), want) {
		t.Errorf("merged has %d bytes, want %d", len(merged.Bytes()), len(want))
	}
	again, err := pgp.Merge(merged, update)
	if err != nil || !bytes.Equal(again.Bytes(), merged.Bytes()) {
		t.Errorf("merging again changes it (%v)", err)
	}
	if other := one(t, public(t, engineKey(t, "a@example.org", keyTime))); other != nil {
		if _, err := pgp.Merge(stored, other); err == nil {
			t.Error("merged two primary keys")
		}
	}
}

func TestParseCertificatesRefuses(t *testing.T) {
	t.Parallel()
	e := engineKey(t, "a@example.org", keyTime)
	good := public(t, e)
	var secret bytes.Buffer
	if err := e.SerializePrivate(&secret, at(keyTime)); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name  string
		in    []byte
		certs int
		want  error
	}{
		{"nothing", nil, 0, pgp.ErrMalformed},
		{"text", []byte("hello"), 0, pgp.ErrMalformed},
		{"a secret key", secret.Bytes(), 0, pgp.ErrSecretKey},
		{"a certificate and a secret key", append(bytes.Clone(good), secret.Bytes()...), 0, pgp.ErrSecretKey},
		{"a certificate that is cut off", good[:len(good)-3], 0, pgp.ErrMalformed},
		{"a good one before one that is cut off", append(bytes.Clone(good), good[:len(good)-3]...), 1, pgp.ErrMalformed},
		{"packets without a key", []byte{0xcd, 1, 'a'}, 0, pgp.ErrMalformed},
	}
	for _, tt := range tests {
		got, err := pgp.ParseCertificates(tt.in)
		if len(got) != tt.certs || !errors.Is(err, tt.want) {
			t.Errorf("%s: got %d certificates and %v, want %d and %v", tt.name, len(got), err, tt.certs, tt.want)
		}
	}
}

// TestCorpusCertificates reads every key file of the corpus as certificates.
func TestCorpusCertificates(t *testing.T) {
	t.Parallel()
	dir := corpus(t)
	f, err := os.Open(filepath.Join(dir, "KEYS.tsv"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := csv.NewReader(f)
	r.Comma, r.LazyQuotes, r.FieldsPerRecord = '\t', true, -1
	rows, err := r.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows[1:] {
		b, err := os.ReadFile(filepath.Join(dir, row[0]))
		if err != nil {
			t.Fatal(err)
		}
		certs, err := pgp.ParseCertificates(b)
		for _, c := range certs {
			c.UserIDs()
			_ = c.CheckEncrypt(keyTime)
			if _, err := pgp.Merge(c, c); err != nil {
				t.Errorf("%s: merging with itself: %v", row[0], err)
			}
		}
		ours := "ok"
		if len(certs) == 0 {
			ours = "none"
		}
		// KEYS.tsv looks at primary keys; these two have a secret subkey.
		secret := row[5] == "true" || strings.Contains(row[0], "alice-sub-sig-")
		if secret != errors.Is(err, pgp.ErrSecretKey) && row[1] == "ok" {
			t.Errorf("%s: secret is %v, but err is %v", row[0], secret, err)
		}
		if row[1] == "ok" && !secret && ours != "ok" {
			t.Errorf("%s: go-crypto reads it, we don't: %v", row[0], err)
		}
	}
}

// corpus is the folder of real messages, or the test is skipped.
func corpus(t testing.TB) string {
	t.Helper()
	dir := os.Getenv("LETTERLOCK_CORPUS")
	if dir == "" {
		t.Skip("LETTERLOCK_CORPUS is not set")
	}
	return dir
}

func FuzzParseCertificates(f *testing.F) {
	e := engineKey(f, "a@example.org", keyTime)
	f.Add(public(f, e))
	c := one(f, public(f, e))
	f.Add([]byte(c.Armored()))
	f.Fuzz(func(t *testing.T, b []byte) {
		certs, _ := pgp.ParseCertificates(b)
		for _, c := range certs {
			c.UserIDs()
			c.Expires()
			c.KeyIDs()
			_ = c.CheckEncrypt(keyTime)
			if _, err := pgp.Merge(c, c); err != nil {
				t.Errorf("merging with itself: %v", err)
			}
		}
	})
}

// Slow algorithms are verified less often, whether the primary key's or that of a
// subkey, which signs its own binding too.
func TestSlowCertificatesAreBounded(t *testing.T) {
	t.Parallel()
	brainpool := &packet.Config{Time: func() time.Time { return testNow }, Algorithm: packet.PubKeyAlgoECDSA, Curve: packet.CurveBrainpoolP256}
	fast := &packet.Config{Time: func() time.Time { return testNow }, Algorithm: packet.PubKeyAlgoEdDSA, Curve: packet.Curve25519}
	for _, tt := range []struct {
		name         string
		primary, sub *packet.Config
		n, most      int
		all          bool
	}{
		{"slow ones", brainpool, brainpool, 40, 31, false},
		{"a fast primary key with slow subkeys", fast, brainpool, 70, 56, false},
		{"fast ones", fast, fast, 120, 120, true},
	} {
		e, err := openpgp.NewEntity("", "", "alice@example.org", tt.primary)
		if err != nil {
			t.Fatal(err)
		}
		for range tt.n {
			if err := e.AddSigningSubkey(tt.sub); err != nil {
				t.Fatal(err)
			}
		}
		var b bytes.Buffer
		if err := e.Serialize(&b); err != nil {
			t.Fatal(err)
		}
		certs, err := pgp.ParseCertificates(b.Bytes())
		if err != nil || len(certs) != 1 {
			t.Fatal(err)
		}
		// The primary key, and its encryption subkey.
		got := len(certs[0].Fingerprints()) - 2
		if got > tt.most || tt.all && got != tt.n || got < 20 {
			t.Errorf("%s: %d of %d subkeys were verified, want at most %d", tt.name, got, tt.n, tt.most)
		}
		if err := certs[0].CheckEncrypt(testNow); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// However many signatures a stranger appends in the owner's name, a revocation that
// comes behind them counts.
func TestRevocationsAreNotCrowdedOut(t *testing.T) {
	t.Parallel()
	e, err := openpgp.NewEntity("", "", "alice@example.org", &packet.Config{Time: func() time.Time { return testNow.Add(-time.Hour) }, Algorithm: packet.PubKeyAlgoEdDSA, Curve: packet.Curve25519})
	if err != nil {
		t.Fatal(err)
	}
	serialized := func() []byte {
		var b bytes.Buffer
		if err := e.Serialize(&b); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	before := serialized()
	if err := e.Subkeys[0].Revoke(packet.KeyRetired, "", &packet.Config{Time: func() time.Time { return testNow }}); err != nil {
		t.Fatal(err)
	}
	// The subkey's binding comes last: forge more of it, each other in one byte.
	all, size := opaque(t, oneOf(t, before)), 0
	for _, p := range all {
		size += len(p.Contents)
	}
	var crowded bytes.Buffer
	for _, p := range all {
		if err := p.Serialize(&crowded); err != nil {
			t.Fatal(err)
		}
	}
	binding := all[len(all)-1]
	for i := range 600 {
		forged := &packet.OpaquePacket{Tag: binding.Tag, Contents: bytes.Clone(binding.Contents)}
		n := len(forged.Contents)
		forged.Contents[n-1-i%32] ^= byte(1 + i/32)
		if err := forged.Serialize(&crowded); err != nil {
			t.Fatal(err)
		}
	}
	merged, err := pgp.Merge(oneOf(t, crowded.Bytes()), oneOf(t, serialized()))
	if err != nil {
		t.Fatal(err)
	}
	if err := oneOf(t, before).CheckEncrypt(testNow.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if err := merged.CheckEncrypt(testNow.Add(time.Minute)); err == nil {
		t.Errorf("a revoked subkey is used (%d bytes)", size)
	}
}

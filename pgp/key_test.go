package pgp_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/ProtonMail/go-crypto/openpgp/s2k"

	"letterlock.org/letterlock/pgp"
)

// TestGenerateKey checks the default profile packet by packet.
func TestGenerateKey(t *testing.T) {
	t.Parallel()
	k := makeKey(t, "alice@example.org")
	c := k.Certificate()
	if got := c.UserIDs(); len(got) != 1 || got[0] != "alice@example.org" {
		t.Errorf("user IDs %q, want the bare address", got)
	}
	if got := c.Expires(); !got.Equal(testNow.Add(pgp.Lifetime)) {
		t.Errorf("expires %v", got)
	}
	if err := errors.Join(c.CheckEncrypt(testNow), k.CheckSign(testNow)); err != nil {
		t.Error(err)
	}
	if err := k.CheckSign(testNow.Add(pgp.Lifetime)); !errors.Is(err, pgp.ErrExpired) {
		t.Errorf("CheckSign when expired: %v", err)
	}
	var tags []uint8
	for p := range packetsOf(t, c.Bytes()) {
		tags = append(tags, p.Tag)
		parsed, err := p.Parse()
		if err != nil {
			t.Fatal(err)
		}
		switch parsed := parsed.(type) {
		case *packet.PublicKey:
			want := packet.PublicKeyAlgorithm(packet.PubKeyAlgoEdDSA)
			if parsed.IsSubkey {
				want = packet.PubKeyAlgoECDH
			}
			if parsed.Version != 4 || parsed.PubKeyAlgo != want {
				t.Errorf("key of version %d, algorithm %d", parsed.Version, parsed.PubKeyAlgo)
			}
		case *packet.Signature:
			if parsed.SEIPDv2 {
				t.Error("advertises SEIPDv2")
			}
			if parsed.SigType == packet.SigTypePositiveCert &&
				(!bytes.Equal(parsed.PreferredSymmetric, []byte{9, 7}) || !bytes.Equal(parsed.PreferredHash, []byte{10, 8}) ||
					!bytes.Equal(parsed.PreferredCompression, []byte{0})) {
				t.Errorf("preferences %v %v %v", parsed.PreferredSymmetric, parsed.PreferredHash, parsed.PreferredCompression)
			}
		}
	}
	// Autocrypt Level 1, Section 2.1.1: exactly these five.
	if !bytes.Equal(tags, []byte{6, 13, 2, 14, 2}) {
		t.Errorf("packets %v", tags)
	}
}

func packetsOf(t testing.TB, b []byte) func(func(*packet.OpaquePacket) bool) {
	return func(yield func(*packet.OpaquePacket) bool) {
		r := packet.NewOpaqueReader(bytes.NewReader(b))
		for {
			p, err := r.Next()
			if err != nil || !yield(p) {
				return
			}
		}
	}
}

func passphrase(s string) pgp.Passphrase {
	return func(*pgp.Certificate) ([]byte, error) { return []byte(s), nil }
}

// TestKeyExport: what is exported is read again, and locked where it should be.
func TestKeyExport(t *testing.T) {
	t.Parallel()
	k, other := makeKey(t, "alice@example.org"), makeKey(t, "bob@example.net")
	plain, err := k.Export(nil)
	if err != nil || !bytes.Equal(plain, k.Marshal()) {
		t.Fatalf("Export without passphrase: %v", err)
	}
	locked, err := k.ExportArmored([]byte("passphrase-canary"))
	if err != nil {
		t.Fatal(err)
	}
	otherArmored, _ := other.ExportArmored(nil)
	tests := []struct {
		name string
		file []byte
		ask  pgp.Passphrase
		n    int
		err  error
	}{
		{"binary", plain, nil, 1, nil},
		{"armored and locked", []byte(locked), passphrase("passphrase-canary"), 1, nil},
		{"wrong passphrase", []byte(locked), passphrase("wrong"), 0, pgp.ErrLocked},
		{"nobody to ask", []byte(locked), nil, 0, pgp.ErrLocked},
		{"two armored blocks with text around", []byte("hello\n" + locked + "and\n" + otherArmored), passphrase("passphrase-canary"), 2, nil},
		{"two binary keys", append(bytes.Clone(plain), other.Marshal()...), nil, 2, nil},
		{"certificate beside a key", append(bytes.Clone(other.Certificate().Bytes()), plain...), nil, 1, nil},
		{"certificate only", []byte(k.Certificate().Armored()), nil, 0, pgp.ErrNoSecret},
		{"nothing", nil, nil, 0, pgp.ErrMalformed},
		{"text", []byte("hello"), nil, 0, pgp.ErrMalformed},
		{"cut off", plain[:len(plain)-200], nil, 0, pgp.ErrMalformed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			keys, err := pgp.ParseKeys(tt.file, tt.ask)
			if !errors.Is(err, tt.err) || len(keys) != tt.n {
				t.Fatalf("ParseKeys = %d keys, %v; want %d, %v", len(keys), err, tt.n, tt.err)
			}
			if err != nil && strings.Contains(err.Error(), "canary") {
				t.Errorf("error tells the passphrase: %v", err)
			}
			if tt.n == 1 && !bytes.Equal(keys[0].Marshal(), plain) {
				t.Error("another key came out")
			}
		})
	}
	groups := 0
	for p := range packetsOf(t, mustDearmor(t, locked)) {
		if p.Tag == 5 || p.Tag == 7 {
			groups++
			// RFC 9580, Section 3.7.2.1: usage 254, iterated S2K (3), SHA-256 (8).
			if !bytes.Contains(p.Contents, []byte{254, 9, 3, 8}) {
				t.Error("exported key is not locked as GnuPG 2.2 reads it")
			}
		}
	}
	if groups != 2 {
		t.Errorf("%d secret packets", groups)
	}
}

// TestKeyStubs: what GnuPG leaves of an offline key is told plainly.
func TestKeyStubs(t *testing.T) {
	t.Parallel()
	k := makeKey(t, "alice@example.org")
	stub := func(tags ...uint8) []byte {
		var out bytes.Buffer
		for p := range packetsOf(t, k.Marshal()) {
			if bytes.IndexByte(tags, p.Tag) >= 0 {
				pub := 51 // bytes of an EdDSA public key
				if p.Tag == 7 {
					pub = 56 // of an ECDH one
				}
				p.Contents = append(bytes.Clone(p.Contents[:pub]), 255, 0, 101, 0, 'G', 'N', 'U', 1)
			}
			if err := p.Serialize(&out); err != nil {
				t.Fatal(err)
			}
		}
		return out.Bytes()
	}
	if _, err := pgp.ParseKeys(stub(5, 7), nil); !errors.Is(err, pgp.ErrNoSecret) {
		t.Errorf("a key of stubs: %v, want ErrNoSecret", err)
	}
	keys, err := pgp.ParseKeys(stub(5), nil)
	if err != nil {
		t.Fatalf("a key with an offline primary: %v", err)
	}
	if !keys[0].Offline() {
		t.Error("not told offline")
	}
	card := bytes.ReplaceAll(stub(5), []byte("GNU\x01"), []byte("GNU\x02"))
	if keys, err := pgp.ParseKeys(card, nil); err != nil || !keys[0].Offline() {
		t.Errorf("a key with its primary on a card: %v", err)
	}
	if err := keys[0].CheckSign(testNow); !errors.Is(err, pgp.ErrNoSecret) {
		t.Errorf("CheckSign without secret: %v, want ErrNoSecret", err)
	}
	if len(pgp.Keys(keys...).Certificates()) != 1 {
		t.Error("it does not decrypt")
	}
}

// TestKeyArgon: a key locked with Argon2 opens, unless it asks for memory that
// would end the process.
func TestKeyArgon(t *testing.T) {
	t.Parallel()
	e := engineKey(t, "alice@example.org", testNow)
	config := &packet.Config{AEADConfig: &packet.AEADConfig{}, DefaultCipher: packet.CipherAES256,
		S2KConfig: &s2k.Config{S2KMode: s2k.Argon2S2K, Argon2Config: &s2k.Argon2Config{NumberOfPasses: 1, DegreeOfParallelism: 1, Memory: 1 << 10}}}
	if err := e.EncryptPrivateKeys([]byte("word"), config); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := e.SerializePrivateWithoutSigning(&b, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := pgp.ParseKeys(b.Bytes(), passphrase("word")); err != nil {
		t.Errorf("ParseKeys: %v", err)
	}
	var heavy bytes.Buffer
	for p := range packetsOf(t, b.Bytes()) {
		if i := bytes.Index(p.Contents, []byte{253, 9}); i >= 0 {
			p.Contents[i+3+19] = 31 // usage, cipher, AEAD; type, salt, passes, parallelism
		}
		if err := p.Serialize(&heavy); err != nil {
			t.Fatal(err)
		}
	}
	asked := false
	_, err := pgp.ParseKeys(heavy.Bytes(), func(*pgp.Certificate) ([]byte, error) { asked = true; return []byte("word"), nil })
	if !errors.Is(err, pgp.ErrLocked) || asked {
		t.Errorf("2 TiB of Argon2: %v, asked %v; want ErrLocked before asking", err, asked)
	}
}

// TestKeysConcurrently finds races under -race: the engine caches in its
// entities.
func TestKeysConcurrently(t *testing.T) {
	t.Parallel()
	alice, bob := makeKey(t, "alice@example.org"), makeKey(t, "bob@example.net")
	done := make(chan bool)
	for range 4 {
		go func() {
			defer func() { done <- true }()
			for range 3 {
				out := protect(t, crlf(letter), pgp.Protection{Signer: alice, Recipients: []*pgp.Certificate{bob.Certificate()},
					Autocrypt: alice.Certificate()})
				if !strings.Contains(out, "BEGIN PGP") {
					t.Error("not encrypted")
				}
			}
		}()
	}
	for range 4 {
		<-done
	}
}

func FuzzParseKeys(f *testing.F) {
	k, err := pgp.GenerateKey(addr(f, "a@example.org"), pgp.DefaultProfile, time.Unix(1700000000, 0))
	if err != nil {
		f.Fatal(err)
	}
	armored, _ := k.ExportArmored(nil)
	f.Add(k.Marshal())
	f.Add([]byte(armored))
	f.Fuzz(func(t *testing.T, b []byte) {
		keys, err := pgp.ParseKeys(b, passphrase("x"))
		if err == nil && len(keys) == 0 {
			t.Error("neither keys nor an error")
		}
		for _, k := range keys {
			again, err := pgp.ParseKeys(k.Marshal(), nil)
			if err != nil || len(again) != 1 || again[0].Fingerprint() != k.Fingerprint() {
				t.Errorf("not read again: %v", err)
			}
		}
	})
}

// TestMergeKeysTakesTheSecretThatIsHere: of two copies with the secrets of different
// packets, in whichever order.
func TestMergeKeysTakesTheSecretThatIsHere(t *testing.T) {
	t.Parallel()
	whole := makeKey(t, "alice@example.org")
	without := func(tag uint8, public int) *pgp.Key {
		t.Helper()
		var out bytes.Buffer
		for p := range packetsOf(t, whole.Marshal()) {
			if p.Tag == tag {
				p.Contents = append(bytes.Clone(p.Contents[:public]), 255, 0, 101, 0, 'G', 'N', 'U', 1)
			}
			must(t, p.Serialize(&out))
		}
		keys, err := pgp.ParseKeys(out.Bytes(), nil)
		must(t, err)
		return keys[0]
	}
	offline, signing := without(5, 51), without(7, 56)
	for name, pair := range map[string][2]*pgp.Key{"primary first": {signing, offline}, "subkey first": {offline, signing}, "nothing new": {whole, offline}, "an offline one before": {offline, whole}} {
		k, err := pgp.MergeKeys(pair[0], pair[1])
		if err != nil || k.Offline() || !bytes.Equal(k.Marshal(), whole.Marshal()) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if k, err := pgp.MergeKeys(offline, offline); err != nil || !k.Offline() {
		t.Errorf("a stub with itself: %v", err)
	}
	if _, err := pgp.MergeKeys(whole, makeKey(t, "alice@example.org")); !errors.Is(err, pgp.ErrMalformed) {
		t.Errorf("two keys: %v", err)
	}
}

package pgp_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"runtime"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/pgp"
)

// configV6 makes version 6 keys that take SEIPDv2.
func configV6() *packet.Config {
	return &packet.Config{Algorithm: packet.PubKeyAlgoEd25519, V6Keys: true, AEADConfig: &packet.AEADConfig{}, Time: at(testNow).Time}
}

func keyV6(t testing.TB, address string) *pgp.Key { return keyOf(t, address, configV6()) }

// keyOf is a key that the engine makes.
func keyOf(t testing.TB, address string, c *packet.Config) *pgp.Key {
	t.Helper()
	e, err := openpgp.NewEntity("", "", address, c)
	if err != nil {
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
	return keys[0]
}

// TestOtherRecipients: certificates of other versions and algorithms, alone and
// together, each get their session key.
func TestOtherRecipients(t *testing.T) {
	t.Parallel()
	make := func(change func(*packet.Config)) *pgp.Key {
		c := configV6()
		change(c)
		return keyOf(t, "bob@example.net", c)
	}
	alice := makeKey(t, "alice@example.org")
	keys := map[string]*pgp.Key{
		"v4 default":       makeKey(t, "carol@example.net"),
		"v6":               make(func(*packet.Config) {}),
		"v6 post-quantum":  make(func(c *packet.Config) { c.Algorithm = packet.PubKeyAlgoMldsa65Ed25519 }),
		"v4 RSA":           make(func(c *packet.Config) { c.Algorithm, c.V6Keys, c.AEADConfig = packet.PubKeyAlgoRSA, false, nil }),
		"v4 with SEIPDv2":  make(func(c *packet.Config) { c.Algorithm, c.V6Keys = packet.PubKeyAlgoEdDSA, false }),
		"v4 native curves": make(func(c *packet.Config) { c.V6Keys = false }),
	}
	for name, one := range keys {
		for other, two := range keys {
			out := protect(t, crlf(letter), pgp.Protection{Signer: alice,
				Recipients: []*pgp.Certificate{one.Certificate(), two.Certificate()}})
			for _, k := range []*pgp.Key{one, two} {
				if inner, _ := decrypted(t, out, alice, k); len(inner) < len(letter)/2 {
					t.Errorf("%s and %s: short", name, other)
				}
			}
		}
		if out := protect(t, crlf(letter), pgp.Protection{Signer: one, Recipients: []*pgp.Certificate{alice.Certificate()}, Autocrypt: one.Certificate()}); out != "" {
			decrypted(t, out, one, alice)
		}
	}
}

// TestSessionKeysFit: a packet too few, too many or for another is noticed.
func TestSessionKeysFit(t *testing.T) {
	t.Parallel()
	bob, carol := makeKey(t, "bob@example.net"), makeKey(t, "carol@example.net")
	pkesk := func(keys ...*pgp.Key) []byte {
		var out bytes.Buffer
		for p := range packetsOf(t, mustDearmor(t, armored(t, keys, nil))) {
			if p.Tag == 1 {
				if err := p.Serialize(&out); err != nil {
					t.Fatal(err)
				}
			}
		}
		return out.Bytes()
	}
	b, c := bob.Certificate(), carol.Certificate()
	if err := pgp.SessionKeysFit(pkesk(bob, carol), b, c); err != nil {
		t.Errorf("right packets: %v", err)
	}
	for name, err := range map[string]error{
		"one too few": pgp.SessionKeysFit(pkesk(bob), b, c), "one too many": pgp.SessionKeysFit(pkesk(bob, carol), b),
		"another's": pgp.SessionKeysFit(pkesk(carol), b), "none": pgp.SessionKeysFit(nil, b),
		"other packets": pgp.SessionKeysFit(b.Bytes()[:0:0], b), "a key": pgp.SessionKeysFit(b.Bytes(), b),
		"cut off": pgp.SessionKeysFit(pkesk(bob)[:20], b),
	} {
		if err == nil {
			t.Errorf("%s: not noticed", name)
		}
	}
}

// bigSource is a message of n bytes that lies nowhere.
type bigSource struct {
	head string
	n    int64
}

func (b bigSource) Size() int64 { return b.n }

func (b bigSource) ReadAt(p []byte, off int64) (int, error) {
	const line = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWZnaGlqa2xtbm9wcXJzdHV2d3h5ejAxMjM0NQ\r\n"
	n := int(min(int64(len(p)), b.n-off))
	for i := 0; i < n; {
		at := off + int64(i)
		if at < int64(len(b.head)) {
			i += copy(p[i:n], b.head[at:])
			continue
		}
		i += copy(p[i:n], line[(at-int64(len(b.head)))%int64(len(line)):])
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// TestBigMessage: a large message takes a bounded amount of memory, each way of writing.
func TestBigMessage(t *testing.T) {
	alice := makeKey(t, "alice@example.org")
	src := bigSource{crlf("From: alice@example.org\nContent-Type: application/pdf\nContent-Transfer-Encoding: base64\n\n"), bigMessage}
	eight := bigSource{crlf("From: alice@example.org\nContent-Type: application/pdf\nContent-Transfer-Encoding: binary\n\n"), bigMessage}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	p := pgp.Protection{Signer: alice, Now: testNow, Spool: message.SpoolOptions{Dir: t.TempDir()}}
	for _, recipients := range [][]*pgp.Certificate{nil, {alice.Certificate()}} {
		p.Recipients = recipients
		for _, src := range []bigSource{src, eight} {
			if err := pgp.Protect(context.Background(), io.Discard, src, p); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := pgp.Seal(context.Background(), io.Discard, src, pgp.Sealing{Signer: alice, Storage: alice.Certificate(), Now: testNow}); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if grown := int64(after.Sys) - int64(before.Sys); grown > bigMessage*5/8 {
		t.Errorf("%d MB took %d MB of memory", bigMessage>>20, grown>>20)
	}
}

// shortSource fails in the middle.
type shortSource struct{ message.Source }

var errRead = errors.New("disk failed")

func (s shortSource) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > s.Size()/2 {
		return 0, errRead
	}
	return s.Source.ReadAt(p, off)
}

// TestSourceFails: what can't be read whole is not sent.
func TestSourceFails(t *testing.T) {
	t.Parallel()
	alice := makeKey(t, "alice@example.org")
	src := shortSource{message.Bytes(attachmentMail(300 << 10))}
	err := pgp.Protect(context.Background(), io.Discard, src, pgp.Protection{Signer: alice, Recipients: []*pgp.Certificate{alice.Certificate()}, Now: testNow})
	if !errors.Is(err, errRead) {
		t.Errorf("Protect: %v", err)
	}
	err = pgp.Seal(context.Background(), io.Discard, src, pgp.Sealing{Signer: alice, Storage: alice.Certificate(), Now: testNow})
	if !errors.Is(err, errRead) {
		t.Errorf("Seal: %v", err)
	}
}

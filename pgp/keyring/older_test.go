package keyring_test

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/pgp"
	"letterlock.org/letterlock/pgp/keyring"
)

// TestImportOfAnOlderCopy: what was saved long ago takes nothing back.
func TestImportOfAnOlderCopy(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s, err := store.OpenMemory(keyring.Schema)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	at := now
	r := keyring.NewAt(s, func() time.Time { return at })
	alice := addr(t, "alice@example.org")
	must[*pgp.Certificate](t)(r.Generate(ctx, alice, ""))
	old := must[[]byte](t)(r.Export(ctx, alice, "", nil))
	at = now.Add(500 * day)
	longer := must[*pgp.Certificate](t)(r.Extend(ctx, alice))
	older := func() {
		t.Helper()
		if err := r.Import(ctx, alice, must[[]*pgp.Key](t)(pgp.ParseKeys(old, nil))); err != nil {
			t.Fatal(err)
		}
	}
	older()
	c := must[*pgp.Certificate](t)(r.Certificate(ctx, alice))
	if !c.Expires().Equal(longer.Expires()) {
		t.Errorf("the key expires at %v, and before the import at %v", c.Expires(), longer.Expires())
	}
	before := must[[]byte](t)(r.Export(ctx, alice, "", nil))
	older()
	if !bytes.Equal(must[[]byte](t)(r.Export(ctx, alice, "", nil)), before) {
		t.Error("a second import changes something")
	}
	must[*pgp.Certificate](t)(r.Revoke(ctx, alice, "", pgp.Compromised))
	older()
	if c := must[*pgp.Certificate](t)(r.Certificate(ctx, alice)); !c.Revoked(at) {
		t.Error("the key is revoked no more")
	}
}

// TestImportOfPartsOfAKey: each copy may have what another hasn't.
func TestImportOfPartsOfAKey(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	config := &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA, Time: func() time.Time { return now }}
	e, err := openpgp.NewEntity("", "", "alice@example.org", config)
	if err != nil {
		t.Fatal(err)
	}
	key := func() *pgp.Key {
		t.Helper()
		var b bytes.Buffer
		if err := e.SerializePrivateWithoutSigning(&b, nil); err != nil {
			t.Fatal(err)
		}
		return must[[]*pgp.Key](t)(pgp.ParseKeys(b.Bytes(), nil))[0]
	}
	first := key()
	if err := e.AddEncryptionSubkey(config); err != nil {
		t.Fatal(err)
	}
	if err := e.AddUserId("", "", "other@example.org", config); err != nil {
		t.Fatal(err)
	}
	whole := key()
	for name, order := range map[string][]*pgp.Key{"the older copy first": {first, whole}, "the newer copy first": {whole, first}} {
		r, _ := open(t)
		alice := addr(t, "alice@example.org")
		for _, k := range order {
			if err := r.Import(ctx, alice, []*pgp.Key{k}); err != nil {
				t.Fatal(err)
			}
		}
		keys := must[[]*pgp.Key](t)(pgp.ParseKeys(must[[]byte](t)(r.Export(ctx, alice, "", nil)), nil))
		if len(keys) != 1 || len(keys[0].Certificate().KeyIDs()) != 3 || !keys[0].Certificate().Has(addr(t, "other@example.org")) || keys[0].Offline() {
			t.Errorf("%s: got %d keys", name, len(keys))
		}
	}
}

package keyring_test

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/pgp"
	"letterlock.org/letterlock/pgp/keyring"
)

const day = 24 * time.Hour

// TestExtendDue: a key of ours is extended when less than eight months are left,
// also after its end, and again and again; another's policy is left alone.
func TestExtendDue(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s, err := store.OpenMemory(keyring.Schema)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	at := now
	r := keyring.NewAt(s, func() time.Time { return at })
	alice, bob, carol := addr(t, "alice@example.org"), addr(t, "bob@example.org"), addr(t, "carol@example.org")
	old := must[*pgp.Certificate](t)(r.Generate(ctx, alice, ""))
	first := must[*pgp.Certificate](t)(r.Generate(ctx, alice, ""))
	for a, c := range map[address.Address]*packet.Config{
		bob:   {Algorithm: packet.PubKeyAlgoEdDSA, KeyLifetimeSecs: 700 * 86400},                                     // another end
		carol: {Algorithm: packet.PubKeyAlgoRSA, RSABits: 2048, KeyLifetimeSecs: uint32(pgp.Lifetime / time.Second)}, // another algorithm
	} {
		c.Time = func() time.Time { return now }
		must[bool](t)(true, r.Import(ctx, a, imported(t, a, c)))
	}
	for _, step := range []struct {
		after time.Duration
		want  int
	}{{400 * day, 0}, {491 * day, 1}, {492 * day, 0}, {491*day + pgp.Lifetime + day, 1}} {
		at = now.Add(step.after)
		got := must[[]address.Address](t)(r.ExtendDue(ctx))
		if len(got) != step.want || len(got) > 0 && !got[0].Equal(alice) {
			t.Fatalf("after %d days extended %v, want %d", step.after/day, got, step.want)
		}
		if step.want == 1 {
			c := must[*pgp.Certificate](t)(r.Certificate(ctx, alice))
			if c.Fingerprint() != first.Fingerprint() || !c.Expires().Equal(at.Add(pgp.Lifetime)) || c.CheckEncrypt(at.Add(700*day)) != nil {
				t.Errorf("after %d days: %s expires %v", step.after/day, c.Fingerprint(), c.Expires())
			}
		}
	}
	for _, e := range must[[]keyring.Entry](t)(r.List(ctx)) {
		if e.Certificate.Fingerprint() == old.Fingerprint() && !e.Certificate.Expires().Equal(old.Expires()) {
			t.Error("a key that isn't active was extended")
		}
		if e.Address == bob.Key() && !e.Certificate.Expires().Equal(now.Add(700*day)) {
			t.Error("a key with another end was extended")
		}
	}
}

// TestExtendDueAfterMoving: a key that another Letterlock made goes on being
// extended where it was moved to.
func TestExtendDueAfterMoving(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	from, _ := open(t)
	alice := addr(t, "alice@example.org")
	must[*pgp.Certificate](t)(from.Generate(ctx, alice, ""))
	keys, err := pgp.ParseKeys(must[[]byte](t)(from.Export(ctx, alice, "", nil)), nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.OpenMemory(keyring.Schema)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	to := keyring.NewAt(s, func() time.Time { return now.Add(600 * day) })
	if err := to.Import(ctx, alice, keys); err != nil {
		t.Fatal(err)
	}
	if got := must[[]address.Address](t)(to.ExtendDue(ctx)); len(got) != 1 {
		t.Errorf("extended %v", got)
	}
}

func imported(t *testing.T, a address.Address, c *packet.Config) []*pgp.Key {
	t.Helper()
	e, err := openpgp.NewEntity(a.String(), "", "", c)
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
	return keys
}

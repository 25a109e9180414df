package keyring_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/pgp"
	"letterlock.org/letterlock/pgp/keyring"
)

var now = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

func clock() time.Time { return now }

func addr(t *testing.T, s string) address.Address {
	t.Helper()
	a, err := address.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func open(t *testing.T) (*keyring.Ring, store.Store) {
	t.Helper()
	s, err := store.OpenMemory(keyring.Schema)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return keyring.NewAt(s, clock), s
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// TestRingLifecycle follows one address through two keys.
func TestRingLifecycle(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	r, s := open(t)
	alice := addr(t, "Alice@example.org")
	if _, err := r.Signer(ctx, alice); !errors.Is(err, keyring.ErrNoKey) {
		t.Fatalf("Signer of an empty ring: %v, want ErrNoKey", err)
	}
	first := must[*pgp.Certificate](t)(r.Generate(ctx, alice, pgp.DefaultProfile))
	second := must[*pgp.Certificate](t)(r.Generate(ctx, alice, pgp.DefaultProfile))

	for _, r := range []*keyring.Ring{r, keyring.NewAt(s, clock)} { // from memory, and from the store
		got := must[*pgp.Certificate](t)(r.Certificate(ctx, addr(t, "alice@EXAMPLE.org")))
		if got.Fingerprint() != second.Fingerprint() {
			t.Errorf("active is %s, want the newer %s", got.Fingerprint(), second.Fingerprint())
		}
		d := must[pgp.Decrypter](t)(r.Decrypter(ctx, alice, alice))
		if c := d.Certificates(); len(c) != 2 || c[0].Fingerprint() != second.Fingerprint() || c[1].Fingerprint() != first.Fingerprint() {
			t.Errorf("decrypter has %d keys, want both, the active one first", len(c))
		}
	}
	if err := r.Remove(ctx, alice, second.Fingerprint()); !errors.Is(err, keyring.ErrActive) {
		t.Errorf("removing the active key: %v, want ErrActive", err)
	}
	if err := r.Activate(ctx, alice, first.Fingerprint()); err != nil {
		t.Fatal(err)
	}
	if got := must[*pgp.Certificate](t)(r.Certificate(ctx, alice)); got.Fingerprint() != first.Fingerprint() {
		t.Errorf("active is %s after Activate", got.Fingerprint())
	}
	if err := r.Remove(ctx, alice, second.Fingerprint()); err != nil {
		t.Fatal(err)
	}
	list := must[[]keyring.Entry](t)(r.List(ctx))
	if len(list) != 1 || !list[0].Active || list[0].Address != alice.Key() || !list[0].Added.Equal(now) {
		t.Errorf("List = %+v", list)
	}
	if err := r.Activate(ctx, alice, "FFFF"); !errors.Is(err, keyring.ErrNoKey) {
		t.Errorf("activating a key that isn't there: %v", err)
	}
}

// TestRingImport: what one ring exports another takes, and uses.
func TestRingImport(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	from, _ := open(t)
	to, _ := open(t)
	alice := addr(t, "alice@example.org")
	cert := must[*pgp.Certificate](t)(from.Generate(ctx, alice, ""))
	armored := must[string](t)(from.ExportArmored(ctx, alice, "", []byte("word-canary")))
	keys, err := pgp.ParseKeys([]byte(armored), func(*pgp.Certificate) ([]byte, error) { return []byte("word-canary"), nil })
	if err != nil {
		t.Fatal(err)
	}
	if err := to.Import(ctx, alice, keys); err != nil {
		t.Fatal(err)
	}
	if err := to.Import(ctx, alice, keys); err != nil {
		t.Fatalf("importing again: %v", err)
	}
	signer := must[pgp.Signer](t)(to.Signer(ctx, alice))
	if signer.Certificate().Fingerprint() != cert.Fingerprint() {
		t.Error("another key came out")
	}
	var out bytes.Buffer
	err = pgp.Protect(ctx, &out, message.Bytes([]byte("From: alice@example.org\r\n\r\nhi\r\n")),
		pgp.Protection{Signer: signer, Recipients: []*pgp.Certificate{cert}, Now: now})
	if err != nil || !strings.Contains(out.String(), "BEGIN PGP MESSAGE") {
		t.Errorf("Protect with a stored key: %v", err)
	}
	// A key of another name is kept for decrypting, but doesn't sign.
	bob := addr(t, "bob@example.org")
	if err := to.Import(ctx, bob, keys); err != nil {
		t.Fatal(err)
	}
	if _, err := to.Signer(ctx, bob); !errors.Is(err, keyring.ErrNoKey) {
		t.Errorf("Signer of another's key: %v, want ErrNoKey", err)
	}
	if d, err := to.Decrypter(ctx, bob); err != nil || len(d.Certificates()) != 1 {
		t.Errorf("Decrypter of another's key: %v", err)
	}
}

// TestRingNoticesTampering: a row changed in the store opens nothing.
func TestRingNoticesTampering(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for _, change := range []string{
		"UPDATE keyring_keys SET active = 1 - active",
		"UPDATE keyring_keys SET address = 'bob@example.org'",
		"UPDATE keyring_keys SET secret = x'99'",
		"UPDATE keyring_keys SET added = added + 1",
	} {
		t.Run(change, func(t *testing.T) {
			r, s := open(t)
			alice, bob := addr(t, "alice@example.org"), addr(t, "bob@example.org")
			must[*pgp.Certificate](t)(r.Generate(ctx, alice, ""))
			err := s.Update(ctx, func(tx store.Tx) error {
				_, err := tx.Exec(change)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			r = keyring.NewAt(s, clock)
			_, errA := r.Signer(ctx, alice)
			_, errB := r.Signer(ctx, bob)
			if !errors.Is(errA, store.ErrTampered) && !errors.Is(errB, store.ErrTampered) {
				t.Errorf("Signer: %v and %v, want ErrTampered", errA, errB)
			}
		})
	}
}

// hooked runs a function after each View.
type hooked struct {
	store.Store
	after func()
}

func (h *hooked) View(ctx context.Context, f func(store.Tx) error) error {
	err := h.Store.View(ctx, f)
	if after := h.after; after != nil {
		h.after = nil
		after()
	}
	return err
}

// TestRingKeepsNothingStale: what was read before another stored a key isn't
// remembered after.
func TestRingKeepsNothingStale(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	_, s := open(t)
	h := &hooked{Store: s}
	r := keyring.NewAt(h, clock)
	alice := addr(t, "alice@example.org")
	must[*pgp.Certificate](t)(r.Generate(ctx, alice, ""))
	var second *pgp.Certificate
	h.after = func() { second = must[*pgp.Certificate](t)(r.Generate(ctx, alice, "")) }
	must[*pgp.Certificate](t)(r.Certificate(ctx, alice))
	if got := must[*pgp.Certificate](t)(r.Certificate(ctx, alice)); got.Fingerprint() != second.Fingerprint() {
		t.Error("the ring still has the key of before")
	}
}

// TestRingExtend: an extended key stays the active one.
func TestRingExtend(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s, err := store.OpenMemory(keyring.Schema)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	alice, at := addr(t, "alice@example.org"), now
	r := keyring.NewAt(s, func() time.Time { return at })
	first := must[*pgp.Certificate](t)(r.Generate(ctx, alice, ""))
	at = at.Add(400 * 24 * time.Hour)
	must[*pgp.Certificate](t)(r.Extend(ctx, alice))
	got := must[*pgp.Certificate](t)(r.Certificate(ctx, alice))
	if got.Fingerprint() != first.Fingerprint() || !got.Expires().Equal(at.Add(pgp.Lifetime)) {
		t.Errorf("%s expires %v", got.Fingerprint(), got.Expires())
	}
}

// TestRingForget: keys are read again after they were wiped from memory.
func TestRingForget(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	r, _ := open(t)
	alice := addr(t, "alice@example.org")
	want := must[*pgp.Certificate](t)(r.Generate(ctx, alice, ""))
	must[pgp.Signer](t)(r.Signer(ctx, alice))
	r.Forget()
	if got := must[*pgp.Certificate](t)(r.Certificate(ctx, alice)); got.Fingerprint() != want.Fingerprint() {
		t.Errorf("after Forget: %s", got.Fingerprint())
	}
	if b := must[[]byte](t)(r.Export(ctx, alice, "", nil)); len(b) == 0 || bytes.Equal(b, make([]byte, len(b))) {
		t.Error("after Forget the key is empty")
	}
}

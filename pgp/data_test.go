package pgp_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/pgp"
)

func dataKey(t *testing.T, s string, now time.Time) *pgp.Key {
	t.Helper()
	a, err := address.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	k, err := pgp.GenerateKey(a, pgp.DefaultProfile, now)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestDataIsForItsRecipients(t *testing.T) {
	ctx, now := context.Background(), time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	alice, bob := dataKey(t, "alice@example.org", now), dataKey(t, "bob@example.org", now)
	var b bytes.Buffer
	if err := pgp.EncryptData(ctx, &b, []byte("a secret"), now, alice.Certificate()); err != nil {
		t.Fatal(err)
	}
	got, err := pgp.DecryptData(ctx, message.Bytes(b.Bytes()), "", alice, 100)
	if err != nil || string(got) != "a secret" {
		t.Errorf("got %q, %v", got, err)
	}
	if got, err := pgp.DecryptData(ctx, message.Bytes(b.Bytes()), "", bob, 100); !errors.Is(err, pgp.ErrMalformed) || got != nil {
		t.Errorf("another's key: got %q, %v", got, err)
	}
	if got, err := pgp.DecryptData(ctx, message.Bytes(b.Bytes()), "", alice, 5); !errors.Is(err, pgp.ErrMalformed) || got != nil {
		t.Errorf("too long: got %q, %v", got, err)
	}
	for i := 100; i < b.Len()-100; i += 37 {
		bad := bytes.Clone(b.Bytes())
		bad[i] ^= 1
		if got, err := pgp.DecryptData(ctx, message.Bytes(bad), "", alice, 100); err == nil {
			t.Fatalf("changed at %d: got %q", i, got)
		}
	}
}

func TestDataSignatures(t *testing.T) {
	ctx, now := context.Background(), time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	alice, bob := dataKey(t, "alice@example.org", now), dataKey(t, "bob@example.org", now)
	sig, micalg, err := pgp.SignData(ctx, alice, []byte("a request\n"), now)
	if err != nil || !strings.HasPrefix(micalg, "pgp-sha") {
		t.Fatal(micalg, err)
	}
	revoked, err := pgp.Revoke(alice, pgp.Superseded, now.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		cert *pgp.Certificate
		data string
		sig  string
		now  time.Time
		want error
	}{
		{"as it was signed", alice.Certificate(), "a request\n", sig, now, nil},
		{"other data", alice.Certificate(), "a request", sig, now, pgp.ErrMalformed},
		{"another's certificate", bob.Certificate(), "a request\n", sig, now, pgp.ErrMalformed},
		{"no signature", alice.Certificate(), "a request\n", "", now, pgp.ErrMalformed},
		{"from the future", alice.Certificate(), "a request\n", sig, now.Add(-time.Hour), pgp.ErrMalformed},
		{"revoked since", revoked.Certificate(), "a request\n", sig, now.Add(2 * time.Hour), pgp.ErrRevoked},
	} {
		if err := pgp.VerifyData(tt.cert, []byte(tt.data), tt.sig, tt.now); !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
		}
	}
}

package pgp_test

import (
	"bytes"
	"errors"
	"testing"

	"letterlock.org/letterlock/pgp"
)

// TestParseSeveralKeys: one key that can't be had doesn't keep the others away,
// and is told.
func TestParseSeveralKeys(t *testing.T) {
	t.Parallel()
	alice, bob := makeKey(t, "alice@example.org"), makeKey(t, "bob@example.net")
	a, b := alice.Marshal(), bob.Marshal()
	broken := bytes.Clone(a)
	broken[2] = 9 // no such version (RFC 9580, Section 5.5.2)
	if b[1] >= 192 {
		t.Fatal("the packet's header is longer than this test thinks")
	}
	lockedAlice := must1(alice.Export([]byte("word")))(t)
	armored := func(k *pgp.Key) []byte { return []byte(must1(k.ExportArmored(nil))(t)) }
	damaged := bytes.Replace(armored(alice), []byte("\r\n\r\n"), []byte("\r\n\r\n*"), 1)
	tests := []struct {
		name string
		file []byte
		want error
	}{
		{"a malformed one before", join(broken, b), pgp.ErrMalformed},
		{"a malformed one behind", join(b, broken), pgp.ErrMalformed},
		{"one cut off", join(b, a[:len(a)-10]), pgp.ErrMalformed},
		{"a locked one before", join(lockedAlice, b), pgp.ErrLocked},
		{"a damaged block before", join(damaged, armored(bob)), pgp.ErrMalformed},
		{"a damaged block behind", join(armored(bob), damaged), pgp.ErrMalformed},
		{"a certificate beside", join(alice.Certificate().Bytes(), b), nil},
		{"a certificate's block beside", join([]byte(alice.Certificate().Armored()), armored(bob)), nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			keys, err := pgp.ParseKeys(tt.file, nil)
			if len(keys) != 1 || keys[0].Fingerprint() != bob.Fingerprint() {
				t.Errorf("%d keys, want Bob's", len(keys))
			}
			if !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
		})
	}
	for name, file := range map[string][]byte{"nothing": nil, "a certificate": alice.Certificate().Bytes(),
		"two certificates": join([]byte(alice.Certificate().Armored()), []byte(bob.Certificate().Armored()))} {
		if keys, err := pgp.ParseKeys(file, nil); err == nil || len(keys) > 0 {
			t.Errorf("%s: %d keys, %v", name, len(keys), err)
		} else if name != "nothing" && !errors.Is(err, pgp.ErrNoSecret) {
			t.Errorf("%s: %v, want ErrNoSecret", name, err)
		}
	}
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// must1 gives a value whose making may not fail.
func must1[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		must(t, err)
		return v
	}
}

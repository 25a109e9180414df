package pgp_test

import (
	"bytes"
	"context"
	"testing"

	"letterlock.org/letterlock/pgp"
)

func TestSplitSigned(t *testing.T) {
	t.Parallel()
	c := newCouple(t)
	text := []byte("one\ntwo\n")
	inline, err := pgp.SignInline(text, false, testNow, c.alice)
	must(t, err)
	clear, err := pgp.SignClear(text, testNow, c.alice, c.mallory)
	must(t, err)
	for _, tt := range []struct {
		name string
		data []byte
		good int
	}{
		{"a signed message", inline, 1},
		{"two signatures in the clear", clear, 2},
		{"a second text behind it", append(bytes.Clone(inline), literal(t, "more")...), -1},
		{"a text before it", append(literal(t, "more"), inline...), -1},
		{"text before one in the clear", append([]byte("Hello\n"), clear...), -1},
		{"an encrypted message", written(t, "secret", c.alice, nil, c.bob), -1},
		{"nothing", nil, -1},
	} {
		signed, signatures, err := pgp.SplitSigned(tt.data)
		if (err != nil) != (tt.good < 0) {
			t.Errorf("%s: %v", tt.name, err)
		}
		if err != nil {
			continue
		}
		good, err := pgp.Verify(context.Background(), signed, signatures, []*pgp.Certificate{c.alice.Certificate(), c.mallory.Certificate()}, testNow)
		if err != nil || len(good) != tt.good {
			t.Errorf("%s: %d good signatures, %v", tt.name, len(good), err)
		}
	}
}

func FuzzSplitSigned(f *testing.F) {
	k := newCouple(f).alice
	inline, _ := pgp.SignInline([]byte("a"), true, testNow, k)
	clear, _ := pgp.SignClear([]byte("- a\n"), testNow, k)
	for _, b := range [][]byte{inline, clear, []byte("-----BEGIN PGP SIGNED MESSAGE-----\n\n"), {0xc8, 2, 1, 0}, {0xcb, 0xe1}} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		signed, signatures, err := pgp.SplitSigned(b)
		if err != nil && (signed != nil || signatures != nil) {
			t.Errorf("gave %d bytes and %v", len(signed), err)
		}
	})
}

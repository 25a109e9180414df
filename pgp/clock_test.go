package pgp_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/pgp"
)

// TestSealAtAnyTime: a key that has expired, or that a clock set back takes for
// one of the future, still files mail, and what it filed opens.
func TestSealAtAnyTime(t *testing.T) {
	t.Parallel()
	alice := makeKey(t, "alice@example.org")
	mail := crlf(letter)
	for name, now := range map[string]time.Time{
		"valid":              testNow.Add(time.Hour),
		"the last second":    testNow.Add(pgp.Lifetime - time.Second),
		"just expired":       testNow.Add(pgp.Lifetime),
		"expired long since": testNow.Add(3 * pgp.Lifetime),
		"not made yet":       testNow.Add(-time.Hour),
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			err := pgp.Seal(context.Background(), &out, message.Bytes([]byte(mail)), pgp.Sealing{Signer: alice, Storage: alice.Certificate(), Now: now})
			if err != nil {
				t.Fatal(err)
			}
			longer, err := pgp.Extend(alice, testNow.Add(3*pgp.Lifetime+time.Hour))
			if err != nil {
				t.Fatal(err)
			}
			for _, k := range []*pgp.Key{alice, longer} {
				o := opening(t, k, "alice@example.org")
				o.Now = now.Add(time.Minute)
				opened, got := openMail(t, out.String(), o)
				if opened.Class != pgp.Encrypted || !opened.Verdict.Sealed || len(opened.Verdict.Warnings) > 0 || got != mail {
					t.Errorf("class %s (%s), verdict %+v, same bytes %v", opened.Class, opened.Reason, opened.Verdict, got == mail)
				}
			}
		})
	}
	// Mail for others is another thing: nobody could believe such a signature.
	err := pgp.Protect(context.Background(), io.Discard, message.Bytes([]byte(mail)), pgp.Protection{Signer: alice,
		Recipients: []*pgp.Certificate{alice.Certificate()}, Now: testNow.Add(pgp.Lifetime)})
	if !errors.Is(err, pgp.ErrExpired) {
		t.Errorf("Protect with an expired key: %v, want ErrExpired", err)
	}
}

// TestSealNotWithRevoked: a revoked key files nothing.
func TestSealNotWithRevoked(t *testing.T) {
	t.Parallel()
	alice := makeKey(t, "alice@example.org")
	e := engineOf(t, alice)
	must(t, e.Revoke(0, "", at(testNow.Add(time.Second))))
	var b bytes.Buffer
	must(t, e.SerializePrivateWithoutSigning(&b, nil))
	keys, err := pgp.ParseKeys(b.Bytes(), nil)
	must(t, err)
	for _, now := range []time.Time{testNow.Add(time.Hour), testNow.Add(2 * pgp.Lifetime)} {
		err = pgp.Seal(context.Background(), io.Discard, message.Bytes([]byte("x")), pgp.Sealing{Signer: keys[0], Storage: keys[0].Certificate(), Now: now})
		if !errors.Is(err, pgp.ErrRevoked) {
			t.Errorf("Seal = %v, want ErrRevoked", err)
		}
	}
}

// TestCertificateOfTheNearFuture: clocks differ by minutes, not by hours.
func TestCertificateOfTheNearFuture(t *testing.T) {
	t.Parallel()
	alice, bob := makeKey(t, "alice@example.org"), makeKey(t, "bob@example.net")
	early, err := pgp.GenerateKey(addr(t, "carol@example.net"), pgp.DefaultProfile, testNow.Add(5*time.Minute))
	must(t, err)
	if err := early.Certificate().CheckEncrypt(testNow); err != nil {
		t.Errorf("made in five minutes: %v", err)
	}
	if err := early.Certificate().CheckEncrypt(testNow.Add(-6 * time.Minute)); !errors.Is(err, pgp.ErrUnusable) {
		t.Errorf("made in eleven minutes: %v, want ErrUnusable", err)
	}
	out := protect(t, crlf(letter), pgp.Protection{Signer: alice, Recipients: []*pgp.Certificate{bob.Certificate(), early.Certificate()}})
	for _, k := range []*pgp.Key{bob, early} {
		if _, sig := decrypted(t, out, alice, k); !sig.CreationTime.Equal(testNow) {
			t.Errorf("signed at %v, want our own time", sig.CreationTime)
		}
	}
	if err := early.Certificate().CheckEncrypt(testNow.Add(5*time.Minute + pgp.Lifetime + time.Second)); !errors.Is(err, pgp.ErrExpired) {
		t.Errorf("after its end: %v, want ErrExpired", err)
	}
}

package main

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/pgp"
)

// A key that takes another's place is published with the old one's word.
func TestReplacedKeyIsFollowed(t *testing.T) {
	ctx := context.Background()
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	s := inside(t, "[keydir]\nlisten = \"127.0.0.1:0\"\ndomains = [\"example.org\"]\n", &at)
	alice := addressArg{address.Address{Local: "alice", Domain: "example.org"}}
	old, err := s.keys.Generate(ctx, alice.Address, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.keydir.Add(ctx, alice.Address, old); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	e := &env{stdout: &out, stderr: &out, now: s.now}
	if err := (&keyGenerate{Address: alice}).runState(ctx, e, s); err == nil || !strings.Contains(err.Error(), "--replace") {
		t.Errorf("a second key without being asked: %v", err)
	}
	at = at.Add(time.Hour)
	if err := (&keyGenerate{Address: alice, Replace: true}).runState(ctx, e, s); err != nil {
		t.Fatal(err)
	}
	published, err := s.keydir.Certificate(ctx, alice.Address)
	if err != nil || !published.Succeeds(old, alice.Address, at) {
		t.Errorf("what is published doesn't succeed the old certificate: %v\n%s", err, &out)
	}
	at = at.Add(time.Hour)
	out.Reset()
	revoke := keyRevoke{Address: alice, Fingerprint: fingerprintArg(old.Fingerprint()), Reason: "superseded", Yes: true}
	if err := revoke.runState(ctx, e, s); err != nil || !strings.Contains(out.String(), "Our own directory says so") || strings.Contains(out.String(), "signed again") {
		t.Errorf("revoking the old key: %v\n%s", err, &out)
	}
	if now, err := s.keydir.Certificate(ctx, alice.Address); err != nil || now.Fingerprint() != published.Fingerprint() || !now.Succeeds(old, alice.Address, at) {
		t.Errorf("what is published after that: %v", err)
	}
	// The certificate was lost: its new one says so of nobody.
	if err := (&keyRevoke{Address: alice, Reason: "compromised", Yes: true}).runState(ctx, e, s); err != nil {
		t.Fatal(err)
	}
	if now, err := s.keydir.Certificate(ctx, alice.Address); err != nil || !now.Compromised() {
		t.Errorf("the directory doesn't tell: %v", err)
	}
	out.Reset()
	if err := (&keyGenerate{Address: alice, Replace: true}).runState(ctx, e, s); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "can't say") {
		t.Errorf("a compromised key named its successor:\n%s", &out)
	}
	if _, named, err := s.keys.Replace(ctx, address.Address{Local: "new", Domain: "example.org"}, ""); err != nil || named == nil || errors.Is(named, pgp.ErrRevoked) {
		t.Errorf("an address without key: %v, %v", named, err)
	}
}

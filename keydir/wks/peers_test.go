package wks_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/mailtest/peer"
	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/keydir/wks"
	"letterlock.org/letterlock/pgp"
)

// Our client's mails publish at GnuPG's server.
func TestGnuPGServes(t *testing.T) {
	peer.Require(t, "gpg", "gpg-wks-server")
	ctx, now := context.Background(), time.Now()
	home, err := os.MkdirTemp("/tmp", "llwks") // sockets need a short path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run()
		os.RemoveAll(home)
	})
	run := func(stdin []byte, name string, args ...string) []byte {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Env = append(os.Environ(), "GNUPGHOME="+home)
		cmd.Stdin = bytes.NewReader(stdin)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s %v: %v\n%s", name, args, err, stderr.Bytes())
		}
		return out
	}
	const submissions = "key-submission@example.org"
	top := filepath.Join(home, "wks")
	if err := os.MkdirAll(filepath.Join(top, "example.org"), 0o700); err != nil {
		t.Fatal(err)
	}
	for file, text := range map[string]string{"submission-address": submissions + "\n", "policy": ""} {
		if err := os.WriteFile(filepath.Join(top, "example.org", file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run(nil, "gpg", "--batch", "--passphrase", "", "--quick-generate-key", "<"+submissions+">", "default", "default", "never")
	certs, err := pgp.ParseCertificates(run(nil, "gpg", "--batch", "--export", submissions))
	if err != nil {
		t.Fatal(err)
	}
	run(nil, "gpg-wks-server", "-C", top, "--list-domains")
	receive := func(mail []byte) []byte {
		return run(mail, "gpg-wks-server", "-C", top, "--from", submissions, "--receive", "-o", "-")
	}
	joe, err := address.Parse("joe@example.org")
	if err != nil {
		t.Fatal(err)
	}
	service, err := address.Parse(submissions)
	if err != nil {
		t.Fatal(err)
	}
	k, err := pgp.GenerateKey(joe, pgp.DefaultProfile, now.Add(-time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	head := wks.Head{From: joe, To: service, Date: now}
	mail, err := wks.Submit(ctx, head, k.Certificate(), certs[0])
	if err != nil {
		t.Fatal(err)
	}
	l, err := wks.Read(ctx, receive(mail), k)
	if err != nil || l.Kind != wks.ConfirmationRequest || !l.Sealed || l.Confirmation.Fingerprint != k.Fingerprint() ||
		fmt.Sprint(l.From) != submissions || l.Confirmation.Address != "joe@example.org" {
		t.Fatal(l, err)
	}
	if mail, err = wks.Response(ctx, head, l.Confirmation, certs[0]); err != nil {
		t.Fatal(err)
	}
	receive(mail)
	b, err := os.ReadFile(filepath.Join(top, "example.org", "hu", keydir.WKDHash("joe")))
	if err != nil {
		t.Fatal(err)
	}
	published, err := pgp.ParseCertificates(b)
	if err != nil || len(published) != 1 || published[0].Fingerprint() != k.Fingerprint() {
		t.Errorf("published: %v, %v", published, err)
	}
}

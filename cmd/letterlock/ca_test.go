package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/pgp"
)

// letter runs a command line that needs no state.
func letter(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	var out, errs bytes.Buffer
	err = run(context.Background(), args, strings.NewReader(""), &out, &errs)
	return out.String(), errs.String(), err
}

// TestAuthority goes the whole way: the authority is made in one place, certifies
// a member's certificate, and the directory, which never sees its secret, serves
// what it certified.
func TestAuthority(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	file := func(name string, content ...string) string {
		f := filepath.Join(dir, name)
		if len(content) > 0 {
			if err := os.WriteFile(f, []byte(content[0]), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return f
	}
	pass := file("pass", "correct horse\n")
	nowhere := file("none.toml", fmt.Sprintf("state_dir = %q\n", dir))
	directory := file("directory.toml", fmt.Sprintf("state_dir = %q\n[keydir]\nlisten = \"127.0.0.1:0\"\ndomains = [\"example.org\"]\n", dir))
	initCA := func(config, key string, more ...string) error {
		_, _, err := letter(t, append([]string{"--config", config, "ca", "init", "example.org", "--key", key, "--passphrase-file", pass}, more...)...)
		return err
	}
	if err := initCA(directory, file("x.key")); err == nil || !strings.Contains(err.Error(), "--force") {
		t.Errorf("made on the directory's machine: %v", err)
	}
	if err := initCA(nowhere, file("ca.key")); err != nil {
		t.Fatal(err)
	}
	if err := initCA(nowhere, file("ca.key")); err == nil {
		t.Error("a key was overwritten")
	}
	if st, err := os.Stat(file("ca.key")); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the key's file: %v, %v", st.Mode(), err)
	}
	raw, err := os.ReadFile(file("ca.cert"))
	if err != nil {
		t.Fatal(err)
	}
	certs, err := pgp.ParseCertificates(raw)
	if err != nil {
		t.Fatal(err)
	}
	ca := certs[0]

	at := time.Now()
	s := inside(t, fmt.Sprintf("[keydir]\nlisten = \"127.0.0.1:0\"\ndomains = [\"example.org\"]\n[discovery]\nauthorities = { \"example.org\" = %q }\n", string(ca.Fingerprint())), &at)
	var out bytes.Buffer
	e := &env{dir: dir, stdout: &out, stderr: &out, now: s.now, files: &localFiles{ctx: t.Context(), stdin: strings.NewReader(""), stderr: &out}}
	alice := address.Address{Local: "alice", Domain: "example.org"}
	mine, err := s.keys.Generate(ctx, alice, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.keydir.Add(ctx, alice, mine); err != nil {
		t.Fatal(err)
	}
	file("alice.cert", mine.Armored())
	certify := []string{"--config", nowhere, "ca", "certify", "--key", file("ca.key"), "--passphrase-file", pass, file("alice.cert")}
	if _, _, err := letter(t, append(certify, strings.Repeat("0", 40))...); err == nil {
		t.Error("another certificate than the one compared was certified")
	}
	if _, _, err := letter(t, "--config", nowhere, "ca", "certify", "--key", file("ca.key"), "--passphrase-file", pass, "alice@example.org"); err == nil || !strings.Contains(err.Error(), "compared") {
		t.Errorf("what a directory gives was certified unseen: %v", err)
	}
	armored, told, err := letter(t, append(certify, string(mine.Fingerprint()))...)
	if err != nil || !strings.Contains(told, "alice@example.org until") {
		t.Fatalf("certify: %v\n%s", err, told)
	}
	if err := (&caPublish{File: file("ca.key")}).runState(ctx, e, s); err == nil || !strings.Contains(err.Error(), "must not be on") {
		t.Errorf("the secret key was published: %v", err)
	}
	if err := (&caPublish{File: file("ca.cert")}).runState(ctx, e, s); err != nil {
		t.Fatal(err)
	}
	if c, err := s.keydir.Certificate(ctx, keydir.AuthorityAddress("example.org")); err != nil || c.Fingerprint() != ca.Fingerprint() {
		t.Errorf("the authority isn't published: %v", err)
	}
	if err := (&certImport{File: file("ca.cert")}).runState(ctx, e, s); err != nil {
		t.Fatal(err)
	}
	if err := (&certImport{File: file("alice-certified.cert", armored)}).runState(ctx, e, s); err != nil {
		t.Fatal(err)
	}
	own, err := s.keys.Certificate(ctx, alice)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := own.CertifiedBy(ca, alice, at); !ok {
		t.Errorf("the certification didn't come to the key:\n%s", &out)
	}
	published, err := s.keydir.Certificate(ctx, alice)
	if err != nil {
		t.Fatal(err)
	}
	minimal, err := published.Minimal(alice, at, s.approved(alice)...)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := minimal.CertifiedBy(ca, alice, at); !ok {
		t.Error("what is published isn't certified")
	}
	// The authority takes its word back, which reaches who has an older copy.
	later := at.Add(time.Hour)
	withdrawn, told, err := letter(t, "--config", nowhere, "ca", "withdraw", "--key", file("ca.key"), "--passphrase-file", pass, file("alice-certified.cert"))
	if err != nil || !strings.Contains(told, "No longer certified for alice@example.org") {
		t.Fatalf("withdraw: %v\n%s", err, told)
	}
	if err := (&keydirAdd{Address: addressArg{alice}, File: file("alice-withdrawn.cert", withdrawn)}).runState(ctx, e, s); err != nil {
		t.Fatal(err)
	}
	if published, err = s.keydir.Certificate(ctx, alice); err != nil {
		t.Fatal(err)
	}
	if minimal, err = published.Minimal(alice, later, s.approved(alice)...); err != nil {
		t.Fatal(err)
	}
	joined, err := pgp.Merge(own, minimal)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := joined.CertifiedBy(ca, alice, later); ok {
		t.Error("what was withdrawn is certified still")
	}
	if _, _, err := letter(t, "--config", nowhere, "ca", "withdraw", "--key", file("ca.key"), "--passphrase-file", pass, file("ca.cert")); err == nil {
		t.Error("the authority withdrew itself")
	}
	// Somebody's own certificate that the authority didn't certify is no news.
	out.Reset()
	if err := (&certImport{File: file("alice.cert")}).runState(ctx, e, s); err != nil || strings.Contains(out.String(), "certified") {
		t.Errorf("a certificate without certification was taken for one with it: %v\n%s", err, &out)
	}
}

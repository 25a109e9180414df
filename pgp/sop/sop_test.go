package sop_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"letterlock.org/letterlock/internal/mailtest/peer"
	"letterlock.org/letterlock/pgp/sop"
)

const text = "Dear Bob,\n- at noon\n\nFrom Alice\n"

// tool runs a sop command in a folder: ours, or somebody's.
type tool func(t *testing.T, dir, stdin string, args ...string) (stdout string, code int)

func ours(t *testing.T, dir, stdin string, args ...string) (string, int) {
	t.Helper()
	for i, a := range args { // files lie in dir; ours has no folder of its own
		name, value, ok := strings.Cut(a, "=")
		if base := strings.TrimPrefix(value, "./"); ok && base != value {
			args[i] = name + "=" + filepath.Join(dir, base)
		} else if base := strings.TrimPrefix(a, "./"); base != a {
			args[i] = filepath.Join(dir, base)
		}
	}
	var out, told bytes.Buffer
	code := sop.Run(context.Background(), sop.Command{Args: args, Stdin: strings.NewReader(stdin), Stdout: &out, Stderr: &told, Version: "test"})
	if code != 0 && told.Len() == 0 {
		t.Errorf("%q fails with %d and says nothing", args, code)
	}
	return out.String(), code
}

// theirs is a program that speaks the same.
func theirs(program string) tool {
	return func(t *testing.T, dir, stdin string, args ...string) (string, int) {
		t.Helper()
		cmd := exec.Command(program, args...)
		cmd.Dir, cmd.Stdin = dir, strings.NewReader(stdin)
		out, err := cmd.Output()
		if err != nil && cmd.ProcessState == nil {
			t.Fatal(err)
		}
		return string(out), cmd.ProcessState.ExitCode()
	}
}

func TestOursReadsOurs(t *testing.T) { t.Parallel(); exchange(t, ours, ours) }

func TestSopsReadEachOther(t *testing.T) {
	for _, program := range []string{"sqop", "pgpainless-cli"} {
		t.Run(program, func(t *testing.T) {
			t.Parallel()
			peer.Require(t, program)
			exchange(t, ours, theirs(program))
			exchange(t, theirs(program), ours)
		})
	}
}

// exchange has a write what b reads.
func exchange(t *testing.T, a, b tool) {
	t.Helper()
	dir := t.TempDir()
	must := func(do tool, stdin string, args ...string) string {
		t.Helper()
		out, code := do(t, dir, stdin, args...)
		if code != 0 {
			t.Fatalf("%q: exit code %d", args, code)
		}
		return out
	}
	is := func(want int, do tool, stdin string, args ...string) {
		t.Helper()
		if _, code := do(t, dir, stdin, args...); code != want {
			t.Errorf("%q: exit code %d, want %d", args, code, want)
		}
	}
	keep := func(name, content string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, do := range map[string]tool{"alice": a, "bob": b} {
		keep(name+".key", must(do, "", "generate-key", "Some One <"+name+"@example.org>"))
		secret, _ := os.ReadFile(filepath.Join(dir, name+".key"))
		keep(name+".cert", must(do, string(secret), "extract-cert"))
	}
	verified := regexp.MustCompile(`(?m)^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ [0-9A-F]{40} [0-9A-F]{40}`)
	for _, as := range []string{"binary", "text"} {
		keep("sig", must(a, text, "sign", "--as="+as, "./alice.key"))
		if out := must(b, text, "verify", "./sig", "./alice.cert"); !verified.MatchString(out) {
			t.Errorf("verified as %q", out)
		}
		is(3, b, text+"x", "verify", "./sig", "./alice.cert")
		is(3, b, text, "verify", "./sig", "./bob.cert")
		is(3, b, text, "verify", "--not-after=2001-01-01T00:00:00Z", "./sig", "./alice.cert")
	}
	sealed := must(a, text, "encrypt", "--sign-with=./alice.key", "./bob.cert")
	if out := must(b, sealed, "decrypt", "--verifications-out=./verified", "--verify-with=./alice.cert", "./bob.key"); out != text {
		t.Errorf("decrypted to %q", out)
	}
	if lines, _ := os.ReadFile(filepath.Join(dir, "verified")); !verified.Match(lines) {
		t.Errorf("verified as %q", lines)
	}
	is(29, b, sealed, "decrypt", "./alice.key")
	if out := must(b, must(a, text, "encrypt", "--no-armor", "./bob.cert"), "decrypt", "./bob.key"); out != text {
		t.Errorf("binary decrypted to %q", out)
	}
	if out := must(b, must(a, text, "inline-sign", "./alice.key"), "inline-verify", "./alice.cert"); out != text {
		t.Errorf("signed inline: %q", out)
	}
	clear := must(a, text, "inline-sign", "--as=clearsigned", "./alice.key")
	if out := must(b, clear, "inline-verify", "./alice.cert"); strings.TrimRight(strings.ReplaceAll(out, "\r\n", "\n"), "\n") != strings.TrimRight(text, "\n") {
		t.Errorf("signed in clear: %q", out)
	}
	is(3, b, strings.Replace(clear, "noon", "nine", 1), "inline-verify", "./alice.cert")
	if out := must(b, must(a, clear[:0]+sealed, "dearmor"), "armor"); !strings.HasPrefix(out, "-----BEGIN PGP MESSAGE-----") {
		t.Errorf("armored: %q", out[:min(40, len(out))])
	}
}

func TestPasswordsOfKeys(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, content := range map[string]string{"one": "first\n", "two": "second"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	key, _ := ours(t, dir, "", "generate-key", "--with-key-password=./one", "A")
	cert, code := ours(t, dir, key, "extract-cert")
	if code != 0 {
		t.Fatalf("extract-cert of a locked key: %d", code)
	}
	changed, code := ours(t, dir, key, "change-key-password", "--old-key-password=./one", "--new-key-password=./two")
	if code != 0 {
		t.Fatalf("change-key-password: %d", code)
	}
	for name, content := range map[string]string{"key": changed, "cert": cert} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		want int
		args []string
	}{{67, []string{"sign", "./key"}}, {67, []string{"sign", "--with-key-password=./one", "./key"}}, {0, []string{"sign", "--with-key-password=./two", "./key"}}} {
		if _, code := ours(t, dir, text, tt.args...); code != tt.want {
			t.Errorf("%q: %d, want %d", tt.args, code, tt.want)
		}
	}
	revoked, code := ours(t, dir, changed, "revoke-key", "--with-key-password=./two")
	if code != 0 || revoked == cert {
		t.Fatalf("revoke-key: %d", code)
	}
	if err := os.WriteFile(filepath.Join(dir, "revoked"), []byte(revoked), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, code := ours(t, dir, text, "encrypt", "./revoked"); code != 17 {
		t.Errorf("encrypting to a revoked key: %d", code)
	}
}

func TestFaultsHaveTheDraftsCodes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	key, _ := ours(t, dir, "", "generate-key", "A")
	cert, _ := ours(t, dir, key, "extract-cert")
	signer, _ := ours(t, dir, "", "generate-key", "--signing-only", "S")
	signing, _ := ours(t, dir, signer, "extract-cert")
	for name, content := range map[string]string{"key": key, "cert": cert, "signing": signing, "there": "", "bytes": "\xff"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	sealed, _ := ours(t, dir, text, "encrypt", "./cert")
	if sealed == "" {
		t.Fatal("nothing encrypted")
	}
	for _, tt := range []struct {
		name  string
		stdin string
		want  int
		args  []string
	}{
		{"no subcommand", "", 19, nil},
		{"an unknown subcommand", "", 69, []string{"fold"}},
		{"an unknown option", "", 37, []string{"sign", "--loud", "./key"}},
		{"an option without value", "", 19, []string{"sign", "./key", "--as"}},
		{"an unknown way to sign", text, 37, []string{"sign", "--as=mime", "./key"}},
		{"no key", text, 19, []string{"sign"}},
		{"a missing file", text, 61, []string{"sign", "./none"}},
		{"a certificate for a key", text, 41, []string{"sign", "./cert"}},
		{"a key for a certificate", text, 41, []string{"encrypt", "./key"}},
		{"a certificate that can't be encrypted to", text, 17, []string{"encrypt", "./signing"}},
		{"a password for a message", text, 37, []string{"encrypt", "--with-password=./there"}},
		{"an unknown profile", "", 89, []string{"generate-key", "--profile=none", "A"}},
		{"a key for nobody", "", 19, []string{"generate-key"}},
		{"text that is none", "\xff", 53, []string{"sign", "--as=text", "./key"}},
		{"an output that exists", text, 59, []string{"sign", "--micalg-out=./there", "./key"}},
		{"an unknown kind of input", text, 71, []string{"sign", "@KEYRING:x"}},
		{"a variable that isn't set", text, 61, []string{"sign", "@ENV:LETTERLOCK_NONE"}},
		{"verifications without certificates", sealed, 83, []string{"decrypt", "--verifications-out=./v", "./key"}},
		{"junk to decrypt", "junk", 41, []string{"decrypt", "./key"}},
		{"a message cut off", sealed[:len(sealed)/2], 41, []string{"decrypt", "./key"}},
		{"junk to dearmor", "junk", 41, []string{"dearmor"}},
		{"armor without end", "-----BEGIN PGP MESSAGE-----\n\nAAAA\n", 41, []string{"dearmor"}},
		{"armored with both options", text, 83, []string{"sign", "--armor", "--no-armor", "./key"}},
		{"an encrypted message to verify", sealed, 41, []string{"inline-verify", "./cert"}},
		{"several faults, of which the profile comes first", "\xff", 89, []string{"encrypt", "--profile=none", "--as=text", "./none"}},
		{"several faults, of which the password comes first", text, 61, []string{"generate-key", "--with-key-password=./none"}},
		{"a certificate that is missing, and text that is none", "\xff", 61, []string{"encrypt", "--as=text", "./none"}},
		{"two to sign", text, 37, []string{"encrypt", "--sign-with=./key", "--sign-with=./key", "./cert"}},
		{"a missing password for a key to revoke", key, 61, []string{"revoke-key", "--with-key-password=./none"}},
		{"a missing password for junk", "junk", 61, []string{"change-key-password", "--old-key-password=./none"}},
		{"a new password that nobody can read", key, 31, []string{"change-key-password", "--new-key-password=./bytes"}},
		{"a date that is none, before a key that is missing", sealed, 37, []string{"decrypt", "--verify-not-before=noon", "./none"}},
		{"a signature without certificate", text, 19, []string{"verify", "./there"}},
	} {
		if _, code := ours(t, dir, tt.stdin, tt.args...); code != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, code, tt.want)
		}
	}
}

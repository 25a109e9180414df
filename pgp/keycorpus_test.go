package pgp_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"letterlock.org/letterlock/pgp"
)

// keyExceptions are the secret key files that are read otherwise than KEYS.tsv
// says of the engine, with the reason.
var keyExceptions = map[string]error{
	// Self-signatures with SHA-1.
	"rnp/test_forged_keys/rsa-rsa-sec.pgp":                                  pgp.ErrWeak,
	"rnp/test_stream_key_load/rsa-rsa-sec.asc":                              pgp.ErrWeak,
	"rpgp/openpgp-interop/testcases/messages/gnupg-v1-4-11-001-decrypt.asc": pgp.ErrWeak,
	// The secret of the key that signs is a stub.
	"rnp/test_key_edge_cases/alice-s2k-101-1-subs.pgp":      pgp.ErrNoSecret,
	"rnp/test_key_edge_cases/alice-s2k-101-no-sign-sub.pgp": pgp.ErrNoSecret,
	// One of two keys in the file is malformed: the file is refused.
	"rnp/test_key_edge_cases/secring-malf-key1.pgp": pgp.ErrMalformed,
}

// TestCorpusSecretKeys: every secret key that the engine can use, we import, and
// read again from what we store.
func TestCorpusSecretKeys(t *testing.T) {
	dir := corpus(t)
	table, err := os.ReadFile(filepath.Join(dir, "KEYS.tsv"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(table)) {
		f := strings.Split(strings.TrimSpace(line), "\t")
		if len(f) < 6 || f[5] != "true" {
			continue
		}
		t.Run(f[0], func(t *testing.T) {
			want := keyExceptions[f[0]]
			b, err := os.ReadFile(filepath.Join(dir, f[0]))
			if err != nil {
				t.Fatal(err)
			}
			var keys []*pgp.Key
			for _, word := range []string{"password", "123"} {
				if keys, err = pgp.ParseKeys(b, passphrase(word)); !errors.Is(err, pgp.ErrLocked) {
					break
				}
			}
			if errors.Is(err, pgp.ErrLocked) {
				t.Skip("locked with a passphrase that we don't know")
			}
			if err == nil && f[7] == "true" {
				err = keys[0].CheckSign(testNow)
			}
			if !errors.Is(err, want) {
				t.Fatalf("ParseKeys = %d keys, %v; want %v", len(keys), err, want)
			}
			for _, k := range keys {
				again, err := pgp.ParseKeys(k.Marshal(), nil)
				if err != nil || len(again) != 1 || again[0].Fingerprint() != k.Fingerprint() {
					t.Errorf("what is stored isn't read again: %v", err)
				}
			}
		})
	}
}

package pgp_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

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
	// One of two keys in the file is malformed: the other is read.
	"rnp/test_key_edge_cases/secring-malf-key1.pgp": pgp.ErrMalformed,
}

// corpusWords are what keys of the corpus are locked with, by group; those of
// other groups are tried with none.
var corpusWords = map[string][]string{"rnp": {"password"}, "rpgp": {"test", "password", "123"}}

type parsedKeys struct {
	file []byte
	keys []*pgp.Key
	err  error
}

// changed tells whether a key is stored with other packets than the file has.
func (p *parsedKeys) changed(k *pgp.Key) bool {
	raw := p.file
	if block, err := armor.Decode(bytes.NewReader(raw)); err == nil {
		raw, _ = io.ReadAll(block.Body)
	}
	contents := func(b []byte) (all []byte) {
		r := packet.NewOpaqueReader(bytes.NewReader(b))
		for {
			o, err := r.Next()
			if err != nil {
				return all
			}
			all = append(append(all, o.Tag), o.Contents...)
		}
	}
	return !bytes.Contains(contents(raw), contents(k.Marshal()))
}

var corpusFiles sync.Map // of functions that give *parsedKeys, by path

// corpusKeys is ParseKeys of a file of the corpus, done once for all tests: the
// largest keys take seconds. ErrLocked means that no word opens it.
func corpusKeys(dir, name string) *parsedKeys {
	parse, _ := corpusFiles.LoadOrStore(filepath.Join(dir, name), sync.OnceValue(func() *parsedKeys {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return &parsedKeys{err: err}
		}
		p := parsedKeys{file: b}
		group, _, _ := strings.Cut(name, "/")
		for _, word := range append([]string{""}, corpusWords[group]...) {
			ask := passphrase(word)
			if word == "" {
				ask = nil // tells what is locked, without the work of trying
			}
			if p.keys, p.err = pgp.ParseKeys(b, ask); !errors.Is(p.err, pgp.ErrLocked) {
				break
			}
		}
		return &p
	}))
	return parse.(func() *parsedKeys)()
}

// TestCorpusSecretKeys: every secret key that the engine can use, we import, and
// read again from what we store.
func TestCorpusSecretKeys(t *testing.T) {
	t.Parallel()
	dir := corpus(t)
	for _, row := range table(t, filepath.Join(dir, "KEYS.tsv")) {
		if row["secret"] != "true" {
			continue
		}
		t.Run(row["file"], func(t *testing.T) {
			t.Parallel()
			want := keyExceptions[row["file"]]
			p := corpusKeys(dir, row["file"])
			if errors.Is(p.err, pgp.ErrLocked) {
				t.Skip("locked with a passphrase that we don't know")
			}
			err := p.err
			if err == nil && row["signable_now"] == "true" {
				err = p.keys[0].CheckSign(testNow)
			}
			if !errors.Is(err, want) {
				t.Fatalf("ParseKeys = %d keys, %v; want %v", len(p.keys), err, want)
			}
			for _, k := range p.keys {
				if !p.changed(k) {
					continue // reading the same bytes again proves nothing, and takes as long
				}
				again, err := pgp.ParseKeys(k.Marshal(), nil)
				if err != nil || len(again) != 1 || again[0].Fingerprint() != k.Fingerprint() {
					t.Errorf("what is stored isn't read again: %v", err)
				}
			}
		})
	}
}

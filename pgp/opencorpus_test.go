package pgp_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/csv"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/pgp"
)

// shelf is a certificate store of a slice: a certificate is first-seen for each
// address that it has, unless ids says otherwise.
type shelf struct {
	certs []*pgp.Certificate
	ids   map[string]pgp.Identity // by address key
	err   error
}

func (s *shelf) Issuer(_ context.Context, id uint64) ([]*pgp.Certificate, error) {
	var found []*pgp.Certificate
	for _, c := range s.certs {
		if slices.Contains(c.KeyIDs(), id) {
			found = append(found, c)
		}
	}
	return found, s.err
}

func (s *shelf) Identity(_ context.Context, a address.Address, f pgp.Fingerprint) (pgp.Identity, error) {
	for _, c := range s.certs {
		if c.Fingerprint() == f && c.Has(a) {
			if i, ok := s.ids[a.Key()]; ok {
				return i, s.err
			}
			return pgp.FirstSeen, s.err
		}
	}
	return pgp.Unknown, s.err
}

func table(t testing.TB, path string) (rows []map[string]string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	r := csv.NewReader(bytes.NewReader(b))
	r.Comma, r.LazyQuotes, r.FieldsPerRecord = '\t', true, -1
	all, err := r.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range all[1:] {
		m := map[string]string{}
		for i, name := range all[0] {
			if i < len(row) {
				m[name] = row[i]
			}
		}
		rows = append(rows, m)
	}
	return rows
}

// ring is all keys and certificates of one group of the corpus.
type ring struct {
	keys  []*pgp.Key
	shelf shelf
}

var corpusRings sync.Map // of functions that give *ring, by group

// readRing gives the ring of a group, the same one for all tests.
func readRing(t testing.TB, dir, group string) *ring {
	t.Helper()
	rows := table(t, filepath.Join(dir, "KEYS.tsv"))
	make, _ := corpusRings.LoadOrStore(group, sync.OnceValue(func() *ring {
		r := &ring{}
		seen := map[pgp.Fingerprint]bool{}
		for _, row := range rows {
			if !strings.HasPrefix(row["file"], group+"/") {
				continue
			}
			for _, k := range corpusKeys(dir, row["file"]).keys {
				if !seen[k.Fingerprint()] {
					seen[k.Fingerprint()] = true
					r.keys = append(r.keys, k)
					r.shelf.certs = append(r.shelf.certs, k.Certificate())
				}
			}
			if b, err := os.ReadFile(filepath.Join(dir, row["file"])); err == nil {
				certs, _ := pgp.ParseCertificates(b)
				r.shelf.certs = append(r.shelf.certs, certs...)
			}
		}
		return r
	}))
	return make.(func() *ring)()
}

func (r *ring) opening() pgp.Opening {
	return pgp.Opening{Keys: pgp.Keys(r.keys...), Certificates: &r.shelf, Now: keyTime}
}

// all reads a whole source.
func all(t testing.TB, s message.Source) []byte {
	t.Helper()
	b, err := io.ReadAll(message.Reader(s))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// summary is a verdict in one line.
func summary(o *pgp.Opened) string {
	s := string(o.Class)
	if o.Class != pgp.Plain && o.Class != pgp.Opaque {
		s += " " + string(o.Verdict.Signature)
	}
	return strings.TrimSpace(s + " " + strings.Join(o.Verdict.Warnings, ","))
}

// expected says what EXPECTED.tsv lets one expect of a mail: only units at the
// root count (DESIGN: Open decrypts only at the root, one layer).
func expected(units []map[string]string) string {
	get := func(unit string) map[string]string {
		for _, u := range units {
			if u["unit"] == unit {
				return u
			}
		}
		return nil
	}
	fits := func(u map[string]string) string {
		switch sig := u["gocrypto152_sig"]; {
		case strings.HasSuffix(sig, ":valid"), sig == "" && strings.Contains(u["gpg22_sig"], "GOODSIG"):
			return "valid"
		case strings.Contains(sig, "unknown entity"):
			return "unknown"
		case sig == "":
			return "none"
		}
		return "bad"
	}
	if u := get("/enc"); u != nil {
		if u["gocrypto152_decrypt"] != "ok" {
			return "opaque"
		}
		if inner := get("/enc/signed"); inner != nil && fits(u) == "none" {
			return "encrypted " + fits(inner)
		}
		return "encrypted " + fits(u)
	}
	if u := get("/inl0"); u != nil {
		if u["gocrypto152_decrypt"] != "ok" {
			return "opaque"
		}
		return "encrypted " + fits(u)
	}
	for _, unit := range []string{"/signed", "/clr0"} {
		if u := get(unit); u != nil {
			return "signed " + fits(u)
		}
	}
	return "plain"
}

const (
	signedElsewhen = "the signature is days away from the Date field, which is warned of (CVE-2022-2226)"
	textBeside     = "there is text beside the armor block: not the whole message, so it stays as it is"
)

// protectedSubject is the Subject inside of what is encrypted at the root.
func protectedSubject(units []map[string]string) string {
	for _, u := range units {
		if strings.HasPrefix(u["unit"], "/enc") && u["protected_subject"] != "" {
			return u["protected_subject"]
		}
	}
	return ""
}

// differs are the mails of which we say something else than EXPECTED.tsv lets
// expect, each with its reason.
var differs = map[string]struct{ want, why string }{
	"chatmail/message/alice_to_bob_no_intended_recipient_fingerprint.eml": {"encrypted valid date", signedElsewhen},
	"chatmail/message/encrypted-group-without-id.eml":                     {"encrypted valid date", signedElsewhen},
	"chatmail/message/encrypted-signed.eml":                               {"encrypted valid date", signedElsewhen},
	"chatmail/message/hp_legacy_display.eml":                              {"encrypted valid date", signedElsewhen},
	"chatmail/message/verification-gossip-also-sent-to-from.eml":          {"encrypted valid date", signedElsewhen},
	"thunderbird/eml/signed-mismatch-email-date.eml":                      {"signed mismatch date", signedElsewhen + "; and people see another Subject than the signed one"},
	"chatmail/message/schleuder.eml":                                      {"signed unknown", "its signature part holds none that we can read; nobody is said to have signed it"},
	"chatmail/message/unencrypted_signed_simple.eml":                      {"signed bad", "not in EXPECTED.tsv; GnuPG calls it BAD too (the signature part is quoted-printable)"},
	"thunderbird/eml/enc-to-carol@pgp.icu-revoked.eml":                    {"encrypted unknown", "another file of the group has the key; the signer's certificate is in none"},
	"thunderbird/eml/inline-signed-latin1.eml":                            {"signed unknown", "EXPECTED.tsv has ERRSIG, which is an unknown issuer"},
	"thunderbird/eml/inline-signed-utf8.eml":                              {"signed unknown", "EXPECTED.tsv has ERRSIG, which is an unknown issuer"},
	"thunderbird/eml/partial-encrypt-for-alice-plaintext.eml":             {"plain", textBeside},
	"thunderbird/eml/partial-encrypt-for-carol-plaintext.eml":             {"plain", textBeside},
}

func TestCorpusMails(t *testing.T) {
	t.Parallel()
	dir := corpus(t)
	units := map[string][]map[string]string{}
	for _, row := range table(t, filepath.Join(dir, "EXPECTED.tsv")) {
		units[row["file"]] = append(units[row["file"]], row)
	}
	rings := map[string]*ring{}
	opened := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".eml") {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		group, _, _ := strings.Cut(name, string(filepath.Separator))
		if rings[group] == nil {
			rings[group] = readRing(t, dir, group)
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		opened++
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := openBytes(t, raw, rings[group].opening())
			want, why := expected(units[name]), "EXPECTED.tsv"
			if d, ok := differs[name]; ok {
				if d.want == want {
					t.Errorf("is listed as different, but is not")
				}
				want, why = d.want, d.why
			}
			if subject := protectedSubject(units[name]); subject != "" && got.Rendering != nil {
				root := parseMail(t, string(all(t, got.Rendering)))
				if f := root.Header.All("Subject"); len(f) != 1 || f[0].Value() != subject {
					t.Errorf("%d Subject fields, Subject %q, want one %q", len(f), root.Header.Get("Subject"), subject)
				}
			}
			if s := summary(got); s != want {
				t.Errorf("got %q (%s), want %q: %s", s, got.Reason, want, why)
			}
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if opened < 100 {
		t.Errorf("found only %d mails", opened)
	}
}

// openBytes opens raw twice, checks what must always hold, and gives the first
// answer, its rendering closed at the end of the test.
func openBytes(t testing.TB, raw []byte, o pgp.Opening) *pgp.Opened {
	t.Helper()
	o.Spool.Dir = t.TempDir()
	first, err := pgp.Open(context.Background(), message.Bytes(raw), o)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	second, err := pgp.Open(context.Background(), message.Bytes(raw), o)
	if err != nil {
		t.Fatalf("Open again: %v", err)
	}
	if (first.Rendering != nil) != (first.Class == pgp.Encrypted) {
		t.Fatalf("class %s with rendering %v", first.Class, first.Rendering != nil)
	}
	if (first.Reason != "") != (first.Class == pgp.Opaque) {
		t.Errorf("class %s with reason %q", first.Class, first.Reason)
	}
	if fmt.Sprint(first.Verdict, first.MessageID, first.From) != fmt.Sprint(second.Verdict, second.MessageID, second.From) {
		t.Errorf("opening again gives %v, was %v", second.Verdict, first.Verdict)
	}
	if first.Rendering == nil {
		return first
	}
	t.Cleanup(func() { first.Rendering.Close() })
	defer second.Rendering.Close()
	text := all(t, first.Rendering)
	if !bytes.Equal(text, all(t, second.Rendering)) {
		t.Error("opening again gives other bytes")
	}
	if !first.Verdict.Sealed {
		checkRendering(t, text)
	}
	return first
}

// checkRendering checks that a rendering is one message that says one thing.
func checkRendering(t testing.TB, text []byte) {
	t.Helper()
	root, err := message.Parse(message.Bytes(text), message.Limits{})
	if err != nil {
		t.Fatalf("the rendering does not parse: %v", err)
	}
	head := text[:root.Body]
	if bytes.Contains(bytes.ReplaceAll(head, []byte("\r\n"), nil), []byte("\n")) || bytes.Contains(bytes.ReplaceAll(head, []byte("\r\n"), nil), []byte("\r")) {
		t.Error("the header has a bare CR or LF")
	}
	for _, f := range root.Header.Fields {
		if f.Name == "" {
			t.Errorf("the header has a malformed field")
		}
	}
	for _, name := range []string{pgp.StatusField, "MIME-Version", "Content-Type"} {
		if n := len(root.Header.All(name)); n != 1 {
			t.Errorf("the header has %d fields %s, want 1", n, name)
		}
	}
	for _, line := range bytes.Split(head, []byte("\r\n")) {
		if bytes.HasPrefix(bytes.ToLower(line), []byte("letterlock-")) && len(line) != 144 {
			t.Errorf("a line of %d bytes that imitates ours: %q", len(line), line)
		}
	}
}

const (
	passwordOnly = "encrypted with a password only, and none is ever asked for"
	notEncrypted = "not encrypted at all: EXPECTED.tsv counts reading it as decrypting it"
	otherFile    = "the key is in another file of the group; EXPECTED.tsv was made without it"
	otherArmor   = "an armor block of another kind is no encrypted message"
)

// rawDiffers are the OpenPGP messages of which we say something else than
// go-crypto does, each with its reason.
var rawDiffers = map[string]struct{ want, why string }{
	"rpgp/pqc/v6-eddsa-sample-message.asc":                                    {"encrypted", otherFile},
	"rpgp/pqc/v6-mldsa-65-sample-message.asc":                                 {"encrypted", otherFile},
	"rpgp/pqc/v6-mldsa-87-sample-message.asc":                                 {"encrypted", otherFile},
	"rpgp/pqc/v6-slhdsa-128s-sample-message.asc":                              {"encrypted", otherFile},
	"rpgp/pqc/v4-eddsa-sample-message-v1.asc":                                 {"encrypted", otherFile},
	"rpgp/pqc/v4-eddsa-sample-message-v2.asc":                                 {"encrypted", otherFile},
	"rpgp/unit-tests/partial-body-length/literal.packet-partial.256.asc":      {"plain", otherArmor},
	"rpgp/unit-tests/partial-body-length/literal.packet-partial.512.asc":      {"plain", otherArmor},
	"rpgp/unit-tests/partial-body-length/literal.packet-two-octet-length.asc": {"plain", otherArmor},
	"rnp/RFC9580/A.10.5.v6_skesk_ocb.asc":                                     {"opaque", passwordOnly},
	"rnp/RFC9580/A.12.1.v4-skesk-argon2-aes128.asc":                           {"opaque", passwordOnly},
	"rnp/RFC9580/A.12.2.v4-skesk-argon2-aes192.asc":                           {"opaque", passwordOnly},
	"rnp/RFC9580/A.12.3.v4-skesk-argon2-aes256.asc":                           {"opaque", passwordOnly},
	"rnp/RFC9580/A.9.5.v6_skesk_eax.asc":                                      {"opaque", passwordOnly},
	"rnp/test_messages/message.enc-password":                                  {"opaque", passwordOnly},
	"rnp/test_messages/message.txt.signed-sym-none-z":                         {"opaque", passwordOnly},
	"rnp/RFC9580/A.7.-sample-inline-signed-message.asc":                       {"opaque", notEncrypted},
	"rnp/test_messages/message.txt.signed-2-2-onepass-v10":                    {"opaque", notEncrypted},
	"rnp/test_messages/message.txt.signed-no-z-malf":                          {"opaque", notEncrypted},
	"rnp/test_messages/data.enc.small-rsa":                                    {"encrypted", otherFile},
	"rnp/test_messages/message.aead-last-zero-chunk.enc":                      {"encrypted", otherFile},
	"rnp/test_messages/message.aead-last-zero-chunk.enc-ocb":                  {"encrypted", otherFile},
	"rnp/test_messages/message.txt.enc-sign-25519":                            {"encrypted", otherFile},
	"rnp/test_messages/message.sig.asc.malf":                                  {"plain", otherArmor},
	"rnp/test_messages/message.txt.asc":                                       {"plain", otherArmor},
	"rnp/test_messages/message.txt.gpg-armored":                               {"plain", otherArmor},
	"rnp/test_messages/message.wrong-armor.asc":                               {"plain", otherArmor},
}

// TestCorpusRawMessages puts every OpenPGP message of the corpus into a mail.
func TestCorpusRawMessages(t *testing.T) {
	t.Parallel()
	dir := corpus(t)
	rings := map[string]*ring{}
	tried, matched := 0, 0
	for _, row := range table(t, filepath.Join(dir, "EXPECTED.tsv")) {
		if row["kind"] != "raw" {
			continue
		}
		name := row["file"]
		group, _, _ := strings.Cut(name, "/")
		if rings[group] == nil {
			rings[group] = readRing(t, dir, group)
		}
		raw, err := os.ReadFile(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			t.Logf("%s is listed but not there", name)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		tried++
		t.Run(name, func(t *testing.T) {
			got := openBytes(t, asMail(raw), rings[group].opening())
			want, why := "opaque", "EXPECTED.tsv"
			if row["gocrypto152_decrypt"] == "ok" && row["gpg22_decrypt"] != "notenc" {
				want = "encrypted"
			}
			if d, ok := rawDiffers[name]; ok {
				if d.want == want {
					t.Errorf("is listed as different, but is not")
				}
				want, why = d.want, d.why
			}
			if string(got.Class) != want {
				t.Errorf("got %s (%s), want %s: %s", got.Class, got.Reason, want, why)
			}
			if got.Class != pgp.Encrypted || row["plaintext_sha256"] == "" {
				return
			}
			text := all(t, got.Rendering)
			_, body, _ := bytes.Cut(text, []byte("\r\n\r\n"))
			for _, b := range [][]byte{body, bytes.ReplaceAll(body, []byte("\r\n"), []byte("\n"))} {
				sum := sha256.Sum256(b)
				if hex.EncodeToString(sum[:]) == row["plaintext_sha256"] {
					matched++
					return
				}
			}
			t.Logf("the plaintext's hash differs (mixed line ends)")
		})
	}
	if tried < 100 || matched < 20 {
		t.Errorf("tried %d, matched %d plaintexts", tried, matched)
	}
}

// asMail makes an inline mail of an OpenPGP message, armored or not.
func asMail(raw []byte) []byte {
	head := "From: a@example.org\r\nTo: b@example.org\r\nMessage-ID: <1@example.org>\r\nSubject: x\r\n\r\n"
	if !bytes.Contains(raw, []byte("-----BEGIN PGP")) {
		enc := base64.StdEncoding.EncodeToString(raw)
		var lines []string
		for len(enc) > 64 {
			lines, enc = append(lines, enc[:64]), enc[64:]
		}
		raw = []byte("-----BEGIN PGP MESSAGE-----\r\n\r\n" + strings.Join(append(lines, enc), "\r\n") + "\r\n-----END PGP MESSAGE-----\r\n")
	}
	return append([]byte(head), raw...)
}

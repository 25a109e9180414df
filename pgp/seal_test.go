package pgp_test

import (
	"bytes"
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/quick"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/pgp"
)

func seal(t testing.TB, mail string, k *pgp.Key) string {
	t.Helper()
	var out bytes.Buffer
	err := pgp.Seal(context.Background(), &out, message.Bytes([]byte(mail)), pgp.Sealing{Signer: k, Storage: k.Certificate(), Now: testNow})
	if err != nil {
		t.Fatalf("Seal: %v", err)
	}
	return out.String()
}

// TestSealedLetter: everything is inside, nothing is outside but three fields.
func TestSealedLetter(t *testing.T) {
	t.Parallel()
	alice := makeKey(t, "alice@example.org")
	mail := crlf(letter)
	out := seal(t, mail, alice)
	if strings.Contains(out, "canary") || strings.Contains(out, "example.net") || strings.Contains(out, "Alice") {
		t.Errorf("something shows:\n%s", out)
	}
	h := parseMail(t, out).Header
	for name, want := range map[string]string{"From": "alice@example.org", "Subject": "[...]", "Message-ID": "<one@example.org>",
		"Date": "Mon, 01 Jun 2026 10:00:00 +0200"} {
		if got := h.Get(name); got != want {
			t.Errorf("outer %s = %q, want %q", name, got, want)
		}
	}
	inner, sig := decrypted(t, out, alice, alice)
	if inner != mail {
		t.Errorf("inside is %q", inner)
	}
	marked := false
	for _, n := range sig.Notations {
		marked = marked || n.Name == "sealed@letterlock.org" && n.IsCritical && string(n.Value) == "v1"
	}
	if !marked {
		t.Error("the signature doesn't mark storage")
	}
}

// TestSealShowsNoOdd: what of the label could hold more than it should is left
// out, and another's address too.
func TestSealShowsNoOdd(t *testing.T) {
	t.Parallel()
	alice := makeKey(t, "alice@example.org")
	for _, mail := range []string{
		"", "canary", "\r\n\r\ncanary", "From: canary@example.com\nDate: canary_\nMessage-ID: <canary\n\n",
		"Message-ID: <a@b> canary\nDate: 1 Jan 2026 (canary!\n\n", strings.Repeat("X: canary\n", 200000),
		"From canary\nSubject: canary\n\n", "Date: Mon\n\tcanary'\n\n\x00\xff\n",
	} {
		out := seal(t, mail, alice)
		if strings.Contains(out, "canary") {
			t.Errorf("Seal(%.40q) shows:\n%.600s", mail, out)
		}
		if inner, _ := decrypted(t, out, alice, alice); inner != mail {
			t.Errorf("Seal(%.40q) changed it", mail)
		}
	}
}

// certificates is a CertificateStore of keys that are bound by a directory.
type certificates []*pgp.Certificate

func (c certificates) Issuer(_ context.Context, id uint64) ([]*pgp.Certificate, error) {
	var found []*pgp.Certificate
	for _, one := range c {
		if pgp.Covers([]uint64{id}, one) {
			found = append(found, one)
		}
	}
	return found, nil
}

func (c certificates) Identity(_ context.Context, a address.Address, f pgp.Fingerprint) (pgp.Identity, error) {
	for _, one := range c {
		if one.Fingerprint() == f && one.Has(a) {
			return pgp.Directory, nil
		}
	}
	return pgp.Unknown, nil
}

func opening(t testing.TB, owner *pgp.Key, own string, known ...*pgp.Certificate) pgp.Opening {
	return pgp.Opening{
		Keys:         pgp.Keys(owner),
		Certificates: certificates(append(known, owner.Certificate())),
		Own:          []address.Address{addr(t, own)},
		Replayed:     func(context.Context, [32]byte, string, string) (bool, error) { return false, nil },
	}
}

func openMail(t testing.TB, mail string, o pgp.Opening) (*pgp.Opened, string) {
	t.Helper()
	opened, err := pgp.Open(context.Background(), message.Bytes([]byte(mail)), o)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	if opened.Rendering == nil {
		return opened, ""
	}
	t.Cleanup(func() { opened.Rendering.Close() })
	b, err := message.ReadAll(opened.Rendering, 256<<20)
	if err != nil {
		t.Fatalf("reading the rendering: %v", err)
	}
	return opened, string(b)
}

// TestSealOpenProperty: what was sealed opens to the very same bytes, whatever
// they are.
func TestSealOpenProperty(t *testing.T) {
	t.Parallel()
	alice := makeKey(t, "alice@example.org")
	o := opening(t, alice, "alice@example.org")
	check := func(mail string) bool {
		opened, got := openMail(t, seal(t, mail, alice), o)
		if opened.Class != pgp.Encrypted || !opened.Verdict.Sealed || got != mail {
			t.Errorf("class %s (%s), sealed %v, same bytes %v for %.60q", opened.Class, opened.Reason, opened.Verdict.Sealed, got == mail, mail)
			return false
		}
		return true
	}
	check(crlf(letter))
	check("")
	if err := quick.Check(check, &quick.Config{MaxCount: 50}); err != nil {
		t.Error(err)
	}
	for mail := range corpusMails(t) {
		check(mail)
	}
}

// corpusMails gives every message of the corpus.
func corpusMails(t testing.TB) func(func(string) bool) {
	dir := os.Getenv("LETTERLOCK_CORPUS")
	if dir == "" {
		t.Log("LETTERLOCK_CORPUS is unset: only the messages of the test itself")
		return func(func(string) bool) {}
	}
	return func(yield func(string) bool) {
		_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || filepath.Ext(path) != ".eml" {
				return err
			}
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if !yield(string(b)) {
				return fs.SkipAll
			}
			return nil
		})
	}
}

// TestProtectOpen: what Protect makes, Open shows and believes.
func TestProtectOpen(t *testing.T) {
	t.Parallel()
	alice, bob := makeKey(t, "alice@example.org"), makeKey(t, "bob@example.net")
	mail := strings.Replace(crlf(letter), "Mon, 01 Jun 2026 10:00:00 +0200", testNow.Format(time.RFC1123Z), 1)
	out := protect(t, mail, pgp.Protection{Signer: alice, Recipients: []*pgp.Certificate{bob.Certificate()}, Autocrypt: alice.Certificate()})
	opened, got := openMail(t, out, opening(t, bob, "bob@example.net", alice.Certificate()))
	v := opened.Verdict
	if opened.Class != pgp.Encrypted || !v.Encrypted || v.Sealed || v.Signature != pgp.SignatureValid || v.Identity != pgp.Directory ||
		v.Signer != alice.Fingerprint() || len(v.Warnings) > 0 {
		t.Fatalf("class %s (%s), verdict %+v", opened.Class, opened.Reason, v)
	}
	root := parseMail(t, got)
	if s := root.Header.Get("Subject"); s != "The subject-canary of this letter" {
		t.Errorf("subject %q", s)
	}
	if len(root.Children) != 2 || content(t, got, root.Children[0]) != "Grüße, body-canary \r\nFrom here on it is easy." {
		t.Errorf("rendering:\n%s", got)
	}
	if len(opened.Autocrypt) != 1 {
		t.Errorf("%d Autocrypt fields to believe", len(opened.Autocrypt))
	}
	// The upstream can't make a letter of it in which another is the author.
	forged := strings.Replace(out, "From: Alice <alice@example.org>", "From: Mallory <mallory@example.org>", 1)
	opened, got = openMail(t, forged, opening(t, bob, "bob@example.net", alice.Certificate()))
	if opened.Class == pgp.Encrypted && strings.Contains(got, "mallory") && len(opened.Verdict.Warnings) == 0 {
		t.Errorf("another From outside is shown without warning: %+v\n%s", opened.Verdict, got)
	}
}

// TestProtectCorpus: every message of the corpus is protected without fault,
// shows nothing of its body outside, and opens.
func TestProtectCorpus(t *testing.T) {
	t.Parallel()
	alice, bob := makeKey(t, "alice@example.org"), makeKey(t, "bob@example.net")
	o := opening(t, bob, "bob@example.net", alice.Certificate())
	n := 0
	for mail := range corpusMails(t) {
		root, err := message.Parse(message.Bytes([]byte(mail)), message.Limits{})
		if err != nil || len(root.Header.All("From")) != 1 {
			continue
		}
		n++
		out := protect(t, mail, pgp.Protection{Signer: alice, Recipients: []*pgp.Certificate{bob.Certificate()}})
		inner, _ := decrypted(t, out, alice, bob)
		again := parseMail(t, inner)
		if !sameStructure(root, again) {
			t.Errorf("structure changed for %q", root.Header.Get("Message-ID"))
		}
		if opened, _ := openMail(t, out, o); opened.Class != pgp.Encrypted {
			t.Errorf("%q: class %s: %s", root.Header.Get("Message-ID"), opened.Class, opened.Reason)
		}
	}
	t.Logf("%d messages", n)
}

func sameStructure(a, b *message.Part) bool {
	if a.Type != b.Type || a.Subtype != b.Subtype || len(a.Children) != len(b.Children) || (a.Embedded == nil) != (b.Embedded == nil) {
		return false
	}
	for i := range a.Children {
		if !sameStructure(a.Children[i], b.Children[i]) {
			return false
		}
	}
	return a.Embedded == nil || sameStructure(a.Embedded, b.Embedded)
}

// TestOpenWhatPeersEncrypt: what others emit is opened by us.
func TestOpenWhatPeersEncrypt(t *testing.T) {
	t.Parallel()
	eachPeer(t, func(t *testing.T, p peer, w *workshop, alice, bob *pgp.Key) {
		w.write("content.bin", crlf("Content-Type: text/plain; charset=us-ascii; hp=\"cipher\"\nFrom: bob@example.net\n"+
			"Subject: peer-canary\nHP-Outer: From: bob@example.net\nHP-Outer: Subject: [...]\n\nHello from a peer\n"))
		mail := crlf("From: bob@example.net\nTo: alice@example.org\nSubject: [...]\nMIME-Version: 1.0\n"+
			"Content-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\"; boundary=b\n\n"+
			"--b\nContent-Type: application/pgp-encrypted\n\nVersion: 1\n\n--b\nContent-Type: application/octet-stream\n\n") +
			strings.ReplaceAll(strings.ReplaceAll(p.encrypt(w), "\r\n", "\n"), "\n", "\r\n") + "--b--\r\n"
		opened, got := openMail(t, mail, opening(t, alice, "alice@example.org", bob.Certificate()))
		if opened.Class != pgp.Encrypted || opened.Verdict.Signature != pgp.SignatureValid {
			t.Fatalf("class %s (%s), verdict %+v", opened.Class, opened.Reason, opened.Verdict)
		}
		if !strings.Contains(got, "Hello from a peer") || !strings.Contains(got, "peer-canary") {
			t.Errorf("rendering:\n%s", got)
		}
	})
}

func FuzzProtect(f *testing.F) {
	alice, bob := makeKey(f, "alice@example.org"), makeKey(f, "bob@example.net")
	f.Add(crlf(letter))
	f.Add("From: alice@example.org\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n\xff\r\n--b--")
	for mail := range corpusMails(f) {
		if len(mail) < 20<<10 {
			f.Add(mail)
		}
	}
	f.Fuzz(func(t *testing.T, mail string) {
		p := pgp.Protection{Signer: alice, Recipients: []*pgp.Certificate{bob.Certificate()}, Now: testNow}
		var out bytes.Buffer
		if err := pgp.Protect(context.Background(), &out, message.Bytes([]byte(mail)), p); err != nil {
			return
		}
		inner, _ := decrypted(t, out.String(), alice, bob)
		before, after := parseMail(t, mail), parseMail(t, inner)
		if !sameStructure(before, after) {
			t.Errorf("structure changed:\n%q", inner)
		}
		for _, name := range []string{"bcc", "Resent-Bcc", "Letterlock-Status", "X-Mozilla-Keys"} {
			if after.Header.Has(name) {
				t.Errorf("%s inside", name)
			}
		}
		if outer := parseMail(t, out.String()); !outer.Is("multipart/encrypted") || len(outer.Children) != 2 {
			t.Errorf("outer structure: %s/%s, %d parts", outer.Type, outer.Subtype, len(outer.Children))
		}
		p.Recipients = nil
		_ = pgp.Protect(context.Background(), &out, message.Bytes([]byte(mail)), p)
	})
}

package pgp_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"mime/quotedprintable"
	"strings"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/pgp"
)

const letter = `Received: from laptop.local (localhost [127.0.0.1]) by relay
From: Alice <alice@example.org>
To: Bob <bob@example.net>
Cc: Carol <carol@example.net>
Bcc: Secret <bcc-canary@example.com>
Resent-Bcc: bcc-canary@example.com
Subject: The subject-canary of
 this letter
Thread-Topic: subject-canary
Keywords: canary-keyword
Comments: canary-comment
User-Agent: agent-canary
X-Mozilla-Status: mozilla-canary
Letterlock-Status: encrypted; signature=valid
HP-Outer: Subject: forged-canary
Autocrypt: addr=alice@example.org; keydata=b2xkCg==
Date: Mon, 01 Jun 2026 10:00:00 +0200
Message-ID: <one@example.org>
In-Reply-To: <zero@example.net>
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="outer=1"
Content-Transfer-Encoding: 8bit

preamble
--outer=1
Content-Type: text/plain; charset=utf-8; format=flowed
Content-Transfer-Encoding: 8bit

Grüße, body-canary 
From here on it is easy.
--outer=1
Content-Type: application/octet-stream; name="file-canary.bin"
Content-Transfer-Encoding: base64

AAECAwQFBgcICQ==
--outer=1--
`

// TestProtectedLetter reads what Protect makes of one letter, from outside and
// from inside.
func TestProtectedLetter(t *testing.T) {
	t.Parallel()
	alice, bob, carol := makeKey(t, "alice@example.org"), makeKey(t, "bob@example.net"), makeKey(t, "carol@example.net")
	mail := crlf(letter)
	out := protect(t, mail, pgp.Protection{Signer: alice, Autocrypt: alice.Certificate(), From: addr(t, "alice@example.org"),
		Recipients: []*pgp.Certificate{bob.Certificate(), carol.Certificate(), bob.Certificate()}})
	for _, word := range []string{"canary", "Grü", "preamble", "agent", "laptop-"} {
		if strings.Contains(out, word) {
			t.Errorf("%q stands outside:\n%s", word, out)
		}
	}
	root := parseMail(t, out)
	for name, want := range map[string]string{
		"Subject": "[...]", "From": "Alice <alice@example.org>", "To": "Bob <bob@example.net>",
		"Cc": "Carol <carol@example.net>", "Message-ID": "<one@example.org>", "In-Reply-To": "<zero@example.net>",
		"Date": "Mon, 01 Jun 2026 10:00:00 +0200", "Comments": "", "Keywords": "", "Bcc": "",
	} {
		if got := root.Header.Get(name); got != want {
			t.Errorf("outer %s = %q, want %q", name, got, want)
		}
	}
	if !root.Is("multipart/encrypted") || len(root.Children) != 2 || root.Params["protocol"] != "application/pgp-encrypted" {
		t.Fatalf("root is %s/%s with %d parts", root.Type, root.Subtype, len(root.Children))
	}
	if s, err := pgp.IsSealedSubmission(root, message.Bytes([]byte(out))); err != nil || s.Kind != pgp.PGPMIME || len(s.KeyIDs) != 2 ||
		!pgp.Covers(s.KeyIDs, bob.Certificate()) || !pgp.Covers(s.KeyIDs, carol.Certificate()) || pgp.Covers(s.KeyIDs, alice.Certificate()) {
		t.Errorf("IsSealedSubmission = %+v, %v; want bob and carol, each once, and not the sender", s, err)
	}
	for _, reader := range []*pgp.Key{bob, carol} {
		inner, sig := decrypted(t, out, alice, reader)
		checkPayload(t, inner)
		if len(sig.IntendedRecipients) != 2 {
			t.Errorf("%d intended recipients, want 2", len(sig.IntendedRecipients))
		}
		if sig.CreationTime.Unix() != testNow.Unix() {
			t.Errorf("signed at %v, want %v", sig.CreationTime, testNow)
		}
	}
}

func checkPayload(t *testing.T, inner string) {
	t.Helper()
	root := parseMail(t, inner)
	for name, want := range map[string]string{
		"Subject": "The subject-canary of this letter", "Thread-Topic": "subject-canary", "Keywords": "canary-keyword",
		"Comments": "canary-comment", "Message-ID": "<one@example.org>", "Content-Transfer-Encoding": "7bit",
	} {
		if got := root.Header.Get(name); got != want {
			t.Errorf("inner %s = %q, want %q", name, got, want)
		}
	}
	for _, word := range []string{"bcc", "Letterlock-Status", "agent-canary", "mozilla-canary", "forged", "laptop", "b2xkCg"} {
		if strings.Contains(strings.ToLower(inner), strings.ToLower(word)) {
			t.Errorf("%q stands inside", word)
		}
	}
	if root.Params["hp"] != "cipher" || root.Params["boundary"] != "outer=1" {
		t.Errorf("payload's parameters are %v", root.Params)
	}
	var outer []string
	for _, f := range root.Header.All("HP-Outer") {
		name, _, _ := strings.Cut(f.Value(), ":")
		outer = append(outer, name)
	}
	want := "From To Cc Subject Date Message-ID In-Reply-To Autocrypt"
	if got := strings.Join(outer, " "); got != want {
		t.Errorf("HP-Outer tells of %s, want %s", got, want)
	}
	if n := len(root.Header.All("Autocrypt")); n != 1 {
		t.Errorf("%d Autocrypt fields inside, want ours alone", n)
	}
	text := root.Children[0]
	if text.Header.Get("Content-Transfer-Encoding") != "quoted-printable" {
		t.Errorf("8bit text is %q inside", text.Header.Get("Content-Transfer-Encoding"))
	}
	body, _ := io.ReadAll(quotedprintable.NewReader(strings.NewReader(inner[text.Body:text.End])))
	if got, want := string(body), "Grüße, body-canary \r\nFrom here on it is easy."; got != want {
		t.Errorf("text = %q, want %q", got, want)
	}
	file := root.Children[1]
	if got := inner[file.Start:file.End]; got != crlf("Content-Type: application/octet-stream; name=\"file-canary.bin\"\nContent-Transfer-Encoding: base64\n\nAAECAwQFBgcICQ==") {
		t.Errorf("attachment was changed to %q", got)
	}
}

// TestAutocryptField checks Autocrypt Level 1, Section 2.1.
func TestAutocryptField(t *testing.T) {
	t.Parallel()
	alice, bob := makeKey(t, "alice@example.org"), makeKey(t, "bob@example.net")
	out := protect(t, crlf(letter), pgp.Protection{Signer: alice, Autocrypt: alice.Certificate(),
		Recipients: []*pgp.Certificate{bob.Certificate()}})
	fields := parseMail(t, out).Header.All("Autocrypt")
	if len(fields) != 1 {
		t.Fatalf("%d Autocrypt fields", len(fields))
	}
	if clear, ok := pgp.AutocryptField(alice.Certificate(), addr(t, "alice@example.org"), testNow); !ok || string(clear) != string(fields[0].Raw) {
		t.Errorf("AutocryptField = %q, %v; not what Protect adds", clear, ok)
	}
	if _, ok := pgp.AutocryptField(alice.Certificate(), addr(t, "mallory@example.org"), testNow); ok {
		t.Error("AutocryptField for an address that the certificate doesn't name")
	}
	head, data, ok := strings.Cut(fields[0].Value(), "keydata=")
	if !ok || strings.TrimSpace(head) != "addr=alice@example.org; prefer-encrypt=mutual;" {
		t.Fatalf("Autocrypt: %s", head)
	}
	raw, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(data, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	certs, err := pgp.ParseCertificates(raw)
	if err != nil || len(certs) != 1 || certs[0].Fingerprint() != alice.Fingerprint() {
		t.Fatalf("keydata: %v, %v", certs, err)
	}
	if err := certs[0].CheckEncrypt(testNow); err != nil {
		t.Errorf("keydata can't be encrypted to: %v", err)
	}
}

// TestProtectNeverLeavesOut: a recipient that can't be encrypted to is an error.
func TestProtectNeverLeavesOut(t *testing.T) {
	t.Parallel()
	alice, bob, carol := makeKey(t, "alice@example.org"), makeKey(t, "bob@example.net"), makeKey(t, "carol@example.net")
	var out bytes.Buffer
	err := pgp.Protect(context.Background(), &out, message.Bytes([]byte(crlf(letter))), pgp.Protection{
		Signer: alice, Recipients: []*pgp.Certificate{bob.Certificate(), carol.Certificate()},
		Now: testNow.Add(pgp.Lifetime + time.Hour)})
	if !errors.Is(err, pgp.ErrExpired) {
		t.Errorf("Protect to an expired certificate: %v, want ErrExpired", err)
	}
	if strings.Contains(out.String(), "BEGIN PGP") {
		t.Errorf("it wrote packets")
	}
	mail := message.Bytes([]byte(crlf(letter)))
	for name, p := range map[string]pgp.Protection{
		"no signer":     {Recipients: []*pgp.Certificate{bob.Certificate()}, Now: testNow},
		"a nil among":   {Signer: alice, Recipients: []*pgp.Certificate{bob.Certificate(), nil}, Now: testNow},
		"nobody signs":  {Now: testNow},
		"signs expired": {Signer: alice, Now: testNow.Add(pgp.Lifetime)},
	} {
		if err := pgp.Protect(context.Background(), io.Discard, mail, p); err == nil || errors.Is(err, pgp.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	err = pgp.Protect(ctx, io.Discard, message.Bytes([]byte(crlf(letter))), pgp.Protection{
		Signer: alice, Recipients: []*pgp.Certificate{bob.Certificate()}, Now: testNow})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Protect after cancel: %v", err)
	}
}

// TestProtectCompletes adds what the journal needs, and refuses two authors.
func TestProtectCompletes(t *testing.T) {
	t.Parallel()
	alice, bob := makeKey(t, "alice@example.org"), makeKey(t, "bob@example.net")
	p := pgp.Protection{Signer: alice, Recipients: []*pgp.Certificate{bob.Certificate()}, Now: testNow}
	out := protect(t, crlf("From: alice@example.org\n\nhi\n"), p)
	inner, _ := decrypted(t, out, alice, bob)
	o, i := parseMail(t, out).Header, parseMail(t, inner).Header
	for _, name := range []string{"Date", "Message-ID"} {
		if o.Get(name) == "" || o.Get(name) != i.Get(name) {
			t.Errorf("%s is %q outside and %q inside", name, o.Get(name), i.Get(name))
		}
	}
	if !strings.HasSuffix(o.Get("Message-ID"), "@example.org>") {
		t.Errorf("Message-ID: %s", o.Get("Message-ID"))
	}
	for _, mail := range []string{"To: a@example.org\n\nhi\n", "From: a@example.org\nfrom : b@example.org\n\nhi\n"} {
		err := pgp.Protect(context.Background(), io.Discard, message.Bytes([]byte(crlf(mail))), p)
		if !errors.Is(err, pgp.ErrUnfit) {
			t.Errorf("Protect(%q) = %v, want ErrUnfit", mail, err)
		}
	}
}

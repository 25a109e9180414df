package server_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"letterlock.org/letterlock/keydir/server"
	"letterlock.org/letterlock/keydir/wks"
	"letterlock.org/letterlock/pgp"
)

const submissions = "key-submission@example.org"

// newService is a Web Key Service over a directory that publishes its key.
func newService(t testing.TB, d *server.Directory) (*server.WKS, *pgp.Key) {
	t.Helper()
	k, err := pgp.GenerateKey(addr(t, submissions), pgp.DefaultProfile, d.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Add(ctx, addr(t, submissions), k.Certificate()); err != nil {
		t.Fatal(err)
	}
	return &server.WKS{Directory: d, Domains: []string{"example.org"}, Address: addr(t, submissions), Keys: k, Signer: k, Now: d.Now}, k
}

func head(t testing.TB, from, to string) wks.Head {
	return wks.Head{From: addr(t, from), To: addr(t, to), Date: today}
}

func submission(t testing.TB, from string, c *pgp.Certificate, service *pgp.Key) []byte {
	t.Helper()
	b, err := wks.Submit(ctx, head(t, from, submissions), c, service.Certificate())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestWebKeyService(t *testing.T) {
	d, _ := directory(t)
	w, service := newService(t, d)
	joes, eves := key(t, "joe.doe@example.org"), key(t, "eve@example.org")
	mails, err := w.Receive(ctx, submission(t, "joe.doe@example.org", joes.Certificate(), service))
	if err != nil || len(mails) != 1 || mails[0].To.String() != "joe.doe@example.org" {
		t.Fatal(mails, err)
	}
	if _, err := wks.Read(ctx, mails[0].Text, eves); !errors.Is(err, pgp.ErrMalformed) {
		t.Errorf("a request for another key opens: %v", err)
	}
	l, err := wks.Read(ctx, mails[0].Text, joes)
	if err != nil || l.Kind != wks.ConfirmationRequest || !l.Sealed || l.Confirmation.Fingerprint != joes.Fingerprint() || l.From.String() != submissions {
		t.Fatal(l, err)
	}
	answer := func(from string, c wks.Confirmation) []byte {
		t.Helper()
		b, err := wks.Response(ctx, head(t, from, submissions), c, service.Certificate())
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	ok := l.Confirmation
	spoilt := func(f func(c *wks.Confirmation)) wks.Confirmation { c := ok; f(&c); return c }
	for _, tt := range []struct {
		name string
		mail []byte
	}{
		{"from somebody else", answer("eve@example.org", ok)},
		{"for another address", answer("eve@example.org", spoilt(func(c *wks.Confirmation) { c.Address = "eve@example.org" }))},
		{"another nonce", answer("joe.doe@example.org", spoilt(func(c *wks.Confirmation) { c.Nonce = strings.Repeat("y", 32) }))},
		{"to another service", answer("joe.doe@example.org", spoilt(func(c *wks.Confirmation) { c.Sender = "key-submission@elsewhere.example" }))},
		{"a request", mails[0].Text},
		{"in clear", []byte("From: joe.doe@example.org\r\nContent-Type: application/vnd.gnupg.wks\r\n\r\ntype: confirmation-response\r\nsender: " + submissions +
			"\r\naddress: joe.doe@example.org\r\nnonce: " + ok.Nonce + "\r\n")},
		{"two From fields", append([]byte("From: eve@example.org\r\n"), answer("joe.doe@example.org", ok)...)},
		{"a submission in clear", []byte("From: joe.doe@example.org\r\nContent-Type: application/pgp-keys\r\n\r\n" + joes.Certificate().Armored())},
		{"its own mail", answer(submissions, ok)},
		{"another mail", []byte("From: joe.doe@example.org\r\n\r\nHello\r\n")},
		{"nothing", nil},
	} {
		if mails, err := w.Receive(ctx, tt.mail); !errors.Is(err, server.ErrIgnored) || len(mails) > 0 {
			t.Errorf("%s: %d mails, %v", tt.name, len(mails), err)
		}
	}
	if served(t, d) != nil {
		t.Fatal("published unconfirmed")
	}
	reply := answer("Joe.Doe@example.org", ok)
	mails, err = w.Receive(ctx, reply)
	if err != nil || len(mails) != 1 || !bytes.Contains(mails[0].Text, []byte("\r\nWks-Phase: done\r\n")) {
		t.Fatal(mails, err)
	}
	if got := served(t, d); len(got) != 1 || got[0].Fingerprint() != joes.Fingerprint() {
		t.Fatal("not published")
	}
	if _, err := w.Receive(ctx, reply); !errors.Is(err, server.ErrIgnored) {
		t.Errorf("the answer again: %v", err)
	}
	mails, err = w.Receive(ctx, submission(t, "joe.doe@example.org", joes.Certificate(), service))
	if err != nil || len(mails) != 1 || !bytes.Contains(mails[0].Text, []byte("Wks-Phase: done")) {
		t.Errorf("submitted again: %v, %v", mails, err)
	}
}

func TestSubmissionsByMail(t *testing.T) {
	d, _ := directory(t)
	w, service := newService(t, d)
	secret := key(t, "joe.doe@example.org")
	foreign := cert(t, "joe@elsewhere.example")
	for _, tt := range []struct {
		name string
		mail []byte
		want error
	}{
		{"of another domain", submission(t, "joe@elsewhere.example", foreign, service), server.ErrForeign},
		{"encrypted to somebody else", submission(t, "joe.doe@example.org", secret.Certificate(), secret), pgp.ErrMalformed},
		{"damaged", bytes.Replace(submission(t, "joe.doe@example.org", secret.Certificate(), service), []byte("-----\r\n\r\n"), []byte("-----\r\n\r\nAAAA"), 1), pgp.ErrMalformed},
	} {
		if mails, err := w.Receive(ctx, tt.mail); !errors.Is(err, server.ErrIgnored) || !errors.Is(err, tt.want) || len(mails) > 0 {
			t.Errorf("%s: %d mails, %v", tt.name, len(mails), err)
		}
	}
	w.Clear = true
	clear := []byte("From: joe.doe@example.org\r\nContent-Type: application/pgp-keys\r\n\r\n" + secret.Certificate().Armored())
	if mails, err := w.Receive(ctx, clear); err != nil || len(mails) != 1 {
		t.Errorf("in clear, which is allowed here: %v, %v", mails, err)
	}
}

func TestAMailThatCouldNotBeSentDoesNotCount(t *testing.T) {
	d, _ := directory(t)
	w, service := newService(t, d)
	raw := submission(t, "joe.doe@example.org", cert(t, "joe.doe@example.org"), service)
	for n := range 10 {
		mails, err := w.Receive(ctx, raw)
		if err != nil || len(mails) != 1 {
			t.Fatalf("%d: %v, %v", n, mails, err)
		}
		if err := mails[0].Unsent(ctx); err != nil {
			t.Fatal(err)
		}
	}
}

// FuzzWebKeyMail: no mail makes the service publish, or fall over.
func FuzzWebKeyMail(f *testing.F) {
	d, _ := directory(f)
	w, service := newService(f, d)
	w.Clear = true
	f.Add(submission(f, "joe.doe@example.org", cert(f, "joe.doe@example.org"), service))
	f.Add([]byte("From: a@example.org\nContent-Type: multipart/mixed; boundary=x\n\n--x\nContent-Type: application/vnd.gnupg.wks\n\ntype: confirmation-response\n--x--\n"))
	f.Add([]byte("From: joe.doe@example.org\r\nContent-Type: application/pgp-keys\r\nContent-Transfer-Encoding: base64\r\n\r\nmDMEZ\r\n"))
	f.Add([]byte(fmt.Sprintf("From: joe.doe@example.org\r\nContent-Type: application/vnd.gnupg.wks\r\n\r\ntype: confirmation-response\r\nsender: %s\r\naddress: joe.doe@example.org\r\nnonce: %s\r\n", submissions, strings.Repeat("y", 32))))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if _, err := w.Receive(context.Background(), raw); err == nil {
			return
		}
		if served(t, d) != nil {
			t.Fatal("published")
		}
	})
}

func TestTheSubmissionAddressIsTold(t *testing.T) {
	d, st := directory(t)
	d.Submission = addr(t, submissions)
	ask := func(d *server.Directory, file string) (int, string) {
		r := get(handler(d), "GET", advanced+file)
		return r.StatusCode, string(body(t, r))
	}
	if status, _ := ask(d, "submission-address"); status != 404 {
		t.Errorf("before it has a key: %d", status)
	}
	newService(t, d)
	for _, d := range []*server.Directory{d, reopened(st)} {
		d.Submission = addr(t, submissions)
		if status, text := ask(d, "submission-address"); status != 200 || text != submissions+"\n" {
			t.Errorf("submission-address: %d %q", status, text)
		}
		if status, text := ask(d, "policy"); status != 200 || text != "submission-address: "+submissions+"\n" {
			t.Errorf("policy: %d %q", status, text)
		}
	}
	dir := t.TempDir()
	if _, err := d.Export(ctx, dir, "example.org"); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"submission-address", "policy"} {
		b, err := os.ReadFile(filepath.Join(dir, ".well-known/openpgpkey/example.org", file))
		if _, want := ask(d, file); err != nil || string(b) != want {
			t.Errorf("exported %s: %q, %v", file, b, err)
		}
	}
}

// The policy says only what is true of us (draft-koch, Section 4.5).
func TestThePolicyClaimsNothingElse(t *testing.T) {
	d, _ := directory(t)
	d.Submission = addr(t, submissions)
	add(t, d, submissions)
	text := body(t, get(server.New(server.Config{Directory: d, Domains: []string{"example.org"}, Put: true, Now: d.Now}), "GET", advanced+"policy"))
	if want := "submission-address: " + submissions + "\nletterlock-put: 1\n"; string(text) != want {
		t.Errorf("got %q, want %q", text, want)
	}
}

// Nobody's mailbox is filled through the submission address, and what others submit
// leaves the owner's mails alone.
func TestMailsOfTheWebKeyServiceAreFew(t *testing.T) {
	d, _ := directory(t)
	w, service := newService(t, d)
	submit := func(from string, c *pgp.Certificate) int {
		t.Helper()
		mails, err := w.Receive(ctx, submission(t, from, c, service))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range mails {
			if m.To.String() != "joe.doe@example.org" {
				t.Errorf("a mail to %s", m.To)
			}
		}
		return len(mails)
	}
	count := func(from string, c func() *pgp.Certificate) (n int) {
		for range 6 {
			n += submit(from, c())
		}
		return n
	}
	any := func() *pgp.Certificate { return cert(t, "joe.doe@example.org") }
	if n := count("eve@elsewhere.example", any); n != 1 {
		t.Errorf("a stranger's submissions made %d mails, want 1", n)
	}
	if n := count("mallory@elsewhere.example", any); n != 0 {
		t.Errorf("another stranger's made %d more", n)
	}
	if n := count("Joe.Doe@example.org", any); n != 3 {
		t.Errorf("the owner's made %d, want 3", n)
	}
	published := any()
	if err := d.Add(ctx, addr(t, "joe.doe@example.org"), published); err != nil {
		t.Fatal(err)
	}
	again := func() *pgp.Certificate { return published }
	if n := count("eve@elsewhere.example", again); n != 0 {
		t.Errorf("what is published, by a stranger: %d mails", n)
	}
	if n := count("joe.doe@example.org", again); n != 3 {
		t.Errorf("what is published, by its owner: %d mails, want 3", n)
	}
}

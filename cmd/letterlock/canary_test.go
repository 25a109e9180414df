package main_test

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"

	"letterlock.org/letterlock/internal/mailtest"
)

// canary is a secret that must never be found where it does not belong.
type canary struct{ name, text string }

func newCanary(name string) canary {
	var b [12]byte
	rand.Read(b[:])
	return canary{name, name + hex.EncodeToString(b[:])}
}

// traces are the forms in which a canary might lie somewhere.
func (c canary) traces() [][]byte {
	out := [][]byte{[]byte(c.text), []byte(strings.ToUpper(c.text)), []byte(hex.EncodeToString([]byte(c.text)))}
	for shift := range 3 { // base64 at each alignment, without its ragged ends
		e := base64.StdEncoding.EncodeToString(append(make([]byte, shift), c.text...))
		out = append(out, []byte(e[4:len(e)-4]))
	}
	return out
}

func (c canary) in(b []byte) bool {
	for _, t := range c.traces() {
		if bytes.Contains(b, t) {
			return true
		}
	}
	return false
}

func TestCanariesAreFoundInEveryForm(t *testing.T) {
	c := newCanary("body")
	for _, s := range []string{c.text, "x" + base64.StdEncoding.EncodeToString([]byte("ab"+c.text+"cd")), strings.ToUpper(c.text)} {
		if !c.in([]byte("before " + s + " after")) {
			t.Errorf("not found in %q: the test below could never fail", s)
		}
	}
}

// TestNothingOfALetterIsLeftBehind sends, reads, searches, drafts and files
// letters through two bridges, then looks for their contents and for every
// password in the state directories, temporary files, debug logs, and in all
// that the mail server was ever told.
func TestNothingOfALetterIsLeftBehind(t *testing.T) {
	up, err := mailtest.Start(mailtest.Options{Users: map[string]string{alice: "upstream-alice", bob: "upstream-bob"}, Record: true})
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	w := newWorld(t, up)
	a, b := w.bridge(alice, "upstream-alice"), w.bridge(bob, "upstream-bob")

	letter := map[string]canary{}
	for _, part := range []string{"subject", "body", "file", "content", "draft", "searched"} {
		letter[part] = newCanary(part)
	}
	passphrase, wrong := newCanary("passphrase"), newCanary("wrong")

	// A large attachment makes the spool leave memory.
	content := strings.Repeat(letter["content"].text+" ", 60_000)
	raw := fmt.Appendf(nil, "Date: Mon, 23 Nov 2026 10:00:00 +0000\r\nFrom: Alice <%s>\r\nTo: %s\r\nSubject: %s\r\nMessage-ID: <1@example.org>\r\n"+
		"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n%s %s\r\n--b\r\nContent-Type: application/octet-stream\r\n"+
		"Content-Disposition: attachment; filename=%q\r\nContent-Transfer-Encoding: base64\r\n\r\n%s\r\n--b--\r\n",
		alice, bob, letter["subject"].text, letter["body"].text, letter["searched"].text, letter["file"].text, wrapped(content))
	if err := mailtest.Submit(a.smtp, alice, []string{bob}, raw); err != nil {
		t.Fatal(err)
	}
	got, err := mailtest.Fetch(b.imap, "INBOX")
	if err != nil || len(got) != 1 {
		t.Fatalf("Bob has %d messages, %v", len(got), err)
	}
	for _, part := range []string{"subject", "body", "file", "content"} {
		if !letter[part].in(got[0].Raw) {
			t.Errorf("Bob does not see the %s: there is nothing to look for", part)
		}
	}
	readSearchAndDraft(t, b, letter)
	appendTo(t, a, "Sent", raw)
	for range 2 {
		if _, err := mailtest.Dial(mailtest.Login{Addr: b.imap.Addr, User: bob, Password: wrong.text}); err == nil {
			t.Error("a wrong password opened the mailbox")
		}
		if err := mailtest.Submit(mailtest.Login{Addr: a.smtp.Addr, User: alice, Password: wrong.text}, alice, []string{bob}, raw); err == nil {
			t.Error("a wrong password could send")
		}
	}
	a.command("key", "export", alice, "--secret", "--passphrase-file", w.file("pass", passphrase.text+"\n"))
	logs := w.stop()
	os.Remove(filepath.Join(w.dir, "pass"))

	secrets := []canary{passphrase, wrong, {"Alice's own password", a.imap.Password}, {"Bob's own password", b.imap.Password}}
	for _, c := range letter {
		secrets = append(secrets, c)
	}
	heard := up.Heard()
	if !bytes.Contains(heard, []byte("BEGIN PGP MESSAGE")) || !bytes.Contains(logs, []byte("level=DEBUG")) {
		t.Error("the mail server's record or the logs are not what they should be: there is nothing to look in")
	}
	upstreamPasswords := []canary{{"upstream password", "upstream-alice"}, {"upstream password", "upstream-bob"}}
	for _, c := range secrets {
		if c.in(heard) {
			t.Errorf("%s reached the mail server", c.name)
		}
	}
	for _, c := range append(secrets, upstreamPasswords...) {
		if c.in(logs) {
			t.Errorf("%s is in the logs", c.name)
		}
		for _, f := range filesWith(t, c, w.state, w.temp) {
			t.Errorf("%s lies in %s", c.name, f)
		}
	}
}

// readSearchAndDraft is an afternoon of Bob's mail program.
func readSearchAndDraft(t *testing.T, b *bridge, letter map[string]canary) {
	t.Helper()
	c, err := mailtest.Dial(b.imap)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Select("INBOX", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	for _, criteria := range []*imap.SearchCriteria{
		{Body: []string{letter["searched"].text}},
		{Text: []string{letter["body"].text}},
		{Header: []imap.SearchCriteriaHeaderField{{Key: "Subject", Value: letter["subject"].text}}},
	} {
		found, err := c.UIDSearch(criteria, nil).Wait()
		if err != nil || len(found.AllUIDs()) != 1 {
			t.Errorf("searching found %v, %v; want the letter", found, err)
		}
	}
	if err := c.Store(imap.SeqSetNum(1), &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagFlagged}}, nil).Close(); err != nil {
		t.Error(err)
	}
	if _, err := c.Copy(imap.SeqSetNum(1), "Archive").Wait(); err != nil {
		t.Error(err)
	}
	appendTo(t, b, "Drafts", []byte("From: "+bob+"\r\nSubject: "+letter["draft"].text+"\r\n\r\n"+letter["draft"].text+"\r\n"))
}

func appendTo(t *testing.T, b *bridge, mailbox string, raw []byte) {
	t.Helper()
	c, err := mailtest.Dial(b.imap)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	a := c.Append(mailbox, int64(len(raw)), nil)
	_, err = a.Write(raw)
	if err == nil {
		err = a.Close()
	}
	if err == nil {
		_, err = a.Wait()
	}
	if err != nil {
		t.Fatalf("append to %s: %v", mailbox, err)
	}
	if got, err := mailtest.Fetch(b.imap, mailbox); err != nil || len(got) != 1 || !bytes.Equal(got[0].Raw, raw) {
		t.Errorf("%s does not give back what was filed in it (%v)", mailbox, err)
	}
}

func wrapped(s string) string {
	e := base64.StdEncoding.EncodeToString([]byte(s))
	var b strings.Builder
	for len(e) > 76 {
		b.WriteString(e[:76] + "\r\n")
		e = e[76:]
	}
	return b.String() + e
}

func filesWith(t testing.TB, c canary, dirs ...string) (out []string) {
	t.Helper()
	looked := 0
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			b, err := os.ReadFile(path)
			looked++
			if c.in(b) {
				out = append(out, path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if looked < 3 {
		t.Fatalf("only %d files were looked at", looked)
	}
	return out
}

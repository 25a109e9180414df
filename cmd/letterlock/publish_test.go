package main_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/mailtest"
	"letterlock.org/letterlock/pgp"
)

// publishing is a directory with a Web Key Service and a bridge that uses it,
// before one mail server.
type publishing struct {
	*world
	up     *mailtest.Upstream
	office *bridge
	alice  *bridge
	base   string
}

func newPublishing(t *testing.T) *publishing {
	t.Helper()
	up, err := mailtest.Start(mailtest.Options{Users: map[string]string{"alice@example.org": "her-password", "key-submission@example.org": "its-password"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { up.Close() })
	p := &publishing{world: newWorld(t, up), up: up}
	p.office = p.configure("office", fmt.Sprintf(strings.ReplaceAll(submissionSettings, "keys@", "key-submission@"), `"127.0.0.1:0"`, up.SMTPAddr,
		fmt.Sprintf("smarthost_user = \"key-submission@example.org\"\nsmarthost_password = \"file:%s\"", p.file("office.password", "its-password\n"))))
	p.office.command("keydir", "init")
	p.office.serve(1)
	p.base = "http://" + p.office.ready[0].Listen
	p.alice = p.configure("alice", fmt.Sprintf("[[bridge]]\naddress = \"alice@example.org\"\nimap = { %s }\nsmtp = { %s }\n[discovery]\nwkd_override = { \"example.org\" = %q }",
		p.imap, p.smtp, p.base))
	p.alice.command("setup", "alice@example.org", "--password-file", p.file("password", "her-password\n"))
	return p
}

// pass has the service take the mails that came for it since the last time.
func (p *publishing) pass(from int) (next int) {
	p.t.Helper()
	for ; ; from++ {
		all := p.up.Delivered()
		if from >= len(all) {
			return from
		}
		if all[from].To[0] == "key-submission@example.org" {
			p.office.command("keydir", "receive", p.file("mail", string(all[from].Raw)))
		}
	}
}

func (p *publishing) fingerprint() string {
	p.t.Helper()
	certs, err := pgp.ParseCertificates([]byte(p.alice.command("key", "export", "alice@example.org")))
	if err != nil {
		p.t.Fatal(err)
	}
	return string(certs[0].Fingerprint())
}

func (p *publishing) mustServe(fingerprint string) {
	p.t.Helper()
	got := published(p.t, http.DefaultClient, p.base, "alice")
	if fingerprint == "" && got != nil || fingerprint != "" && (len(got) == 0 || string(got[0].Fingerprint()) != fingerprint) {
		p.t.Fatalf("the directory has %d certificates, want %q", len(got), fingerprint)
	}
}

func TestABridgePublishesByMail(t *testing.T) {
	p := newPublishing(t)
	fpr := p.fingerprint()
	if out := p.alice.command("key", "publish", "alice@example.org"); !strings.Contains(out, "It asks back by mail") {
		t.Fatalf("said %s", out)
	}
	n := p.pass(0) // the submission; the question is in the INBOX now
	p.mustServe("")
	if out := p.alice.command("key", "publish", "alice@example.org", "--wait", "1m"); !strings.Contains(out, "is answered") {
		t.Fatalf("said %s", out)
	}
	p.pass(n)
	p.mustServe(fpr)
	if out := p.alice.command("key", "publish", "alice@example.org"); !strings.Contains(out, "Published for") {
		t.Errorf("said %s", out)
	}
	// Another key, signed by the one that is published: no mail.
	before := len(p.up.Delivered())
	p.alice.command("key", "generate", "alice@example.org", "--replace")
	if next := p.fingerprint(); next == fpr {
		t.Fatal("the same key")
	} else {
		p.alice.command("key", "publish", "alice@example.org")
		p.mustServe(next)
	}
	if len(p.up.Delivered()) != before {
		t.Error("mail was sent though the published key had signed")
	}
}

func TestABridgePublishesByInvitation(t *testing.T) {
	p := newPublishing(t)
	word := strings.TrimSpace(p.office.command("keydir", "invite", "alice@example.org"))
	p.alice.command("key", "publish", "alice@example.org", "--invite", word)
	p.mustServe(p.fingerprint())
	if n := len(p.up.Delivered()); n != 0 {
		t.Errorf("%d mails were sent", n)
	}
}

func TestABridgePublishesAtAKeyServer(t *testing.T) {
	p := newPublishing(t)
	if out := p.alice.command("key", "publish", "alice@example.org", "--vks", p.base); !strings.Contains(out, "its link publishes") {
		t.Errorf("said %s", out)
	}
	for try := 0; len(p.up.Delivered()) == 0; try++ {
		if try == 1200 {
			t.Fatal("no mail came")
		}
		time.Sleep(100 * time.Millisecond)
	}
	confirm(t, http.DefaultClient, p.base, string(p.up.Delivered()[0].Raw))
	p.mustServe(p.fingerprint())
	if out := p.alice.command("key", "publish", "alice@example.org", "--vks", p.base); !strings.Contains(out, "Published for") {
		t.Errorf("said %s", out)
	}
	p.alice.fails(1, "key", "publish", "alice@example.org", "--vks", "http://keys.example.com")
	p.alice.fails(1, "key", "publish", "alice@example.org", "--vks", "http://127.0.0.1:1")
}

// serve answers by itself.
func TestServeAnswersTheDirectory(t *testing.T) {
	p := newPublishing(t)
	p.alice.command("key", "publish", "alice@example.org")
	n := p.pass(0)
	p.alice.serve(2)
	for try := 0; len(p.up.Delivered()) == n; try++ {
		if try == 1200 {
			t.Fatal("the question is not answered")
		}
		time.Sleep(100 * time.Millisecond)
	}
	p.pass(n)
	p.mustServe(p.fingerprint())
}

// A question about a certificate that we didn't submit gets no answer.
func TestOnlyOwnSubmissionsAreConfirmed(t *testing.T) {
	p := newPublishing(t)
	p.alice.command("key", "publish", "alice@example.org")
	p.alice.command("key", "generate", "alice@example.org", "--replace") // what was submitted isn't in use any more, but was ours
	eve := p.configure("eve", fmt.Sprintf("[[bridge]]\naddress = \"alice@example.org\"\nimap = { %s }\nsmtp = { %s }\n[discovery]\nwkd_override = { \"example.org\" = %q }",
		p.imap, p.smtp, p.base))
	eve.command("setup", "alice@example.org", "--password-file", p.file("password", "her-password\n"))
	all := len(p.up.Delivered())
	eve.command("key", "publish", "alice@example.org")
	n := p.pass(all) // Eve's alone: the question is about her certificate
	p.alice.fails(1, "key", "publish", "alice@example.org", "--wait", "4s")
	for _, d := range p.up.Delivered()[n:] {
		if strings.Contains(string(d.Raw), "Key publication confirmation") {
			t.Error("a question about somebody else's certificate was answered")
		}
	}
	p.mustServe("")
}

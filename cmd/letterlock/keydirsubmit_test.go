package main_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/mailtest/peer"
	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/pgp"
)

const submissionSettings = `
[keydir]
listen = [%s]
domains = ["example.org"]
url = "https://keys.example.org"
from = "keys@example.org"
smarthost = "smtp+insecure://%s"
%s
`

// published asks a directory for an address of example.org.
func published(t testing.TB, c *http.Client, base, local string) []*pgp.Certificate {
	t.Helper()
	r, err := c.Get(base + "/.well-known/openpgpkey/example.org/hu/" + keydir.WKDHash(local))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, _ := io.ReadAll(r.Body)
	if r.StatusCode != 200 {
		return nil
	}
	certs, err := pgp.ParseCertificates(b)
	if err != nil {
		t.Fatal(err)
	}
	return certs
}

var submissionLink = regexp.MustCompile(`https://keys\.example\.org(/publish/\S+)`)

// confirm opens the link of the newest mail.
func confirm(t testing.TB, c *http.Client, base, mail string) {
	t.Helper()
	f := submissionLink.FindStringSubmatch(mail)
	if f == nil {
		t.Fatalf("no link in %s", mail)
	}
	r, err := c.PostForm(base+f[1], url.Values{})
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	if r.StatusCode != 200 {
		t.Errorf("the link answers %s", r.Status)
	}
}

func TestSubmissionOverTLS(t *testing.T) {
	sink := peer.StartSink(t)
	w := newWorldOf(t, world{domain: "example.org"})
	authority := w.configure("authority", "")
	authority.command("key", "generate", "joe@example.org")
	armored := authority.command("key", "export", "joe@example.org")
	chain, tlsKey, pool := peer.Certificate(t, w.dir)
	b := w.configure("office", fmt.Sprintf(submissionSettings, `"https://127.0.0.1:0"`, sink.Addr, fmt.Sprintf("tls_certificate = %q\ntls_key = %q", chain, tlsKey)))
	b.serve(1)
	if b.ready[0].Protocol != "https" {
		t.Fatalf("ready: %v", b.ready)
	}
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}, Timeout: patience}
	base := "https://" + b.ready[0].Listen
	r, err := c.PostForm(base+"/pks/add", url.Values{"keytext": {armored}})
	if err != nil || r.StatusCode != 200 {
		t.Fatal(r, err)
	}
	r.Body.Close()
	mails := sink.Await(t, 1)
	if published(t, c, base, "joe") != nil {
		t.Fatal("published unconfirmed")
	}
	confirm(t, c, base, string(mails[0].Raw))
	if got := published(t, c, base, "joe"); len(got) != 1 {
		t.Errorf("%d certificates are published", len(got))
	}
	if log, _ := os.ReadFile(b.log); strings.Contains(string(log), "/publish/") || strings.Contains(string(log), "joe@") {
		t.Error("the log tells of links or addresses")
	}
}

func TestGnuPGSubmits(t *testing.T) {
	peer.Require(t, "gpg", "dirmngr")
	sink := peer.StartSink(t)
	w := newWorldOf(t, world{domain: "example.org"})
	b := w.configure("office", fmt.Sprintf(submissionSettings, `"127.0.0.1:0"`, sink.Addr, ""))
	b.serve(1)
	home := filepath.Join(w.dir, "gnupg")
	if err := os.Mkdir(home, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run() })
	gpg := func(args ...string) string {
		t.Helper()
		out, err := exec.Command("gpg", append([]string{"--homedir", home, "--batch", "--keyserver", "hkp://" + b.ready[0].Listen}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("gpg %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	gpg("--passphrase", "", "--quick-generate-key", "<ann@example.org>", "default", "default", "never")
	var fpr string
	for line := range strings.Lines(gpg("--with-colons", "--list-keys", "ann@example.org")) {
		if f := strings.Split(line, ":"); f[0] == "fpr" && fpr == "" {
			fpr = f[9]
		}
	}
	gpg("--send-keys", fpr)
	base := "http://" + b.ready[0].Listen
	confirm(t, http.DefaultClient, base, string(sink.Await(t, 1)[0].Raw))
	if got := published(t, http.DefaultClient, base, "ann"); len(got) != 1 || string(got[0].Fingerprint()) != fpr {
		t.Fatalf("%d certificates are published", len(got))
	}
	rev := filepath.Join(home, "openpgp-revocs.d", fpr+".rev")
	text, err := os.ReadFile(rev)
	if err != nil {
		t.Fatal(err)
	}
	gpg("--import", w.file("rev.asc", strings.Replace(string(text), ":---", "---", 1)))
	gpg("--send-keys", fpr)
	if got := published(t, http.DefaultClient, base, "ann"); len(got) != 1 || !got[0].Revoked(time.Now()) {
		t.Error("the revocation is not served")
	}
}

func TestDirectoryNodesShareAStore(t *testing.T) {
	db := peer.Postgres(t)
	sink := peer.StartSink(t)
	w := newWorldOf(t, world{domain: "example.org"})
	store := fmt.Sprintf("[store]\nurl = %q", db.Fresh())
	one := w.configure("one", fmt.Sprintf(submissionSettings, `"127.0.0.1:0"`, sink.Addr, store))
	two := w.configure("two", fmt.Sprintf(submissionSettings, `"127.0.0.1:0"`, sink.Addr, store))
	one.serve(1)
	two.serve(1)
	maker := w.configure("maker", "")
	maker.command("key", "generate", "joe@example.org")
	base := func(b *bridge) string { return "http://" + b.ready[0].Listen }
	r, err := http.PostForm(base(one)+"/pks/add", url.Values{"keytext": {maker.command("key", "export", "joe@example.org")}})
	if err != nil || r.StatusCode != 200 {
		t.Fatal(r, err)
	}
	r.Body.Close()
	confirm(t, http.DefaultClient, base(two), string(sink.Await(t, 1)[0].Raw)) // at the other node
	for try := 0; published(t, http.DefaultClient, base(one), "joe") == nil; try++ {
		if try == 1200 {
			t.Fatal("what is confirmed at one node is never served by the other")
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func TestSequoiaSubmits(t *testing.T) {
	peer.Require(t, "sq")
	sink := peer.StartSink(t)
	w := newWorldOf(t, world{domain: "example.org"})
	b := w.configure("office", fmt.Sprintf(submissionSettings, `"127.0.0.1:0"`, sink.Addr, ""))
	b.serve(1)
	sq := func(args ...string) string {
		t.Helper()
		cmd := exec.Command("sq", append([]string{"keyserver", "--policy", "insecure", "--server", "hkp://" + b.ready[0].Listen}, args...)...)
		cmd.Env = append(os.Environ(), "HOME="+w.dir)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("sq %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	c := certificates(t, 1)[0]
	sq("send", w.file("cert.asc", c.Armored()))
	base := "http://" + b.ready[0].Listen
	confirm(t, http.DefaultClient, base, string(sink.Await(t, 1)[0].Raw))
	if got := published(t, http.DefaultClient, base, "user0"); len(got) != 1 || got[0].Fingerprint() != c.Fingerprint() {
		t.Fatal("not published")
	}
	certs, err := pgp.ParseCertificates([]byte(sq("get", string(c.Fingerprint()))))
	if err != nil || len(certs) != 1 || certs[0].Fingerprint() != c.Fingerprint() {
		t.Errorf("sq gets %v, %v", certs, err)
	}
}

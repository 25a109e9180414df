package main_test

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"letterlock.org/letterlock/internal/mailtest/peer"
)

// GnuPG's client publishes by mail at our service.
func TestGnuPGPublishesByMail(t *testing.T) {
	peer.Require(t, "unbound", "gpg", "dirmngr", gpgWKSClient)
	peer.OnIsland(t, func(i *peer.Island) {
		p := newPortal(t, i)
		b, sink := p.serve, p.sink
		b.command("keydir", "init")
		base := "https://openpgpkey.example.org"
		home := filepath.Join(i.Dir, "gnupg")
		if err := os.Mkdir(home, 0o700); err != nil {
			t.Fatal(err)
		}
		run := func(stdin []byte, name string, args ...string) []byte {
			t.Helper()
			cmd := exec.Command(name, args...)
			cmd.Env = append(b.env, "GNUPGHOME="+home)
			cmd.Stdin = bytes.NewReader(stdin)
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("%s %v: %v\n%s", name, args, err, stderr.Bytes())
			}
			return out
		}
		run(nil, "gpg", "--batch", "--passphrase", "", "--quick-generate-key", "<patrice@example.org>", "default", "default", "never")
		var fpr string
		for line := range strings.Lines(string(run(nil, "gpg", "--batch", "--with-colons", "--list-keys", "patrice@example.org"))) {
			if f := strings.Split(line, ":"); f[0] == "fpr" && fpr == "" {
				fpr = f[9]
			}
		}
		request := run(nil, gpgWKSClient, "--create", fpr, "patrice@example.org")
		run(request, "letterlock", "keydir", "receive")
		asked := sink.Await(t, 1)[0]
		if asked.To[0] != "patrice@example.org" || published(t, http.DefaultClient, base, "patrice") != nil {
			t.Fatalf("asked %v; or published unconfirmed", asked.To)
		}
		response := run(asked.Raw, gpgWKSClient, "--receive")
		run(append([]byte("From patrice@example.org Mon Nov 23 02:22:44 2026\n"), response...), "letterlock", "keydir", "receive")
		if got := published(t, http.DefaultClient, base, "patrice"); len(got) != 1 || string(got[0].Fingerprint()) != fpr {
			t.Fatal("not published")
		}
		run(nil, gpgWKSClient, "--check", "patrice@example.org")
		if done := sink.Await(t, 2)[1]; !bytes.Contains(done.Raw, []byte("Wks-Phase: done")) {
			t.Errorf("told %s", done.Raw)
		}
		run(response, "letterlock", "keydir", "receive") // replayed: ignored
		if n := len(sink.Received()); n != 2 {
			t.Errorf("%d mails were sent", n)
		}
		// Without a server to answer by, the MTA keeps the mail.
		dead := p.configure("dead", fmt.Sprintf(strings.ReplaceAll(submissionSettings, "keys@", "key-submission@"), `"127.0.0.1:0"`, "127.0.0.1:1", ""))
		dead.fails(75, "keydir", "receive", p.file("mail", string(request)))
	}, portalAddress+"/32")
}

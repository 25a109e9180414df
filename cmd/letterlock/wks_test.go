package main_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"letterlock.org/letterlock/internal/mailtest/peer"
	"letterlock.org/letterlock/keydir"
)

// directoryManager stands in for GnuPG's dirmngr, which asks only https on port
// 443: it answers WKD_GET from a directory on loopback.
func directoryManager(t testing.TB, home, base string) {
	t.Helper()
	out, err := exec.Command("gpgconf", "--homedir", home, "--list-dirs", "dirmngr-socket").Output()
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", strings.TrimSpace(string(out)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				assuan(c, base)
			}()
		}
	}()
}

// assuan serves one connection of the protocol of libassuan.
func assuan(c net.Conn, base string) {
	fmt.Fprint(c, "OK Pleased to meet you\n")
	data := func(b []byte) {
		s := strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
		for len(b) > 0 {
			n := min(300, len(b))
			fmt.Fprintf(c, "D %s\n", s.Replace(string(b[:n])))
			b = b[n:]
		}
	}
	for in := bufio.NewScanner(c); in.Scan(); {
		command, args, _ := strings.Cut(in.Text(), " ")
		switch {
		case command == "GETINFO":
			data([]byte("2.2.40"))
		case command == "WKD_GET":
			local, domain, _ := strings.Cut(args[strings.LastIndex(args, " ")+1:], "@")
			file := "hu/" + keydir.WKDHash(local) + "?l=" + local
			if strings.Contains(args, "--submission-address") {
				file = "submission-address"
			} else if strings.Contains(args, "--policy-flags") {
				file = "policy"
			}
			r, err := http.Get(base + "/.well-known/openpgpkey/" + domain + "/" + file)
			if err != nil || r.StatusCode != 200 {
				fmt.Fprint(c, "ERR 167772218 No data <Dirmngr>\n")
				continue
			}
			b, _ := io.ReadAll(r.Body)
			r.Body.Close()
			data(b)
		case command == "BYE":
			fmt.Fprint(c, "OK\n")
			return
		}
		fmt.Fprint(c, "OK\n")
	}
}

// GnuPG's client publishes by mail at our service.
func TestGnuPGPublishesByMail(t *testing.T) {
	const client = "/usr/lib/gnupg/gpg-wks-client"
	peer.Require(t, "gpg", client)
	sink := peer.StartSink(t)
	w := newWorldOf(t, world{domain: "example.org"})
	b := w.configure("office", fmt.Sprintf(strings.ReplaceAll(submissionSettings, "keys@", "key-submission@"), `"127.0.0.1:0"`, sink.Addr, ""))
	b.command("keydir", "init")
	b.serve(1)
	base := "http://" + b.ready[0].Listen
	home := filepath.Join(w.dir, "gnupg")
	if err := os.Mkdir(home, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = exec.Command("gpgconf", "--homedir", home, "--kill", "gpg-agent").Run() })
	directoryManager(t, home, base)
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
	request := run(nil, client, "--create", fpr, "patrice@example.org")
	run(request, "letterlock", "keydir", "receive")
	asked := sink.Await(t, 1)[0]
	if asked.To[0] != "patrice@example.org" || published(t, http.DefaultClient, base, "patrice") != nil {
		t.Fatalf("asked %v; or published unconfirmed", asked.To)
	}
	response := run(asked.Raw, client, "--receive")
	run(append([]byte("From patrice@example.org Mon Nov 23 02:22:44 2026\n"), response...), "letterlock", "keydir", "receive")
	if got := published(t, http.DefaultClient, base, "patrice"); len(got) != 1 || string(got[0].Fingerprint()) != fpr {
		t.Fatal("not published")
	}
	if done := sink.Await(t, 2)[1]; !bytes.Contains(done.Raw, []byte("Wks-Phase: done")) {
		t.Errorf("told %s", done.Raw)
	}
	run(response, "letterlock", "keydir", "receive") // replayed: ignored
	if n := len(sink.Received()); n != 2 {
		t.Errorf("%d mails were sent", n)
	}
	// Without a server to answer by, the MTA keeps the mail.
	dead := w.configure("dead", fmt.Sprintf(strings.ReplaceAll(submissionSettings, "keys@", "key-submission@"), `"127.0.0.1:0"`, "127.0.0.1:1", ""))
	dead.fails(75, "keydir", "receive", w.file("mail", string(request)))
}

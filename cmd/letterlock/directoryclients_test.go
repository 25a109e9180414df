package main_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"letterlock.org/letterlock/internal/mailtest/peer"
	"letterlock.org/letterlock/pgp"
)

// portal is a key directory as the world sees it: example.org has it by the
// advanced method, example.net by the direct one, example.com by none, and
// keys.example.org is their key server.
type portal struct {
	*world
	t     *testing.T
	i     *peer.Island
	serve *bridge
	sink  *peer.Sink
	joe   *pgp.Certificate // joe@example.org
	ann   *pgp.Certificate // ann@example.net
}

const portalAddress = "203.0.113.80"

func newPortal(t *testing.T, i *peer.Island) *portal {
	t.Helper()
	names := map[string]string{}
	hosts := []string{"openpgpkey.example.org", "example.net", "keys.example.org"}
	for _, h := range hosts {
		names[h] = portalAddress
	}
	i.Resolve(names)
	cert, key := i.Certificate(hosts...)
	p := &portal{world: newWorldOf(t, world{domain: "example.org"}), t: t, i: i, sink: peer.StartSink(t)}
	p.serve = p.configure("office", fmt.Sprintf(`[keydir]
listen = "https://%s:443"
domains = ["example.org", "example.net", "example.com"]
tls_certificate = %q
tls_key = %q
url = "https://keys.example.org"
from = "key-submission@example.org"
smarthost = "smtp+insecure://%s"
`, portalAddress, cert, key, p.sink.Addr))
	p.serve.serve(1)
	p.joe, p.ann = p.publish("joe@example.org"), p.publish("ann@example.net")
	return p
}

// publish makes a key and has its certificate served.
func (p *portal) publish(address string) *pgp.Certificate {
	p.t.Helper()
	p.serve.command("key", "generate", address)
	armored := p.serve.command("key", "export", address)
	p.serve.command("keydir", "add", address, p.file("cert", armored))
	return p.one(armored)
}

func (p *portal) one(text string) *pgp.Certificate {
	p.t.Helper()
	certs, err := pgp.ParseCertificates([]byte(text))
	if err != nil || len(certs) != 1 {
		p.t.Fatalf("%d certificates, %v in %q", len(certs), err, text)
	}
	return certs[0]
}

// run runs a program, and gives what it says on standard output.
func (p *portal) run(name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir = p.dir
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	err := cmd.Run()
	if err != nil {
		err = fmt.Errorf("%s %v: %w\n%s", name, args, err, &stderr)
	}
	return out.String(), err
}

const gpgWKSClient = "/usr/lib/gnupg/gpg-wks-client"

// GnuPG asks as it does in the world: by its own dirmngr, on port 443.
func TestGnuPGFinds(t *testing.T) {
	peer.Require(t, "unbound", "gpg", "dirmngr", gpgWKSClient)
	peer.OnIsland(t, func(i *peer.Island) {
		p := newPortal(t, i)
		for n, tt := range []struct {
			name string
			args []string
			want *pgp.Certificate // nil: none
		}{
			{"WKD, advanced", []string{"--auto-key-locate", "clear,nodefault,wkd", "--locate-keys", "joe@example.org"}, p.joe},
			{"WKD, the address spelled otherwise", []string{"--auto-key-locate", "clear,nodefault,wkd", "--locate-keys", "Joe@Example.org"}, p.joe},
			{"WKD, direct", []string{"--auto-key-locate", "clear,nodefault,wkd", "--locate-keys", "ann@example.net"}, p.ann},
			{"WKD, nobody", []string{"--auto-key-locate", "clear,nodefault,wkd", "--locate-keys", "nobody@example.org"}, nil},
			{"WKD, nobody, direct", []string{"--auto-key-locate", "clear,nodefault,wkd", "--locate-keys", "nobody@example.net"}, nil},
			{"HKP over TLS, by fingerprint", []string{"--keyserver", "hkps://keys.example.org", "--recv-keys", string(p.joe.Fingerprint())}, p.joe},
			{"HKP over TLS, by address", []string{"--keyserver", "hkps://keys.example.org", "--auto-key-locate", "clear,nodefault,keyserver", "--locate-keys", "ann@example.net"}, p.ann},
			{"HKP over TLS, nobody", []string{"--keyserver", "hkps://keys.example.org", "--recv-keys", strings.Repeat("A", 40)}, nil},
		} {
			home := filepath.Join(p.dir, fmt.Sprintf("gnupg-%d", n))
			if err := os.Mkdir(home, 0o700); err != nil {
				t.Fatal(err)
			}
			gpg := func(args ...string) (string, error) {
				return p.run("gpg", append([]string{"--homedir", home, "--batch", "--no-tty"}, args...)...)
			}
			_, err := gpg(tt.args...)
			if (err == nil) != (tt.want != nil) {
				t.Errorf("%s: %v", tt.name, err)
				continue
			}
			listed, err := gpg("--with-colons", "--list-keys")
			if err != nil {
				t.Fatal(err)
			}
			if tt.want == nil && listed != "" && strings.Contains(listed, "pub:") {
				t.Errorf("%s: %s", tt.name, listed)
			}
			if tt.want != nil && !strings.Contains(listed, "fpr:::::::::"+string(tt.want.Fingerprint())+":") {
				t.Errorf("%s: %s", tt.name, listed)
			}
			p.run("gpgconf", "--homedir", home, "--kill", "all")
		}
		if err := os.Mkdir(filepath.Join(i.Dir, ".gnupg"), 0o700); err != nil {
			t.Fatal(err)
		}
		for _, tt := range []struct {
			name string
			args []string
			ok   bool
		}{
			{"a certificate's own check", []string{"--check", "joe@example.org"}, true},
			{"that of nobody", []string{"--check", "nobody@example.org"}, false},
			{"no submission by mail yet", []string{"--supported", "example.org"}, false},
		} {
			if out, err := p.run(gpgWKSClient, tt.args...); (err == nil) != tt.ok {
				t.Errorf("%s: %s, %v", tt.name, out, err)
			}
		}
		p.serve.command("keydir", "init")
		if out, err := p.run(gpgWKSClient, "--supported", "example.org"); err != nil {
			t.Errorf("submission by mail: %s, %v", out, err)
		}
	}, portalAddress+"/32")
}

func TestSequoiaFinds(t *testing.T) {
	peer.Require(t, "unbound", "sq")
	peer.OnIsland(t, func(i *peer.Island) {
		p := newPortal(t, i)
		for _, tt := range []struct {
			name string
			args []string
			want *pgp.Certificate
		}{
			{"WKD, advanced", []string{"wkd", "get", "joe@example.org"}, p.joe},
			{"WKD, direct", []string{"wkd", "get", "ann@example.net"}, p.ann},
			{"WKD, nobody", []string{"wkd", "get", "nobody@example.org"}, nil},
			{"key server, by fingerprint", []string{"keyserver", "--server", "hkps://keys.example.org", "get", string(p.joe.Fingerprint())}, p.joe},
			{"key server, by key ID", []string{"keyserver", "--server", "hkps://keys.example.org", "get", string(p.joe.Fingerprint())[24:]}, p.joe},
			{"key server, by address", []string{"keyserver", "--server", "hkps://keys.example.org", "get", "joe@example.org"}, p.joe},
			{"key server, nobody", []string{"keyserver", "--server", "hkps://keys.example.org", "get", strings.Repeat("A", 40)}, nil},
		} {
			out, err := p.run("sq", tt.args...)
			switch {
			case (err == nil) != (tt.want != nil):
				t.Errorf("%s: %v", tt.name, err)
			case tt.want != nil && p.one(out).Fingerprint() != tt.want.Fingerprint():
				t.Errorf("%s: %s", tt.name, out)
			}
		}
	}, portalAddress+"/32")
}

// Web apps look up and upload by openpgp.js's own clients, from pages of other
// origins too.
func TestOpenPGPjsFinds(t *testing.T) {
	modules := nodeModules(t, "openpgp", "playwright-core", "@openpgp/hkp-client", "@openpgp/wkd-client")
	peer.Require(t, "unbound", "node", "chromium")
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal(err)
	}
	script, err := filepath.Abs("testdata/directory.js")
	if err != nil {
		t.Fatal(err)
	}
	peer.OnIsland(t, func(i *peer.Island) {
		p := newPortal(t, i)
		for where, browser := range map[string]string{"Node": "", "Chromium": chromium} {
			unknown := strings.ToLower(where) + "@example.org"
			p.serve.command("key", "generate", unknown)
			job, err := json.Marshal(map[string]string{"server": "https://keys.example.org", "joe": "joe@example.org", "ann": "ann@example.net", "nobody": "nobody@example.org",
				"fingerprint": string(p.joe.Fingerprint()), "certificate": p.serve.command("key", "export", unknown), "new": unknown})
			if err != nil {
				t.Fatal(err)
			}
			out, err := p.run("node", script, modules, browser, string(job))
			if err != nil {
				t.Fatal(err)
			}
			var told map[string]any
			if err := json.Unmarshal([]byte(out), &told); err != nil {
				t.Fatalf("%v in %s", err, out)
			}
			joe, ann := string(p.joe.Fingerprint()), string(p.ann.Fingerprint())
			for what, want := range map[string]string{
				"hkp by address": joe, "hkp by key ID": joe, "hkp by fingerprint": joe, "hkp nobody": "none",
				"wkd advanced": joe, "wkd direct": ann,
				"hkp upload": "200", "vks upload": "200 unpublished, 200 pending", "vks token": "string", "vks wrong": "400", "vks nobody": "404",
			} {
				if got := fmt.Sprint(told[what]); got != want {
					t.Errorf("%s, %s: %s, want %s", where, what, got, want)
				}
			}
			if got := fmt.Sprint(told["wkd nobody"]); !strings.HasPrefix(got, "error: ") {
				t.Errorf("%s: a certificate for nobody: %s", where, got)
			}
		}
	}, portalAddress+"/32")
}

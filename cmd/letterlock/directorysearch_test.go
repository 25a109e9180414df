package main_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"letterlock.org/letterlock/internal/mailtest/peer"
	"letterlock.org/letterlock/pgp"
)

// searcher looks for certificates as it does in the world: by DNS, on port 443,
// with the system's authorities.
type searcher struct {
	*world
	t  *testing.T
	by *bridge
	in []string // what its commands are run by, for another environment
}

func newSearcher(t *testing.T, w *world, name, discovery string) *searcher {
	t.Helper()
	s := &searcher{world: w, t: t, by: w.configure(name, fmt.Sprintf("[[bridge]]\naddress = %q\nimap = { listen = \"127.0.0.1:0\", upstream = \"imap+insecure://127.0.0.1:1\" }\n[discovery]\n%s\n", alice, discovery))}
	s.by.command("key", "generate", alice)
	return s
}

type finding struct {
	Outcome, Action string
	Certificates    []string
	Attempts        []struct{ Source, Outcome, Detail string }
}

func (s *searcher) explain(address string) finding {
	s.t.Helper()
	var f []finding
	args := append(slices.Clone(s.in), "letterlock", "explain", "--to", address, "--json")
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = s.by.env
	if out, err := cmd.Output(); err != nil || json.Unmarshal(out, &f) != nil || len(f) != 1 {
		s.t.Fatalf("explain: %v, %s", err, out)
	}
	return f[0]
}

// finds demands an outcome, who was asked last, and the certificate.
func (s *searcher) finds(address, outcome, source, says string, c *pgp.Certificate) {
	s.t.Helper()
	f := s.explain(address)
	if len(f.Attempts) == 0 {
		s.t.Errorf("%s: nobody was asked: %+v", address, f)
		return
	}
	last := f.Attempts[len(f.Attempts)-1]
	if f.Outcome != outcome || last.Source != source || !strings.Contains(last.Detail, says) {
		s.t.Errorf("%s: %s, last %+v; want %s, %s (%s)", address, f.Outcome, last, outcome, source, says)
	}
	if c != nil && (len(f.Certificates) != 1 || f.Certificates[0] != string(c.Fingerprint()) || f.Action != "encrypt") {
		s.t.Errorf("%s: %+v; want %s", address, f, c.Fingerprint())
	}
	if outcome == "unavailable" && f.Action != "defer" {
		s.t.Errorf("%s: unavailable leads to %s", address, f.Action)
	}
}

// gnupgTree makes a Web Key Directory by GnuPG's own tools.
func gnupgTree(t *testing.T, dir string, addresses ...string) (tree string, certs []*pgp.Certificate) {
	t.Helper()
	home := filepath.Join(dir, "gnupg")
	if err := os.Mkdir(home, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run() })
	run := func(name string, args ...string) []byte {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Env = append(os.Environ(), "GNUPGHOME="+home)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s %v: %v", name, args, err)
		}
		return out
	}
	tree = filepath.Join(dir, "gnupg-tree")
	for _, a := range addresses {
		_, domain, _ := strings.Cut(a, "@")
		if err := os.MkdirAll(filepath.Join(tree, domain), 0o711); err != nil { // it wants them so
			t.Fatal(err)
		}
		run("gpg", "--batch", "--passphrase", "", "--quick-generate-key", "Somebody <"+a+">", "default", "default", "never")
		exported := run("gpg", "--batch", "--export", a)
		file := filepath.Join(dir, "exported")
		if err := os.WriteFile(file, exported, 0o600); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(domain, "net") { // their server installs, or their client
			run(gpgWKSClient, "-C", tree, "--install-key", file, a)
		} else {
			run("gpg-wks-server", "-C", tree, "--install-key", file, a)
		}
		all, err := pgp.ParseCertificates(exported)
		if err != nil || len(all) != 1 {
			t.Fatal(all, err)
		}
		certs = append(certs, all[0])
	}
	return tree, certs
}

// nginxSites are what web servers say who have no idea of key directories, or a
// wrong one. %[1]s is the folder of their files.
const nginxSites = `
server { listen 203.0.113.81:443 ssl; server_name openpgpkey.closed.example; return 403; }
server { listen 203.0.113.81:443 ssl; server_name openpgpkey.gone.example; return 410; }
server { listen 203.0.113.81:443 ssl; server_name openpgpkey.broken.example; return 503; }
server { listen 203.0.113.81:443 ssl; server_name openpgpkey.page.example; location / { default_type text/html; return 200 "<!doctype html><p>Welcome"; } }
server { listen 203.0.113.81:443 ssl; server_name openpgpkey.empty.example; location / { return 200 ""; } }
server { listen 203.0.113.81:443 ssl; server_name openpgpkey.words.example; location / { default_type text/plain; return 200 "no such user here"; } }
server { listen 203.0.113.81:443 ssl; server_name openpgpkey.away.example; return 301 https://openpgpkey.example.org$request_uri; }
server { listen 203.0.113.81:443 ssl; server_name openpgpkey.down.example; return 301 http://openpgpkey.down.example$request_uri; }
server { listen 203.0.113.81:443 ssl; server_name openpgpkey.round.example; return 302 https://openpgpkey.round.example$request_uri; }
server { listen 203.0.113.81:443 ssl; server_name openpgpkey.moved.example; location /elsewhere/ { alias %[1]s/moved/; } location / { return 301 /elsewhere/key; } }
server { listen 203.0.113.81:443 ssl; server_name openpgpkey.armor.example; location / { default_type text/html; root %[1]s/armor; try_files /key =500; } }
server { listen 203.0.113.81:443 ssl; server_name openpgpkey.typed.example; location / { default_type text/html; root %[1]s/typed; try_files /key =500; } }
server { listen 203.0.113.81:443 ssl; server_name openpgpkey.zipped.example; gzip on; gzip_types *; gzip_min_length 1; gzip_proxied any; location / { root %[1]s/zipped; try_files /key =500; } }
server { listen 203.0.113.81:443 ssl; server_name openpgpkey.huge.example; location / { root %[1]s/huge; try_files /key =500; } }
server { listen 203.0.113.81:443 ssl; server_name openpgpkey.other.example; location / { root %[1]s/other; try_files /key =500; } }
`

// Our resolver finds what nginx serves: trees that we exported, trees that GnuPG
// made, and what web servers say that are no directory.
func TestFindsAtNginx(t *testing.T) {
	peer.Require(t, "unbound", "nginx", "gpg", "gpg-wks-server", "openssl", gpgWKSClient)
	peer.OnIsland(t, func(i *peer.Island) {
		w := newWorldOf(t, world{domain: "unused.example"})
		names := map[string]string{}
		for _, d := range []string{"openpgpkey.example.org", "example.net", "openpgpkey.gnupg.org.example", "gnupg.example.net", "openpgpkey.strange.example", "openpgpkey.selfmade.example", "openpgpkey.wrongname.example"} {
			names[d] = "203.0.113.81"
		}
		for site := range strings.Lines(nginxSites) {
			if _, after, ok := strings.Cut(site, "server_name "); ok {
				host, _, _ := strings.Cut(after, ";")
				names[host] = "203.0.113.81"
			}
		}
		names["openpgpkey.refused.example"], names["openpgpkey.private.example"] = "203.0.113.82", "127.0.0.1"
		names["openpgpkey.plain.example"] = "203.0.113.83"
		i.Resolve(names)

		// Our trees: one of several domains, one of one domain for the direct method.
		maker := w.configure("maker", "[keydir]\nlisten = \"127.0.0.1:0\"\ndomains = [\"example.org\", \"example.net\"]\n")
		made := func(address string) *pgp.Certificate {
			t.Helper()
			maker.command("key", "generate", address)
			certs, err := pgp.ParseCertificates([]byte(maker.command("key", "export", address)))
			if err != nil || len(certs) != 1 {
				t.Fatal(certs, err)
			}
			return certs[0]
		}
		add := func(address string) *pgp.Certificate {
			t.Helper()
			c := made(address)
			maker.command("keydir", "add", address, w.file("cert", c.Armored()))
			return c
		}
		joe, amy, ann := add("joe.doe@example.org"), add("amy@example.org"), add("ann@example.net")
		ours, direct := filepath.Join(i.Dir, "ours"), filepath.Join(i.Dir, "direct")
		maker.command("keydir", "export", ours)
		one := w.configure("one", "[keydir]\nlisten = \"127.0.0.1:0\"\ndomains = [\"example.net\"]\n")
		one.command("keydir", "add", "ann@example.net", w.file("cert", ann.Armored()))
		one.command("keydir", "export", direct)
		theirs, certs := gnupgTree(t, i.Dir, "ada@gnupg.org.example", "ben@gnupg.example.net")

		site := map[string]*pgp.Certificate{}
		for _, s := range []string{"moved", "armor", "typed", "zipped", "huge", "other"} {
			c := made("joe@" + s + ".example")
			site[s] = c
			body := c.Bytes()
			switch s {
			case "armor":
				body = []byte(c.Armored())
			case "huge":
				body = append(body, make([]byte, 80<<10)...)
			case "other":
				body = joe.Bytes()
			}
			if err := os.MkdirAll(filepath.Join(i.Dir, s), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(i.Dir, s, "key"), body, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		var hosts []string
		for n := range names {
			if n != "openpgpkey.wrongname.example" {
				hosts = append(hosts, n)
			}
		}
		cert, key := i.Certificate(hosts...)
		selfmade := filepath.Join(i.Dir, "selfmade")
		if out, err := exec.Command("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=openpgpkey.selfmade.example",
			"-addext", "subjectAltName=DNS:openpgpkey.selfmade.example", "-keyout", selfmade+".key", "-out", selfmade+".pem").CombinedOutput(); err != nil {
			t.Fatalf("openssl: %v\n%s", err, out)
		}
		stranger, strangerKey, _ := peer.Certificate(t, filepath.Join(i.Dir, "stranger"))
		i.Nginx("203.0.113.81:443", fmt.Sprintf(`
ssl_certificate %[2]s; ssl_certificate_key %[3]s;
server { listen 203.0.113.81:443 ssl default_server; server_name openpgpkey.example.org; root %[1]s/ours; }
server { listen 203.0.113.81:443 ssl; server_name openpgpkey.gnupg.org.example; location /.well-known/openpgpkey/ { alias %[4]s/; } }
server { listen 203.0.113.81:443 ssl; server_name example.net; root %[1]s/direct; }
server { listen 203.0.113.81:443 ssl; server_name gnupg.example.net; location /.well-known/openpgpkey/ { alias %[4]s/gnupg.example.net/; } }
server { listen 203.0.113.81:443 ssl; server_name openpgpkey.strange.example; ssl_certificate %[5]s; ssl_certificate_key %[6]s; root %[1]s/ours; }
server { listen 203.0.113.81:443 ssl; server_name openpgpkey.selfmade.example; ssl_certificate %[1]s/selfmade.pem; ssl_certificate_key %[1]s/selfmade.key; root %[1]s/ours; }
server { listen 203.0.113.83:443; server_name openpgpkey.plain.example; root %[1]s/ours; }
`+nginxSites, i.Dir, cert, key, theirs, stranger, strangerKey))

		s := newSearcher(t, w, "searcher", `sources = ["wkd"]`)
		const advanced, unresolved = "wkd-advanced", "wkd-direct"
		s.finds("joe.doe@example.org", "found", advanced, "", joe)
		s.finds("AMY@Example.ORG", "found", advanced, "", amy)
		s.finds("nobody@example.org", "absent", advanced, "answered 404", nil)
		s.finds("ann@example.net", "found", unresolved, "", ann)
		s.finds("nobody@example.net", "absent", unresolved, "answered 404", nil)
		s.finds("ada@gnupg.org.example", "found", advanced, "", certs[0])
		s.finds("nobody@gnupg.org.example", "absent", advanced, "answered 404", nil)
		s.finds("ben@gnupg.example.net", "found", unresolved, "", certs[1])
		s.finds("joe@nowhere.example", "absent", unresolved, "DNS has no address", nil)

		s.finds("joe@moved.example", "found", advanced, "", site["moved"])
		s.finds("joe@armor.example", "found", advanced, "", site["armor"])
		s.finds("joe@typed.example", "found", advanced, "", site["typed"])
		s.finds("joe@zipped.example", "found", advanced, "", site["zipped"])
		s.finds("joe@gone.example", "absent", advanced, "answered 410", nil)
		s.finds("joe@closed.example", "no-directory", advanced, "answered 403", nil)
		s.finds("joe@page.example", "no-directory", advanced, "web page", nil)
		s.finds("joe@away.example", "no-directory", advanced, "another host", nil)
		s.finds("joe@down.example", "no-directory", advanced, "another host", nil)
		s.finds("joe@refused.example", "no-directory", advanced, "refuses the connection", nil)
		s.finds("joe@wrongname.example", "no-directory", advanced, "another name", nil)
		s.finds("joe@strange.example", "no-directory", advanced, "another name", nil)
		s.finds("joe@selfmade.example", "unavailable", advanced, "can't be verified", nil)
		s.finds("joe@broken.example", "unavailable", advanced, "answered 503", nil)
		s.finds("joe@empty.example", "unavailable", advanced, "is empty", nil)
		s.finds("joe@words.example", "unavailable", advanced, "no OpenPGP certificate", nil)
		s.finds("joe@round.example", "unavailable", advanced, "in circles", nil)
		s.finds("joe@huge.example", "unavailable", advanced, "longer than", nil)
		s.finds("joe@other.example", "unavailable", advanced, "other addresses only", nil)
		s.finds("joe@plain.example", "unavailable", advanced, "", nil)
		s.finds("joe@private.example", "unavailable", advanced, "not public", nil)
	}, "203.0.113.81/32", "203.0.113.82/32", "203.0.113.83/32")
}

package server_test

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
	"letterlock.org/letterlock/internal/mailtest/peer"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/keydir/server"
	"letterlock.org/letterlock/pgp"
)

// several makes a key with these user IDs.
func several(t testing.TB, ids ...string) *pgp.Key {
	t.Helper()
	k, err := pgp.GenerateKey(addr(t, ids[0]), pgp.DefaultProfile, today)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestKeyserverLookups(t *testing.T) {
	d, _ := directory(t)
	h := handler(d)
	joe := add(t, d, "joe.doe@example.org")
	add(t, d, "amy@example.org")
	other := add(t, d, "joe@other.example")
	sub := joe.Fingerprints()[1]
	id := func(f pgp.Fingerprint) string { return string(f)[24:] }
	for _, tt := range []struct {
		name, target string
		status       int
	}{
		{"HKP by address", "/pks/lookup?op=get&options=mr&search=joe.doe@example.org", 200},
		{"HKP by address, encoded", "/pks/lookup?op=get&search=Joe.Doe%40Example.org", 200},
		{"HKP by user ID", "/pks/lookup?op=get&search=%3Cjoe.doe%40example.org%3E", 200},
		{"HKP by fingerprint", "/pks/lookup?op=get&search=0x" + string(joe.Fingerprint()), 200},
		{"HKP by fingerprint in lower case", "/pks/lookup?op=get&search=0x" + strings.ToLower(string(joe.Fingerprint())), 200},
		{"HKP by a subkey's fingerprint", "/pks/lookup?op=get&search=0x" + string(sub), 200},
		{"HKP by key ID", "/pks/lookup?op=get&search=0x" + id(joe.Fingerprint()), 200},
		{"HKP by a subkey's ID", "/pks/lookup?op=get&search=0x" + id(sub), 200},
		{"HKP by a short key ID, which anybody can forge", "/pks/lookup?op=get&search=0x" + string(joe.Fingerprint())[32:], 404},
		{"HKP by a part of the address", "/pks/lookup?op=get&search=joe", 404},
		{"HKP by domain", "/pks/lookup?op=index&search=example.org", 404},
		{"HKP by another domain's address that is in the store", "/pks/lookup?op=get&search=joe@other.example", 404},
		{"HKP by the fingerprint of another domain's", "/pks/lookup?op=get&search=0x" + string(other.Fingerprint()), 404},
		{"HKP by the key ID of another domain's", "/pks/lookup?op=get&search=0x" + id(other.Fingerprint()), 404},
		{"VKS by the fingerprint of another domain's", "/vks/v1/by-fingerprint/" + string(other.Fingerprint()), 404},
		{"HKP by an absent fingerprint", "/pks/lookup?op=get&search=0x" + strings.Repeat("0", 40), 404},
		{"HKP by no hex", "/pks/lookup?op=get&search=0x" + strings.Repeat("x", 40), 404},
		{"HKP without search", "/pks/lookup?op=get", 400},
		{"HKP of another kind", "/pks/lookup?op=stats&search=x", 501},
		{"VKS by address", "/vks/v1/by-email/joe.doe%40example.org", 200},
		{"VKS by address, bare", "/vks/v1/by-email/joe.doe@example.org", 200},
		{"VKS by fingerprint", "/vks/v1/by-fingerprint/" + string(joe.Fingerprint()), 200},
		{"VKS by key ID", "/vks/v1/by-keyid/" + id(joe.Fingerprint()), 200},
		{"VKS by an absent address", "/vks/v1/by-email/nobody@example.org", 404},
		{"VKS by nothing", "/vks/v1/by-email/", 400},
		{"VKS by a part of a fingerprint", "/vks/v1/by-fingerprint/" + string(joe.Fingerprint())[1:], 400},
		{"VKS of another kind", "/vks/v1/by-name/joe", 400},
	} {
		r := get(h, "GET", "http://keys.example.org"+tt.target)
		b := body(t, r)
		if r.StatusCode != tt.status {
			t.Errorf("%s: status %d, want %d", tt.name, r.StatusCode, tt.status)
		}
		if tt.status != 200 {
			continue
		}
		certs, err := pgp.ParseCertificates(b)
		if err != nil || len(certs) != 1 || certs[0].Fingerprint() != joe.Fingerprint() || r.Header.Get("Content-Type") != "application/pgp-keys" {
			t.Errorf("%s: %d certificates, %v, %v", tt.name, len(certs), err, r.Header)
		}
	}
	index := string(body(t, get(h, "GET", "http://h/pks/lookup?op=index&options=mr&search=joe.doe@example.org")))
	want := fmt.Sprintf(`^info:1:1\r\npub:%s:22:263:%d:%d:\r\nuid:joe.doe%%40example.org:%d::\r\n$`,
		joe.Fingerprint(), joe.Created().Unix(), joe.Expires().Unix(), joe.Created().Unix())
	if !regexp.MustCompile(want).MatchString(index) {
		t.Errorf("index %q, want %s", index, want)
	}
}

// changed is a key's certificate after a change to it by the library.
func changed(t testing.TB, k *pgp.Key, change func(e *openpgp.Entity, at *packet.Config) error) *pgp.Certificate {
	t.Helper()
	list, err := openpgp.ReadKeyRing(bytes.NewReader(k.Marshal()))
	if err != nil {
		t.Fatal(err)
	}
	if err := change(list[0], &packet.Config{Time: func() time.Time { return today }}); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := list[0].Serialize(&out); err != nil {
		t.Fatal(err)
	}
	certs, err := pgp.ParseCertificates(out.Bytes())
	if err != nil || len(certs) != 1 {
		t.Fatal(len(certs), err)
	}
	return certs[0]
}

func revoke(t testing.TB, k *pgp.Key) *pgp.Certificate {
	return changed(t, k, func(e *openpgp.Entity, at *packet.Config) error { return e.Revoke(packet.KeyCompromised, "", at) })
}

func TestOneCertificateOfTwoAddresses(t *testing.T) {
	d, _ := directory(t)
	k := several(t, "joe.doe@example.org")
	c := changed(t, k, func(e *openpgp.Entity, at *packet.Config) error { return e.AddUserId("Joe", "", "joe@example.net", at) })
	for _, a := range []string{"joe.doe@example.org", "joe@example.net"} {
		if err := d.Add(ctx, addr(t, a), c); err != nil {
			t.Fatal(err)
		}
	}
	ids := func() []string {
		certs, err := d.ByFingerprint(ctx, k.Fingerprint())
		if err != nil || len(certs) != 1 {
			t.Fatalf("%d certificates, %v", len(certs), err)
		}
		l := certs[0].UserIDs()
		slices.Sort(l)
		return l
	}
	if got := ids(); !slices.Equal(got, []string{"Joe <joe@example.net>", "joe.doe@example.org"}) {
		t.Errorf("by fingerprint: %v", got)
	}
	if err := d.Remove(ctx, addr(t, "joe@example.net")); err != nil {
		t.Fatal(err)
	}
	if got := ids(); !slices.Equal(got, []string{"joe.doe@example.org"}) {
		t.Errorf("after one was withdrawn: %v", got)
	}
}

func TestRevocationsAreToldForEver(t *testing.T) {
	d, st := directory(t)
	k := several(t, "joe.doe@example.org")
	a := addr(t, "joe.doe@example.org")
	if err := d.Add(ctx, a, k.Certificate()); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Revoke(ctx, k.Certificate()); err == nil {
		t.Error("a certificate without revocation revoked something")
	}
	revoked := revoke(t, k)
	if known, err := d.Revoke(ctx, revoked); err != nil || !known {
		t.Fatalf("known %v, %v", known, err)
	}
	later := today.Add(time.Hour)
	isRevoked := func(certs []*pgp.Certificate, err error) bool {
		return err == nil && len(certs) == 1 && certs[0].Revoked(later)
	}
	served, err := pgp.ParseCertificates(body(t, get(handler(d), "GET", advanced+"hu/"+joe)))
	if !isRevoked(served, err) {
		t.Error("by address it isn't revoked")
	}
	if err := d.Remove(ctx, a); err != nil {
		t.Fatal(err)
	}
	for _, d := range []*server.Directory{d, reopened(st)} {
		certs, err := d.ByFingerprint(ctx, k.Fingerprint())
		if !isRevoked(certs, err) || len(certs[0].UserIDs()) != 0 {
			t.Errorf("after it was withdrawn: %d certificates, %v", len(certs), err)
		}
	}
	stranger := revoke(t, several(t, "eve@example.org"))
	if known, err := d.Revoke(ctx, stranger); err != nil || known {
		t.Errorf("a stranger's revocation: known %v, %v", known, err)
	}
	if certs, err := d.ByFingerprint(ctx, stranger.Fingerprint()); err != nil || len(certs) > 0 {
		t.Errorf("a stranger's revocation is kept: %v, %v", certs, err)
	}
}

func TestRowsOfOlderVersionsAreEntered(t *testing.T) {
	d, st := directory(t)
	c := add(t, d, "joe.doe@example.org")
	err := st.Update(ctx, func(tx store.Tx) error {
		if _, err := tx.Exec("DELETE FROM keydirserver_key"); err != nil {
			return err
		}
		_, err := tx.Exec("UPDATE keydirserver_cert SET fingerprint = ''")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	d = reopened(st)
	if err := d.Refresh(ctx); err != nil {
		t.Fatal(err)
	}
	if certs, err := d.ByFingerprint(ctx, c.Fingerprint()); err != nil || len(certs) != 1 {
		t.Errorf("%d certificates, %v", len(certs), err)
	}
}

// GnuPG and Sequoia find certificates here as at any key server.
func TestPeersFind(t *testing.T) {
	d, _ := directory(t)
	c := add(t, d, "joe.doe@example.org")
	at := serving(t, handler(d), http.NotFoundHandler())
	t.Run("gpg", func(t *testing.T) {
		peer.Require(t, "gpg")
		home, err := os.MkdirTemp("/tmp", "llgpg") // its sockets need a short path
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run()
			os.RemoveAll(home)
		})
		os.WriteFile(filepath.Join(home, "dirmngr.conf"), []byte("disable-ldap\n"), 0o600)
		run := func(args ...string) string {
			var out bytes.Buffer
			cmd := exec.Command("gpg", append([]string{"--homedir", home, "--batch", "--keyserver", "hkp://" + at}, args...)...)
			cmd.Stdout, cmd.Stderr = &out, &out
			if err := cmd.Run(); err != nil {
				t.Errorf("gpg %v: %v\n%s", args, err, &out)
			}
			return out.String()
		}
		if out := run("--with-colons", "--search-keys", "joe.doe@example.org"); !strings.Contains(out, string(c.Fingerprint())) {
			t.Errorf("search: %s", out)
		}
		run("--recv-keys", string(c.Fingerprint()))
		if out := run("--with-colons", "--list-keys"); !strings.Contains(out, string(c.Fingerprint())) || !strings.Contains(out, "joe.doe@example.org") {
			t.Errorf("list: %s", out)
		}
	})
}

package keydir_test

import (
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/mailtest/peer"
	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/pgp"
)

// slapdConf has the attributes of GnuPG's schema for OpenPGP keys that we ask for,
// but gpgMailbox and mail, which a server may not know.
const slapdConf = `modulepath %[1]s
moduleload back_mdb
pidfile %[2]s/pid
TLSCertificateFile %[3]s
TLSCertificateKeyFile %[4]s
attributetype ( 1.3.6.1.4.1.3401.8.2.8 NAME 'pgpCertID' EQUALITY caseIgnoreMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 SINGLE-VALUE )
attributetype ( 1.3.6.1.4.1.3401.8.2.11 NAME 'pgpKey' EQUALITY octetStringMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.40 )
attributetype ( 1.3.6.1.4.1.3401.8.2.22 NAME 'pgpUserID' EQUALITY caseIgnoreMatch SUBSTR caseIgnoreSubstringsMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 )
objectclass ( 1.3.6.1.4.1.3401.8.2.24 NAME 'pgpKeyInfo' SUP top STRUCTURAL MUST ( pgpCertID $ pgpKey ) MAY pgpUserID )
objectclass ( 1.3.6.1.4.1.3401.8.2.23 NAME 'pgpServerInfo' SUP top STRUCTURAL MUST cn )
database mdb
suffix "cn=keys"
rootdn "cn=reader,cn=keys"
rootpw hunter2
directory %[2]s/data
access to * by %[5]s read by * none
`

// slapd starts OpenLDAP with certificates by user ID, and gives its ports without
// and with TLS, and the certificate of its authority.
func slapd(t *testing.T, readers string, keys map[string]*pgp.Key) (plain, over string, ca []byte) {
	t.Helper()
	peer.Require(t, "slapd")
	program, err := exec.LookPath("slapd")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile, _ := peer.Certificate(t, dir)
	if ca, err = os.ReadFile(filepath.Join(filepath.Dir(certFile), "ca.pem")); err != nil {
		t.Fatal(err)
	}
	conf := fmt.Sprintf(slapdConf, filepath.Join(filepath.Dir(program), "../lib/ldap"), dir, certFile, keyFile, readers)
	entries := "dn: cn=keys\nobjectClass: pgpServerInfo\ncn: keys\n"
	for userID, k := range keys {
		entries += fmt.Sprintf("\ndn: pgpCertID=%[1]s,cn=keys\nobjectClass: pgpKeyInfo\npgpCertID: %[1]s\npgpUserID: %[2]s\npgpKey:: %[3]s\n",
			k.Fingerprint(), userID, base64.StdEncoding.EncodeToString([]byte(k.Certificate().Armored())))
	}
	for name, text := range map[string]string{"conf": conf, "ldif": entries} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(program, "-T", "add", "-f", filepath.Join(dir, "conf"), "-l", filepath.Join(dir, "ldif")).CombinedOutput(); err != nil {
		t.Fatalf("slapadd: %v\n%s", err, out)
	}
	plain, over = freeAddress(t), freeAddress(t)
	cmd := exec.Command(program, "-d", "0", "-f", filepath.Join(dir, "conf"), "-h", "ldap://"+plain+"/ ldaps://"+over+"/")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	for range 1200 {
		if c, err := net.Dial("tcp", over); err == nil {
			c.Close()
			return plain, over, ca
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatal("slapd does not listen")
	return "", "", nil
}

func freeAddress(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// OpenLDAP finds what our filter asks for, with and without TLS and a login.
func TestAgainstOpenLDAP(t *testing.T) {
	k, odd := key(t, bob), address.Address{Local: "o*d", Domain: "example.org"}
	o := key(t, odd)
	keys := map[string]*pgp.Key{"Bob <bob@example.org>": k, odd.String(): o, "bob@example.org.example": key(t, carol)}
	plain, _, _ := slapd(t, "*", keys)
	ask := func(l keydir.LDAP) *world {
		t.Helper()
		w := newWorld(t, func(c *keydir.Config) { c.Network.Roots = nil })
		l.Base, l.Domains, l.Only = "cn=keys", []string{"example.org"}, true
		w.must(w.Replace(keydir.Discovery{Sources: []string{"ldap"}, LDAP: []keydir.LDAP{l}}))
		return w
	}
	w := ask(keydir.LDAP{URL: "ldap://" + plain})
	w.finds("by user ID", bob, keydir.Found, "", pgp.Organisation, k)
	w.finds("by an address that filters must escape", odd, keydir.Found, "", pgp.Organisation, o)
	w.finds("nobody", address.Address{Local: "*", Domain: "example.org"}, keydir.Absent, "", pgp.Unknown)

	plain, over, ca := slapd(t, "users", keys)
	_, startTLS, _ := strings.Cut(plain, ":")
	login := keydir.LDAP{BindDN: "cn=reader,cn=keys", Password: "hunter2", CA: ca}
	login.URL = "ldaps://" + over
	ask(login).finds("over TLS", bob, keydir.Found, "", pgp.Organisation, k)
	login.URL = "ldap://localhost:" + startTLS
	ask(login).finds("by StartTLS", bob, keydir.Found, "", pgp.Organisation, k)
	login.CA = nil
	ask(login).finds("an authority that nobody knows", bob, keydir.Unavailable, "", pgp.Unknown)
	ask(keydir.LDAP{URL: "ldap://" + plain}).finds("without the login that it wants", bob, keydir.Unavailable, "", pgp.Unknown)
	login.CA, login.Password = ca, "guess"
	ask(login).finds("with a wrong password", bob, keydir.Unavailable, "", pgp.Unknown)
}

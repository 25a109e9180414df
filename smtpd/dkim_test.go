package smtpd_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"strings"
	"testing"

	"github.com/emersion/go-msgauth/dkim"
	"letterlock.org/letterlock/policy"
	"letterlock.org/letterlock/smtpd"
)

func dkimKey(t testing.TB, private any) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// TestDKIMSignsWhatWasChanged: after encryption, for the domain's own authors
// only; what passes unchanged keeps the signatures that it has.
func TestDKIMSignsWhatWasChanged(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	rsaPublic, err := x509.MarshalPKIXPublicKey(rsaKey.Public())
	if err != nil {
		t.Fatal(err)
	}
	edPublic, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, record string
		key          any
	}{
		{"RSA", "v=DKIM1; k=rsa; p=" + base64.StdEncoding.EncodeToString(rsaPublic), rsaKey},
		{"Ed25519", "v=DKIM1; k=ed25519; p=" + base64.StdEncoding.EncodeToString(edPublic), edKey},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d, err := smtpd.NewDKIM("example.org", "sel", dkimKey(t, tt.key))
			if err != nil {
				t.Fatal(err)
			}
			u := newUpstream(t)
			b := newBridge(t, u, asRelay(func(r *smtpd.Relay) { r.DKIM = d }), withRules(policy.Config{Settings: policy.Settings{Mixed: policy.MixedSplit}}))
			from := "a@example.org"
			send := func(mail, to string) string {
				t.Helper()
				if got := b.mta().hand(mail, from, to); !strings.HasPrefix(got, "250") {
					t.Fatalf("reply %q", got)
				}
				sent := u.received()
				return sent[len(sent)-1].data
			}
			verify := func(data string) []*dkim.Verification {
				t.Helper()
				vs, err := dkim.VerifyWithOptions(strings.NewReader(data), &dkim.VerifyOptions{LookupTXT: func(name string) ([]string, error) {
					if name != "sel._domainkey.example.org" {
						t.Errorf("asked for %s", name)
					}
					return []string{tt.record}, nil
				}})
				if err != nil {
					t.Fatal(err)
				}
				return vs
			}
			data := send(letter("1", "bob@example.net"), "bob@example.net")
			vs := verify(data)
			if len(vs) != 1 || vs[0].Err != nil || vs[0].Domain != "example.org" {
				t.Fatalf("verified as %+v:\n%s", vs, data)
			}
			for name, forged := range map[string]string{
				"another From": "From: ceo@example.org\r\n" + data, "a body beside": data + "more\r\n",
			} {
				if vs := verify(forged); len(vs) != 1 || vs[0].Err == nil {
					t.Errorf("%s still verifies", name)
				}
			}
			if data := send(letter("2", "zoe@example.com"), "zoe@example.com"); strings.Contains(data, "DKIM-Signature") {
				t.Errorf("unchanged mail was signed:\n%s", data)
			}
			foreign := strings.Replace(letter("3", "bob@example.net"), "alice@example.org", "friend@example.com", 1)
			if data := send(foreign, "bob@example.net"); strings.Contains(data, "DKIM-Signature") {
				t.Errorf("signed for another domain's author:\n%s", data)
			}
			from = "mallory@example.com" // whose letter somebody here has forwarded
			if data := send(letter("4", "bob@example.net"), "bob@example.net"); strings.Contains(data, "DKIM-Signature") {
				t.Errorf("signed what a stranger says is of the domain:\n%s", data)
			}
			for _, from = range []string{"SRS0=hash=tt=example.com=mallory@example.org", "srs1+hash=other.example==tt=x=y@example.org"} {
				if data := send(letter("4"+from[:4], "bob@example.net"), "bob@example.net"); strings.Contains(data, "DKIM-Signature") {
					t.Errorf("signed what was rewritten into the domain as %s:\n%s", from, data)
				}
			}
			from = "srs.smith@example.org" // is somebody's name
			if data := send(letter("5a", "bob@example.net"), "bob@example.net"); !strings.Contains(data, "DKIM-Signature") {
				t.Error("somebody's mail was not signed for his name")
			}
			from = ""
			if data := send("Received: by mta.example.org (Postfix)\r\n\tid 123; Mon, 23 Nov 2026 12:00:00 +0000\r\n"+letter("5", "bob@example.net"), "bob@example.net"); !strings.Contains(data, "DKIM-Signature") {
				t.Error("a report of our own was not signed")
			}
			if data := send("Received: from evil.example (evil.example [203.0.113.9])\r\n\tby mta.example.org; Mon, 23 Nov 2026 12:00:00 +0000\r\n"+letter("6", "bob@example.net"), "bob@example.net"); strings.Contains(data, "DKIM-Signature") {
				t.Error("signed what a stranger had forwarded without a sender")
			}
			// What came signed and passes unchanged still verifies behind us.
			if vs := verify(send(data, "zoe@example.com")); len(vs) != 1 || vs[0].Err != nil {
				t.Errorf("a signature was broken on the way: %+v", vs)
			}
		})
	}
}

func TestDKIMKeysThatAreNone(t *testing.T) {
	elliptic, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string][]byte{
		"not PEM":  []byte("secret-canary"),
		"no key":   pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("secret-canary")}),
		"an empty": nil,
		"elliptic": dkimKey(t, elliptic),
	} {
		if _, err := smtpd.NewDKIM("example.org", "sel", key); err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// TestDKIMSignsFooters: a clear copy with a footer is not what came.
func TestDKIMSignsFooters(t *testing.T) {
	_, k, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	d, err := smtpd.NewDKIM("example.org", "sel", dkimKey(t, k))
	if err != nil {
		t.Fatal(err)
	}
	u := newUpstream(t)
	b := newBridge(t, u, asRelay(func(r *smtpd.Relay) { r.DKIM = d }), withRules(policy.Config{Settings: policy.Settings{Footer: "Write to us encrypted."}}))
	if got := b.mta().hand(letter("1", "zoe@example.com"), "a@example.org", "zoe@example.com"); !strings.HasPrefix(got, "250") {
		t.Fatalf("reply %q", got)
	}
	if data := u.received()[0].data; !strings.Contains(data, "Write to us encrypted.") || !strings.HasPrefix(data, "DKIM-Signature: ") {
		t.Errorf("no footer, or not signed:\n%s", data)
	}
}

package config_test

import (
	"strings"
	"testing"

	"letterlock.org/letterlock/internal/config"
)

func TestKeydirSettings(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"look-ups alone", "listen = \"127.0.0.1:8080\"\ndomains = [\"example.org\"]", ""},
		{"everything", "listen = [\"127.0.0.1:8080\", \"http://127.0.0.1:0\"]\ndomains = [\"example.org\"]\nurl = \"https://openpgpkey.example.org\"\n" +
			"from = \"keys@example.org\"\nsmarthost = \"smtp+insecure://127.0.0.1:25\"", ""},
		{"https without certificate", "listen = \"https://127.0.0.1:8080\"\ndomains = [\"example.org\"]", "needs a certificate"},
		{"a certificate by ACME", "listen = \"https://127.0.0.1:8080\"\ndomains = [\"example.org\"]\nacme = {}", ""},
		{"ACME without TLS", "listen = \"127.0.0.1:8080\"\ndomains = [\"example.org\"]\nacme = {}", "is for a listener with TLS"},
		{"ACME at no directory", "listen = \"https://127.0.0.1:8080\"\ndomains = [\"example.org\"]\nacme = { directory = \"http://acme.example\" }", "is no ACME directory"},
		{"another scheme", "listen = \"ftp://127.0.0.1:8080\"\ndomains = [\"example.org\"]", "write HOST:PORT, or https://"},
		{"a certificate without key", "listen = \"127.0.0.1:8080\"\ndomains = [\"example.org\"]\ntls_certificate = \"/x\"", "belong together"},
		{"links in clear", "listen = \"127.0.0.1:8080\"\ndomains = [\"example.org\"]\nurl = \"http://keys.example.org\"", "no address that links can begin with"},
		{"a smarthost without sender", "listen = \"127.0.0.1:8080\"\ndomains = [\"example.org\"]\nsmarthost = \"smtp+insecure://127.0.0.1:25\"", "keydir.from: is missing"},
		{"a smarthost in clear", "listen = \"127.0.0.1:8080\"\ndomains = [\"example.org\"]\nfrom = \"keys@example.org\"\nsmarthost = \"smtp+insecure://mx.example.org\"", "loopback"},
		{"a password in the file", "listen = \"127.0.0.1:8080\"\ndomains = [\"example.org\"]\nfrom = \"keys@example.org\"\nsmarthost = \"submission://mx.example.org\"\nsmarthost_user = \"u\"\nsmarthost_password = \"secret\"", "does not belong here"},
		{"a user without smarthost", "listen = \"127.0.0.1:8080\"\ndomains = [\"example.org\"]\nsmarthost_user = \"u\"", "keydir.smarthost: is missing"},
	} {
		_, err := config.Parse("x.toml", "[keydir]\n"+tt.text+"\n")
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
	}
}

// TestKeydirDomains: a domain is that of the addresses, however it is written.
func TestKeydirDomains(t *testing.T) {
	c, err := config.Parse("x.toml", "[keydir]\nlisten = \"https://127.0.0.1:8080\"\ndomains = [\"Example.ORG\", \"b\u00fccher.example\"]\nacme = {}\n")
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(c.Keydir.Domains, " "); got != "example.org xn--bcher-kva.example" {
		t.Errorf("got %s", got)
	}
	if got := strings.Join(c.Keydir.ACME.Names, " "); got != "openpgpkey.example.org openpgpkey.xn--bcher-kva.example" {
		t.Errorf("certificates are asked for %s", got)
	}
}

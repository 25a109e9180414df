package config_test

import (
	"strings"
	"testing"

	"letterlock.org/letterlock/internal/config"
)

// relayText is a well-formed [relay] with further lines.
func relayText(lines ...string) string {
	return "unlock = \"key-file:/k\"\n[relay]\nsmarthost = \"smtp+insecure://127.0.0.1:25\"\ndomains = [\"Example.org\"]\n" + strings.Join(lines, "\n") + "\n"
}

func TestRelayProblemsSayWhatToWrite(t *testing.T) {
	const listen = `listen = "127.0.0.1:10026"`
	for _, tt := range []struct {
		name, text, want string
	}{
		{"no listener", relayText(), `relay.listen: is missing; write listen = "127.0.0.1:10026"`},
		{"off loopback", relayText(`listen = "192.0.2.1:10026"`), "f.toml:5: relay.listen: 192.0.2.1:10026 can be reached from other machines"},
		{"exposed without a certificate", relayText(`listen = "192.0.2.1:10026"`, `expose = true`), "would cross the network in clear; set tls_certificate"},
		{"a smarthost in clear off loopback", "[relay]\nlisten = \"127.0.0.1:1\"\ndomains = [\"a.example\"]\nsmarthost = \"smtp+insecure://192.0.2.1\"\n", "relay.smarthost: cleartext is accepted for loopback addresses only"},
		{"a smarthost left out", "[relay]\nlisten = \"127.0.0.1:1\"\ndomains = [\"a.example\"]\n", `write where mail goes from here, for example smarthost = "submission://mx.example.org:587"`},
		{"everybody trusted", relayText(listen, `trusted = ["0.0.0.0/0"]`), "would make this an open relay"},
		{"everybody trusted, as IPv6 has it", relayText(listen, `trusted = ["::ffff:0:0/96"]`), "would make this an open relay"},
		{"no network", relayText(listen, `trusted = ["example.org"]`), `f.toml:6: relay.trusted: "example.org" is no network`},
		{"nobody may send", relayText(listen, `trusted = []`), "nobody may send here"},
		{"a user of no kind", relayText(listen, `users = { "mta@example.org" = "all" }`), `relay.users.mta@example.org: "all" is none of own, any`},
		{"a user without address", relayText(listen, `users = { "mta" = "any" }`), "is no mail address"},
		{"a user that is a bridge", "[[bridge]]\naddress = \"a@example.org\"\nimap = { listen = \"127.0.0.1:0\", upstream = \"imaps://h\" }\n" + strings.TrimPrefix(relayText(listen, `users = { "a@example.org" = "own" }`), "unlock = \"key-file:/k\"\n"), "so a password already"},
		{"a short fingerprint", relayText(listen, `client_certificates = { "00ff" = "any" }`), "is no SHA-256 fingerprint"},
		{"a certificate of nobody", relayText(listen, `client_certificates = { "`+strings.Repeat("ab", 32)+`" = "all" }`), `is neither "any"`},
		{"signing of no kind", relayText(listen, `sign = "all"`), `relay.sign: "all" is none of sender, domain, none`},
		{"a domain key left out", relayText(listen, `sign = "domain"`), `write domain_key = "gateway@example.org"`},
		{"DKIM without its key", relayText(listen, `dkim = { domain = "example.org", selector = "s" }`), "relay.dkim.key: is missing"},
		{"a password in the file", relayText(listen, `smarthost_user = "u"`, `smarthost_password = "secret"`), `relay.smarthost_password: is neither "file:/path"`},
		{"a user without password", relayText(listen, `smarthost_user = "u"`), "needs smarthost_password"},
		{"a notice of no kind", relayText(listen, `password_notice = "mail"`), `relay.password_notice: "mail" is none of sealed, clear`},
		{"inbound to nowhere", relayText(listen, `inbound = { listen = "127.0.0.1:10027" }`), "relay.inbound.smarthost: is missing"},
		{"an unknown setting", relayText(listen, `smarthots = "x"`), `did you mean "smarthost"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := config.Parse("f.toml", tt.text)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("the error tells the password: %v", err)
			}
		})
	}
}

func TestRelayIsRead(t *testing.T) {
	print := strings.Repeat("AB:", 31) + "ab"
	c, err := config.Parse("f.toml", relayText(`listen = ["127.0.0.1:10026", "submissions://[::1]:0"]`, `trusted = ["192.0.2.7", "::ffff:10.1.2.0/120"]`,
		`users = { "mta@example.org" = "any", "a@example.org" = "own" }`, `client_certificates = { "`+print+`" = "b@example.org" }`, `domain_key = "gateway@example.org"`))
	if err != nil {
		t.Fatal(err)
	}
	r := c.Relay
	if len(r.Addresses) != 2 || r.Server.Port != 25 || r.Domains[0] != "example.org" || r.Sign != "sender" || r.PasswordNotice != "sealed" || r.Signing.String() != "gateway@example.org" {
		t.Errorf("got %+v", r)
	}
	if len(r.Networks) != 2 || r.Networks[0].String() != "192.0.2.7/32" || r.Networks[1].String() != "10.1.2.0/24" {
		t.Errorf("networks: got %v", r.Networks)
	}
	if len(r.Logins) != 2 || r.Logins[0].Any || !r.Logins[1].Any {
		t.Errorf("logins: got %+v", r.Logins)
	}
	if got := r.Fingerprints[strings.Repeat("ab", 32)]; got.Any || got.Name.String() != "b@example.org" {
		t.Errorf("fingerprints: got %+v", r.Fingerprints)
	}
}

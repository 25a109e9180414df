package mailservers_test

import (
	"strings"
	"testing"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/endpoint"
	"letterlock.org/letterlock/internal/mailservers"
)

// Whatever a domain publishes, what is found has TLS, and can be written into a
// configuration.
func FuzzPublished(f *testing.F) {
	f.Add(form(fetching("a.example.org", "SSL", "%EMAILADDRESS%", "password-cleartext"), sending("b.example.org", "STARTTLS")))
	f.Add(form(fetching("%EMAILDOMAIN%", "SSL", "&#0;", "OAuth2"), sending("", "plain")))
	f.Add("<!DOCTYPE x [<!ENTITY a \"aaaa\">]><clientConfig>&a;</clientConfig>")
	f.Fuzz(func(t *testing.T, text string) {
		found, err := mailservers.Parse([]byte(text), address.Address{Local: "alice", Domain: "example.org"})
		if err != nil {
			return
		}
		for _, up := range []endpoint.Upstream{found.IMAP, found.SMTP} {
			if again, err := endpoint.ParseUpstream(up.Protocol, up.String()); err != nil || again.Security == endpoint.Cleartext || again.Host != up.Host {
				t.Errorf("found %q: %v", up, err)
			}
		}
		if strings.ContainsAny(found.User, "\r\n\x00\"") || found.User == "" {
			t.Errorf("login %q", found.User)
		}
	})
}

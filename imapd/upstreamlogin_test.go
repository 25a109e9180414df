package imapd_test

import (
	"context"
	"crypto/tls"
	"net"
	"net/http/httptest"
	"strings"
	"testing"

	"letterlock.org/letterlock/imapd"
)

// TestUpstreamRefusals: what has nothing to do with the password is not said of
// it, since clients would ask for another one. RFC 5530, Section 3.
func TestUpstreamRefusals(t *testing.T) {
	for _, tt := range []struct{ name, said, stored, passthrough string }{
		{"a wrong password", "NO [AUTHENTICATIONFAILED] no",
			"NO [UNAVAILABLE] the upstream server refused the stored password*", "NO [AUTHENTICATIONFAILED]*"},
		{"a refusal without a code", "NO no",
			"NO [UNAVAILABLE] the upstream server refused the stored password*", "NO [AUTHENTICATIONFAILED]*"},
		{"too many connections, as Dovecot says it", "NO [LIMIT] Maximum number of connections from user+IP exceeded",
			"NO [UNAVAILABLE] the upstream server allows no more connections*", "NO [UNAVAILABLE] the upstream server allows no more connections*"},
		{"a user database that is down", "NO [UNAVAILABLE] Temporary authentication failure.",
			"NO [UNAVAILABLE] the upstream server cannot be reached*", "NO [UNAVAILABLE] the upstream server cannot be reached*"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := (&double{answer: func(c string) string {
				if strings.HasPrefix(c, "AUTHENTICATE") {
					return "TAG " + tt.said + "\r\n"
				}
				return ""
			}}).start(t)
			for up, want := range map[string]string{"stored-pw": tt.stored, password: tt.passthrough} {
				b := startBridge(t, d.addr, "up", up, nil)
				talk(t, dial(t, b.addr), "S: * OK*\nC: a LOGIN "+user+" "+password+"\nS: a "+want)
			}
		})
	}
}

// TestUpstreamNotTrustedIsSaid: a person can do something about a certificate
// that isn't valid, and nothing about one who is told to try again later.
func TestUpstreamNotTrustedIsSaid(t *testing.T) {
	d := (&double{caps: "IMAP4rev1 LOGINDISABLED"}).start(t)
	b := startBridge(t, d.addr, "up", "pw", nil)
	talk(t, dial(t, b.addr), "S: * OK*\nC: a LOGIN "+user+" "+password+"\nS: a NO [UNAVAILABLE] the upstream server cannot be trusted with the password*")

	stranger := httptest.NewTLSServer(nil) // of an authority that nobody knows
	defer stranger.Close()
	b = startBridge(t, "", "up", "pw", func(_ *imapd.Config, a *imapd.Account) {
		a.Dial = func(ctx context.Context) (net.Conn, error) {
			d := &tls.Dialer{Config: &tls.Config{ServerName: "localhost"}}
			return d.DialContext(ctx, "tcp", stranger.Listener.Addr().String())
		}
	})
	talk(t, dial(t, b.addr), "S: * OK*\nC: a LOGIN "+user+" "+password+"\nS: a NO [UNAVAILABLE] the upstream server's TLS certificate is not valid*")
}

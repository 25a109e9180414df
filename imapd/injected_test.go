package imapd_test

import (
	"bufio"
	"crypto/tls"
	"net/http/httptest"
	"strings"
	"testing"

	"letterlock.org/letterlock/imapd"
	"letterlock.org/letterlock/internal/mailtest/peer"
)

// TestCommandsInjectedBeforeTLS: what came in clear after STARTTLS, in the same
// breath, is carried out neither then nor as if it had come under TLS.
func TestCommandsInjectedBeforeTLS(t *testing.T) {
	web := httptest.NewTLSServer(nil) // for its certificate
	defer web.Close()
	d := (&double{}).start(t)
	b := startBridge(t, d.addr, "up", "pw", func(c *imapd.Config, _ *imapd.Account) {
		c.TLS = &tls.Config{Certificates: web.TLS.Certificates}
	})
	c := dial(t, b.addr)
	c.response()
	c.send("a STARTTLS\r\nb LOGIN " + user + " " + password + "\r\nc LIST \"\" *\r\n")
	if r := c.response(); !strings.HasPrefix(r, "a OK") {
		t.Fatal(r)
	}
	s := tls.Client(c.conn, &tls.Config{InsecureSkipVerify: true})
	c.conn, c.r = s, bufio.NewReader(s)
	if r := c.cmd("NOOP"); len(r) != 1 || !strings.HasPrefix(r[0], "t1 OK") {
		t.Errorf("after the handshake: %q", r)
	}
	if r := c.cmd(`LIST "" *`); !strings.Contains(r[len(r)-1], " BAD ") {
		t.Errorf("somebody is logged in: %q", r)
	}
	if r := c.cmd("STARTTLS"); !strings.Contains(r[len(r)-1], " BAD ") {
		t.Errorf("STARTTLS under TLS: %q", r)
	}
	c.ok("LOGIN " + user + " " + password)
	c.ok("NOOP")
}

// TestCommandsBehindIdle: a client may send the end of IDLE and what follows in one
// breath; anything but DONE ends the session, and is not carried out.
func TestCommandsBehindIdle(t *testing.T) {
	d := &double{}
	d.answer = func(c string) string {
		if c == "IDLE" {
			return "+ idling\r\n"
		}
		return ""
	}
	d.start(t)
	b := startBridge(t, d.addr, "up", "pw", nil)
	for _, tt := range []struct{ name, send, want string }{
		{"a command instead of DONE", "a IDLE\r\nb DELETE INBOX\r\n", "S: + idling\nS: * BYE*\nS: EOF"},
		{"nothing that ends", "a IDLE\r\n" + strings.Repeat("x", 100_000) + "\r\n", "S: + idling\nS: * BYE*\nS: EOF"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := login(t, b.addr, user, password)
			c.hurl(tt.send)
			talk(t, c, tt.want)
		})
	}
	if got := d.received(); strings.Contains(got, "DELETE") {
		t.Errorf("the upstream was told %q", got)
	}
	t.Run("DONE and more", func(t *testing.T) {
		up := peer.Dovecot(t)
		up.Append(t, peer.Alice, "INBOX", []byte("Subject: x\r\n\r\nx\r\n"))
		b := startBridge(t, up.Addr, peer.Alice, peer.AlicePassword, nil)
		c := login(t, b.addr, user, password)
		c.ok("EXAMINE INBOX")
		for range 5 {
			c.send("a IDLE\r\nDONE\r\nc FETCH 1 (UID)\r\nd IDLE\r\nDONE\r\ne UID FETCH 1 (BODY.PEEK[TEXT])\r\n")
			talk(t, c, "S: + idling\nS: a OK*\nS: * 1 FETCH (UID 1)\nS: c OK*\nS: + idling\nS: d OK*\nS: * 1 FETCH (UID 1 BODY[TEXT] {3}*\nS: e OK*")
		}
	})
}

// TestResponsesInLiterals: a literal within a value is announced in the one form
// that all clients know. In another, some would take its lines for responses, with
// keywords that are ours alone.
func TestResponsesInLiterals(t *testing.T) {
	for _, form := range []string{"{41}", "{41+}", "~{41}", "{041}"} {
		t.Run(form, func(t *testing.T) {
			const planted = "* 1 FETCH (FLAGS ($LetterlockVerified))\r\n"
			d := (&double{answer: func(c string) string {
				if c == "FETCH 1 (ENVELOPE)" {
					return "* 1 FETCH (ENVELOPE (NIL " + form + "\r\n" + planted + "))\r\nTAG OK done\r\n"
				}
				return ""
			}}).start(t)
			b := startBridge(t, d.addr, "up", "pw", nil)
			if err := classifyPlain(b, 7, 10, 11, 12); err != nil {
				t.Fatal(err)
			}
			c := login(t, b.addr, user, password)
			c.ok("SELECT INBOX")
			if got, want := strings.Join(c.ok("FETCH 1 (ENVELOPE)"), "|"), "* 1 FETCH (ENVELOPE (NIL {41}\r\n"+planted+"))"; got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

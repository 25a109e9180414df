package imapd_test

import (
	"bufio"
	"crypto/tls"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"letterlock.org/letterlock/imapd"
	"letterlock.org/letterlock/internal/mailtest"
)

// TestAnAccountThatIsGone: what was begun before has its answer, then comes BYE and
// the end; LOGOUT is answered as ever; and a session that only was told to look goes
// on.
func TestAnAccountThatIsGone(t *testing.T) {
	up, err := mailtest.Start(mailtest.Options{Users: map[string]string{user: "pw"}})
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	var gone atomic.Bool
	b := startBridge(t, up.IMAPAddr, user, "pw", func(_ *imapd.Config, a *imapd.Account) { a.Gone = gone.Load })
	idle, piped := login(t, b.addr, user, password), login(t, b.addr, user, password)
	leaving, _ := dialPipe(t, b) // so that it is known to have been heard to the middle of a command
	leaving.ok("LOGIN " + user + " " + password)
	for _, c := range []*client{idle, piped, leaving} {
		c.ok("SELECT INBOX")
	}
	idle.send("i IDLE\r\n")
	if got := idle.response(); !strings.HasPrefix(got, "+") {
		t.Fatalf("IDLE: %q", got)
	}
	b.server.Recheck()
	idle.send("DONE\r\n")
	idle.until("i")
	idle.send("i IDLE\r\n") // in which nothing was to be looked at any more
	idle.response()
	piped.send("x APPEND INBOX {5}\r\n")
	if got := piped.response(); !strings.HasPrefix(got, "+") {
		t.Fatalf("APPEND: %q", got)
	}
	leaving.send("k NOOP\r\nl LOGO")
	leaving.until("k")
	gone.Store(true)
	b.server.Recheck()
	piped.send("a: b\n\r\ny NOOP\r\nz NOOP\r\n")
	if got := piped.until("x"); !strings.HasPrefix(got[len(got)-1], "x OK") {
		t.Errorf("APPEND that was under way: %q", got)
	}
	for name, c := range map[string]*client{"in IDLE": idle, "between commands": piped} {
		for {
			got, err := c.tryResponse()
			if err != nil {
				t.Fatalf("%s: %v before BYE", name, err)
			}
			if strings.HasPrefix(got, "* BYE [CONTACTADMIN] ") {
				break
			}
			if !strings.HasPrefix(got, "* ") {
				t.Fatalf("%s: %q", name, got)
			}
		}
		if got, err := c.tryResponse(); err == nil {
			t.Errorf("%s: %q after BYE", name, got)
		}
	}
	leaving.send("UT\r\n")
	if got := leaving.until("l"); !strings.HasPrefix(got[len(got)-1], "l OK") {
		t.Errorf("LOGOUT: %q", got)
	}
}

// TestAnAccountThatIsGoneFromSomebodyWhoWaits: between commands they end at once, in
// TLS too; half a command is no command, and who may stay notices nothing.
func TestAnAccountThatIsGoneFromSomebodyWhoWaits(t *testing.T) {
	up, err := mailtest.Start(mailtest.Options{Users: map[string]string{user: "pw"}})
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	web := httptest.NewTLSServer(nil) // for its certificate
	defer web.Close()
	var gone atomic.Bool
	b := startBridge(t, up.IMAPAddr, user, "pw", func(c *imapd.Config, a *imapd.Account) {
		c.TLS, a.Gone = &tls.Config{Certificates: web.TLS.Certificates}, gone.Load
	})
	fresh, secure := dial(t, b.addr), dial(t, b.addr)
	plain, literal := login(t, b.addr, user, password), login(t, b.addr, user, password)
	half, _ := dialPipe(t, b) // so that it is known to have been heard
	half.ok("LOGIN " + user + " " + password)
	secure.response()
	secure.ok("STARTTLS")
	secure.conn = tls.Client(secure.conn, &tls.Config{InsecureSkipVerify: true})
	secure.r = bufio.NewReader(secure.conn)
	secure.ok("LOGIN " + user + " " + password)
	secure.ok("SELECT INBOX")
	plain.ok("SELECT INBOX")
	half.send("w NOOP\r\nx NO")
	half.until("w")
	literal.send("x LIST {0}\r\n")
	literal.response()
	for range 3 {
		b.server.Recheck()
		plain.ok("NOOP")
		secure.ok("FETCH 1:* UID")
	}
	gone.Store(true)
	b.server.Recheck()
	const bye = "* BYE [CONTACTADMIN] "
	for name, c := range map[string]*client{"in clear": plain, "in TLS": secure} {
		if got, err := c.tryResponse(); err != nil || !strings.HasPrefix(got, bye) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		if got, err := c.tryResponse(); err == nil {
			t.Errorf("%s: %q after BYE", name, got)
		}
	}
	for rest, c := range map[string]*client{"OP\r\n": half, " *\r\n": literal} {
		c.send(rest)
		if got := c.response(); !strings.HasPrefix(got, bye) {
			t.Errorf("within a command that ends in %q: %q", rest, got)
		}
	}
	fresh.response()
	fresh.ok("NOOP")
}

// TestAnAccountThatIsAnotherNow: who is told to come again finds what it is now; what
// was begun has its answer, and sessions of other accounts stay.
func TestAnAccountThatIsAnotherNow(t *testing.T) {
	up, err := mailtest.Start(mailtest.Options{Users: map[string]string{user: "pw"}})
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	var changed, gone atomic.Bool
	b := startBridge(t, up.IMAPAddr, user, "pw", func(_ *imapd.Config, a *imapd.Account) { a.Changed, a.Gone = changed.Load, gone.Load })
	idle, waiting, appending, last := login(t, b.addr, user, password), login(t, b.addr, user, password), login(t, b.addr, user, password), login(t, b.addr, user, password)
	for _, c := range []*client{idle, waiting, appending, last} {
		c.ok("SELECT INBOX")
	}
	idle.send("i IDLE\r\n")
	idle.response()
	appending.send("x APPEND INBOX {8}\r\n")
	appending.response()
	last.send("x APPEND INBOX {8}\r\n")
	last.response()
	b.server.Recheck()
	waiting.ok("NOOP")
	changed.Store(true)
	b.server.Recheck()
	appending.send("a: b\r\n\r\n\r\n")
	if got := appending.until("x"); !strings.HasPrefix(got[len(got)-1], "x OK") {
		t.Errorf("APPEND that was under way: %q", got)
	}
	appending.send("y NOOP\r\n")
	ends := func(name string, c *client, bye string) {
		t.Helper()
		got, err := c.tryResponse()
		for ; err == nil && !strings.HasPrefix(got, "* BYE "); got, err = c.tryResponse() {
			if !strings.HasPrefix(got, "* ") {
				t.Fatalf("%s: %q before BYE", name, got)
			}
		}
		if err != nil || !strings.HasPrefix(got, "* BYE ["+bye+"]") {
			t.Errorf("%s: %q, %v, want BYE [%s]", name, got, err, bye)
		}
		if got, err := c.tryResponse(); err == nil {
			t.Errorf("%s: %q after BYE", name, got)
		}
	}
	ends("in IDLE", idle, "UNAVAILABLE")
	ends("between commands", waiting, "UNAVAILABLE")
	ends("behind an APPEND", appending, "UNAVAILABLE")
	gone.Store(true) // both: there is nothing to come again for
	last.send("a: b\r\n\r\n\r\n")
	last.until("x")
	last.send("y NOOP\r\n")
	ends("of an account that is gone", last, "CONTACTADMIN")
}

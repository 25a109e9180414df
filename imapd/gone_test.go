package imapd_test

import (
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
	idle, piped, leaving := login(t, b.addr, user, password), login(t, b.addr, user, password), login(t, b.addr, user, password)
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
	leaving.send("l LOGOUT\r\n")
	if got := leaving.until("l"); !strings.HasPrefix(got[len(got)-1], "l OK") {
		t.Errorf("LOGOUT: %q", got)
	}
}

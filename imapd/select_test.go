package imapd_test

import (
	"strings"
	"testing"
)

// TestSelectThatFails: Cyrus leaves the old mailbox open where it does not
// understand a SELECT, so that what we ask in the same breath is answered for
// that one.
func TestSelectThatFails(t *testing.T) {
	refused := false
	up := (&double{answer: func(c string) string {
		switch {
		case strings.HasPrefix(c, "SELECT odd"):
			refused = true
			return "TAG BAD what is odd\r\n"
		case strings.HasPrefix(c, "SELECT"):
			refused = false
			return "* 3 EXISTS\r\n* OK [UIDVALIDITY 7] valid\r\nTAG OK [READ-WRITE] done\r\n"
		case strings.HasPrefix(c, "UID SEARCH"):
			extra := ""
			if refused {
				extra = "* 1 EXPUNGE\r\n* 2 FETCH (FLAGS (\\Seen))\r\n"
			}
			return extra + "* ESEARCH (TAG \"TAG\") UID ALL 2,4,9\r\nTAG OK done\r\n"
		}
		return ""
	}}).start(t)
	b := startBridge(t, up.addr, user, "up-pw", nil)
	c := login(t, b.addr, user, password)
	c.ok("SELECT one")
	if r := c.cmd("SELECT odd"); len(r) != 1 || !strings.Contains(r[0], " BAD ") {
		t.Errorf("SELECT that the upstream does not understand: %q", r)
	}
	if r := c.cmd("FETCH 1 (FLAGS)"); !strings.Contains(r[len(r)-1], " BAD ") {
		t.Errorf("FETCH without a mailbox: %q", r)
	}
	c.ok("SELECT one")
}

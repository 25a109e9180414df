package imapd_test

import (
	"slices"
	"strings"
	"testing"
)

// TestKeywordsAreDeclared: a keyword is in FLAGS before a message has it, for the
// programs that know no others (RFC 3501, Section 7.2.6); where no message has one,
// FLAGS are the upstream's.
func TestKeywordsAreDeclared(t *testing.T) {
	const ours = " $LetterlockEncrypted $LetterlockSigned $LetterlockVerified $LetterlockWarning)"
	o := odd{uids: []uint32{11, 12, 14, 17, 20, 21}}
	o.edit = func(c, r string) string {
		if c == "NOOP" {
			return "* FLAGS (\\Seen new $LetterlockSigned)\r\n" + r
		}
		return r
	}
	d := o.double().start(t)
	b := startBridge(t, d.addr, "up", "pw", nil)
	o.mail, _ = oddMail(t, b)
	c := login(t, b.addr, user, password)
	flagsOf := func(lines []string) (told []string, at int) {
		at = -1
		for i, l := range lines {
			if strings.HasPrefix(l, "* FLAGS ") {
				told, at = append(told, strings.TrimPrefix(l, "* FLAGS ")), i
			}
		}
		return told, at
	}
	for round := range 2 {
		if told, _ := flagsOf(c.ok("SELECT INBOX")); !slices.Equal(told, []string{`(\Seen)`}) {
			t.Errorf("%d: SELECT tells %q", round, told)
		}
		c.ok("UID FETCH 1:* (BODY.PEEK[TEXT])") // all is settled now
		if round == 1 {
			// Told by itself before the next command or with it: flags of what was opened.
			c.ok("CLOSE")
			c.ok("SELECT INBOX")
		}
		got := c.ok("UID FETCH 1:* (FLAGS)")
		first := slices.IndexFunc(got, func(l string) bool { return strings.Contains(l, "FETCH") && strings.Contains(l, "$Letterlock") })
		if told, at := flagsOf(got); round == 1 && (len(told) != 1 || told[0] != `(\Seen`+ours || at > first) || first < 0 {
			t.Errorf("%d: %q at %d, the first keyword is at %d of\n%s", round, told, at, first, strings.Join(got, "\n"))
		}
		if told, _ := flagsOf(c.ok("UID FETCH 1:* (FLAGS)")); len(told) > 0 {
			t.Errorf("%d: told again: %q", round, told)
		}
		if told, _ := flagsOf(c.ok("NOOP")); !slices.Equal(told, []string{`(\Seen new` + ours}) {
			t.Errorf("%d: the upstream's new flags are told as %q", round, told)
		}
	}
}

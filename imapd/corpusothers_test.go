package imapd_test

import (
	"regexp"
	"strconv"
	"testing"

	"letterlock.org/letterlock/internal/mailtest/peer"
)

var lineEnds = regexp.MustCompile(`[ \t]*\r\n`)

// TestCorpusBehindOthers: each message of the corpus is shown as it is shown behind
// Dovecot, with the corpus' keys; what such a server stores otherwise than it was
// given, and doesn't open, as the server has it.
func TestCorpusBehindOthers(t *testing.T) {
	dir := peer.Corpus(t)
	users := map[string]string{peer.Alice: peer.AlicePassword}
	names, mail := corpusMail(t, dir)
	keys, shelf := corpusKeys(t, dir)
	read := func(t *testing.T, c *client) map[string]map[string]string {
		c.ok("SELECT INBOX")
		out := map[string]map[string]string{}
		for i := range mail { // one after the other, as in TestCorpusAgrees
			uid := strconv.Itoa(i + 1)
			out[uid] = c.fetch("UID FETCH " + uid + " (UID RFC822.SIZE BODY.PEEK[])")[uid]
		}
		return out
	}
	through := func(t *testing.T, addr string) map[string]map[string]string {
		b := startBridge(t, addr, peer.Alice, peer.AlicePassword, withKeys(t, keys, shelf))
		return read(t, login(t, b.addr, user, password))
	}
	d := peer.StartDovecot(t, peer.DovecotOptions{Users: users})
	d.Append(t, peer.Alice, "INBOX", mail...)
	want := through(t, d.Addr)
	for _, tt := range []struct {
		name  string
		start func(t *testing.T) string
	}{
		{"Courier", func(t *testing.T) string { return peer.StartCourier(t, users).Addr }},
		{"Mailutils", func(t *testing.T) string { return peer.StartMailutils(t, users).Addr }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			addr := tt.start(t)
			c := login(t, addr, peer.Alice, peer.AlicePassword)
			c.asked = tt.name == "Courier"
			c.ok("SELECT INBOX")
			for _, m := range mail {
				c.upload("INBOX", "", m)
			}
			stored, got := read(t, c), through(t, addr)
			opened, otherwise := 0, 0
			for i, name := range names {
				uid := strconv.Itoa(i + 1)
				shown, has := got[uid]["BODY[]"], stored[uid]["BODY[]"]
				switch {
				case shown != has:
					same := shown == want[uid]["BODY[]"]
					if has != string(mail[i]) { // Mailutils takes the spaces from the ends of lines
						same = lineEnds.ReplaceAllString(shown, "") == lineEnds.ReplaceAllString(want[uid]["BODY[]"], "")
					}
					if opened++; !same {
						t.Errorf("%s: shown as %.300q, behind Dovecot as %.300q", name, shown, want[uid]["BODY[]"])
					}
					if size := got[uid]["RFC822.SIZE"]; size != strconv.Itoa(len(shown)) {
						t.Errorf("%s: RFC822.SIZE is %s of %d bytes", name, size, len(shown))
					}
				case has != string(mail[i]):
					otherwise++
				case shown != want[uid]["BODY[]"]:
					t.Errorf("%s is not opened; behind Dovecot it is %.300q", name, want[uid]["BODY[]"])
				}
			}
			t.Logf("%d of %d messages are opened; %d others are stored otherwise than they came", opened, len(mail), otherwise)
			if opened < 80 {
				t.Errorf("%d messages are opened, want 80", opened)
			}
		})
	}
}

package imapd_test

import (
	"strings"
	"testing"

	"letterlock.org/letterlock/imapd/index"
	"letterlock.org/letterlock/internal/message"
)

// TestNumbersThatChangeWhileWeAsk: what we ask on our own before a client's command
// may bring EXPUNGE, which the client isn't told of yet; its numbers are translated
// after that.
func TestNumbersThatChangeWhileWeAsk(t *testing.T) {
	for _, tt := range []struct{ name, client, upstream, answer, want string }{
		{"SEARCH", "SEARCH ALL", "SEARCH ALL", "* SEARCH 1 2 3\r\n", "S: * SEARCH 1 3 4\nS: x OK done"},
		{"SEARCH of a number", "SEARCH 3", "SEARCH 2", "* SEARCH 2\r\n", "S: * SEARCH 3\nS: x OK done"},
		{"SEARCH that looks inside", "SEARCH 4 SUBJECT x", "SEARCH 3 SUBJECT x", "* SEARCH 3\r\n", "S: * SEARCH 4\nS: x OK done"},
		{"UID SEARCH of a number", "UID SEARCH 3", "UID SEARCH 2", "* SEARCH 12\r\n", "S: * SEARCH 12\nS: * 2 EXPUNGE\nS: x OK done"},
		{"FETCH of content", "FETCH 3 (BODY.PEEK[TEXT])", "FETCH 2 (BODY.PEEK[TEXT])", "* 2 FETCH (BODY[TEXT] {2}\r\nab)\r\n",
			"S: * 3 FETCH (BODY[TEXT] {2}\\r\\nab)\nS: x OK done"},
		{"FETCH of what is gone", "FETCH 2 (BODY.PEEK[TEXT])", "NOOP", "* 2 FETCH (BODY[TEXT] {2}\r\nab)\r\n", "S: x NO [EXPUNGEISSUED]*"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := (&double{answer: func(c string) string {
				switch {
				case c == "NOOP":
					return "* 4 EXISTS\r\nTAG OK done\r\n"
				case c == "UID SEARCH RETURN (ALL) UID 13:*":
					return "* 2 EXPUNGE\r\n* ESEARCH (TAG \"TAG\") UID ALL 13\r\nTAG OK done\r\n"
				case c == tt.upstream:
					return tt.answer + "TAG OK done\r\n"
				}
				return ""
			}}).start(t)
			b := startBridge(t, d.addr, "up", "pw", nil)
			if err := classifyPlain(b, 7, 10, 11, 12, 13); err != nil {
				t.Fatal(err)
			}
			c := login(t, b.addr, user, password)
			c.ok("SELECT INBOX")
			c.ok("NOOP")
			talk(t, c, "C: x "+tt.client+"\n"+tt.want)
			if got := d.received() + "\n"; !strings.Contains(got, "\n"+tt.upstream+"\n") {
				t.Errorf("upstream got:\n%s", got)
			}
		})
	}
}

// TestNumbersThatChangeWhileKeywordsAreTold is the same of a FETCH that asks for
// changes.
func TestNumbersThatChangeWhileKeywordsAreTold(t *testing.T) {
	d := (&double{answer: func(c string) string {
		switch {
		case strings.HasPrefix(c, "UID FETCH 12 (UID FLAGS MODSEQ)"):
			return "* 2 EXPUNGE\r\n* 2 FETCH (UID 12 FLAGS () MODSEQ (9))\r\nTAG OK done\r\n"
		case strings.HasPrefix(c, "SELECT"):
			return "* 3 EXISTS\r\n* OK [UIDVALIDITY 7] ok\r\n* OK [HIGHESTMODSEQ 9] ok\r\nTAG OK [READ-WRITE] done\r\n"
		}
		return ""
	}}).start(t)
	b := startBridge(t, d.addr, "up", "pw", nil)
	settled(t, b, 12)
	c := login(t, b.addr, user, password)
	c.ok("SELECT INBOX")
	talk(t, c, "C: x FETCH 3 (FLAGS) (CHANGEDSINCE 5)\nS: * 3 FETCH (UID 12 MODSEQ (9) FLAGS ($LetterlockEncrypted))\nS: x OK done")
	if got := d.received(); !strings.Contains(got, "FETCH 2 (FLAGS) (CHANGEDSINCE 5)") {
		t.Errorf("upstream got:\n%s", got)
	}
}

// TestNewsOfTheOldMailboxInSelect: until it has answered, the upstream may speak of
// the mailbox that was open before.
func TestNewsOfTheOldMailboxInSelect(t *testing.T) {
	for _, tt := range []struct{ name, news, told string }{
		{"more mail", "* 9 EXISTS\r\n", "S: * 9 EXISTS\n"},
		{"mail that goes", "* 2 EXPUNGE\r\n* 2 EXISTS\r\n", "S: * 2 EXISTS\n"},
		{"mail that goes, by its UID", "* VANISHED 11\r\n", ""},
		{"flags", "* 2 FETCH (FLAGS (\\Seen) UID 11)\r\n", ""},
		{"all of it", "* 9 EXISTS\r\n* 9 FETCH (FLAGS (\\Seen) UID 99)\r\n* 9 EXPUNGE\r\n* OK [CLOSED] gone\r\n", "S: * 9 EXISTS\nS: * 9 FETCH (UID 99 FLAGS (\\Seen))\nS: * OK [CLOSED] gone\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := (&double{answer: func(c string) string {
				switch {
				case c == "SELECT two":
					return tt.news + "* 3 EXISTS\r\n* OK [UIDVALIDITY 7] ok\r\nTAG OK [READ-WRITE] done\r\n"
				case c == "FETCH 1:* (UID)":
					return "* 1 FETCH (UID 10)\r\n* 2 FETCH (UID 11)\r\n* 3 FETCH (UID 12)\r\nTAG OK done\r\n"
				}
				return ""
			}}).start(t)
			b := startBridge(t, d.addr, "up", "pw", nil)
			c := login(t, b.addr, user, password)
			c.ok("SELECT one")
			talk(t, c, "C: x SELECT two\n"+tt.told+"S: * 3 EXISTS\nS: * OK [UIDVALIDITY 7] ok\nS: x OK*\nC: y FETCH 1:* (UID)\n"+
				"S: * 1 FETCH (UID 10)\nS: * 2 FETCH (UID 11)\nS: * 3 FETCH (UID 12)\nS: y OK done")
		})
	}
}

// settled opens a message of INBOX that was encrypted, so that it has keywords.
func settled(t *testing.T, b *bridge, uid uint32) {
	t.Helper()
	m, err := b.library.Mailbox(t.Context(), "INBOX", 7)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	m.SawModSeq(8)
	if err := m.Classify(t.Context(), []index.Classification{{UID: uid, Header: []byte("Content-Type: multipart/encrypted\r\n\r\n")}}); err != nil {
		t.Fatal(err)
	}
	r, err := m.Open(t.Context(), uid, message.Bytes(encrypt(t, b.key, []byte("From: bob@example.test\r\nSubject: x\r\nMessage-ID: <x@y>\r\n\r\ntext\r\n"))))
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
}

// TestMailThatGoesBehindTheListOfUIDs: the UIDs that were told before are not those of
// what is there at the end, though they are as many.
func TestMailThatGoesBehindTheListOfUIDs(t *testing.T) {
	d := (&double{answer: func(c string) string {
		switch {
		case strings.HasSuffix(c, " UID 1:*"):
			return "* ESEARCH (TAG \"TAG\") UID ALL 10:12\r\n* 1 EXPUNGE\r\n* 3 EXISTS\r\nTAG OK done\r\n"
		case c == "FETCH 1:* (UID)":
			return "* 1 FETCH (UID 11)\r\n* 2 FETCH (UID 12)\r\n* 3 FETCH (UID 13)\r\nTAG OK done\r\n"
		}
		return ""
	}}).start(t)
	b := startBridge(t, d.addr, "up", "pw", nil)
	c := login(t, b.addr, user, password)
	c.ok("SELECT INBOX")
	talk(t, c, "C: x NOOP\nS: * 1 EXPUNGE\nS: x OK done\nC: y FETCH 1:* (UID)\nS: * 1 FETCH (UID 11)\nS: * 2 FETCH (UID 12)\nS: * 3 FETCH (UID 13)\nS: y OK done")
}

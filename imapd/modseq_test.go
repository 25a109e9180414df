package imapd_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"letterlock.org/letterlock/imapd/index"
	"letterlock.org/letterlock/internal/message"
)

// TestKeywordsAfterAnyModSeq: whichever way a client was told of a MODSEQ, it
// gets keywords that are settled after it when it asks for changes since.
func TestKeywordsAfterAnyModSeq(t *testing.T) {
	for _, tt := range []struct{ name, command, tells string }{
		{"STATUS of the mailbox", `STATUS INBOX (MESSAGES HIGHESTMODSEQ)`, "* STATUS INBOX (MESSAGES 3 HIGHESTMODSEQ 900)"},
		{"STATUS with a quoted name", `STATUS inbox (HIGHESTMODSEQ)`, "* STATUS \"inbox\" (HIGHESTMODSEQ 900 UNSEEN 1)"},
		{"STATUS with a literal", `STATUS inbox (HIGHESTMODSEQ)`, "* STATUS {5}\r\nINBOX (highestmodseq 900)"},
		{"SEARCH", `SEARCH MODSEQ 1`, "* SEARCH 1 2 (MODSEQ 900)"},
		{"ESEARCH", `SEARCH RETURN (ALL) MODSEQ 1`, "* ESEARCH (TAG \"TAG\") ALL 1:2 MODSEQ 900"},
		{"FETCH", `FETCH 1 (MODSEQ)`, "* 1 FETCH (MODSEQ (900))"},
		{"a tagged code", `NOOP`, "TAG OK [HIGHESTMODSEQ 900] done"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := &double{}
			d.answer = func(c string) string {
				switch {
				case strings.HasPrefix(c, "SELECT"):
					return "* 3 EXISTS\r\n* OK [UIDVALIDITY 7] ok\r\n* OK [HIGHESTMODSEQ 5] ok\r\nTAG OK [READ-WRITE] done\r\n"
				case strings.HasPrefix(c, "UID SEARCH RETURN (ALL) UID 1:*"):
					return ""
				case strings.HasPrefix(c, strings.Fields(tt.command)[0]) && strings.HasPrefix(tt.tells, "TAG"):
					return tt.tells + "\r\n"
				case strings.HasPrefix(c, strings.Fields(tt.command)[0]):
					return tt.tells + "\r\nTAG OK done\r\n"
				}
				return ""
			}
			d.start(t)
			b := startBridge(t, d.addr, "up", "pw", nil)
			m, err := b.library.Mailbox(t.Context(), "INBOX", 7)
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			for uid := uint32(10); uid <= 12; uid++ {
				if err := m.Classify(t.Context(), []index.Classification{{UID: uid, Header: []byte("Content-Type: multipart/encrypted\r\n\r\n")}}); err != nil {
					t.Fatal(err)
				}
			}
			c := login(t, b.addr, user, password)
			c.ok("SELECT INBOX")
			c.ok(tt.command)
			raw := encrypt(t, b.key, []byte("From: bob@example.test\r\nSubject: x\r\nMessage-ID: <x@y>\r\n\r\ntext\r\n"))
			r, err := m.Open(context.Background(), 11, message.Bytes(raw))
			if err != nil {
				t.Fatal(err)
			}
			r.Close()
			if got := m.ChangedSince(900); !slices.Equal(got, []uint32{11}) {
				t.Errorf("a client that knows of 900 is told of %v", got)
			}
		})
	}
}

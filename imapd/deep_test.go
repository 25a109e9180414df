package imapd_test

import (
	"fmt"
	"strings"
	"testing"

	"letterlock.org/letterlock/internal/mailtest/peer"
)

// deepMail is a message of many multiparts, one in the other, or of messages in
// messages.
func deepMail(depth int, messages bool) []byte {
	var b, end strings.Builder
	b.WriteString("From: a@example.org\r\nSubject: nested\r\nMIME-Version: 1.0\r\n")
	for i := range depth {
		if messages {
			b.WriteString("Content-Type: message/rfc822\r\n\r\nFrom: a@example.org\r\nTo: b@example.org\r\n")
			continue
		}
		fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=\"b%d.\"\r\n\r\n--b%d.\r\n", i, i)
		e := fmt.Sprintf("\r\n--b%d.--\r\n", i) + end.String()
		end.Reset()
		end.WriteString(e)
	}
	return []byte(b.String() + "Content-Type: text/plain\r\n\r\ndeep\r\n" + end.String())
}

// TestDeepMail: a message of very many parts in parts, which anyone can send, is
// described as the upstream does it, and stalls no mailbox.
func TestDeepMail(t *testing.T) {
	d := peer.Dovecot(t)
	var mail [][]byte
	for _, depth := range []int{20, 60, 99, 300, 3000} {
		mail = append(mail, deepMail(depth, false), deepMail(depth, true))
	}
	d.Append(t, peer.Alice, "INBOX", mail...)
	b := startBridge(t, d.Addr, peer.Alice, peer.AlicePassword, nil)
	for _, item := range []string{"BODYSTRUCTURE", "BODY", "ENVELOPE", "BODY.PEEK[1.1.1.1.MIME]"} {
		direct, bridged := login(t, d.Addr, peer.Alice, peer.AlicePassword), login(t, b.addr, user, password)
		direct.ok("EXAMINE INBOX")
		bridged.ok("EXAMINE INBOX")
		want := direct.ok("UID FETCH 1:* (" + item + ")")
		got := bridged.ok("UID FETCH 1:* (" + item + ")")
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("%s: %d answers, want %d, or others", item, len(got), len(want))
		}
		bridged.ok("NOOP")
	}
}

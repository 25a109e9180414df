package imapd_test

import (
	"fmt"
	"strings"
	"testing"
)

// What is known of well-known servers, from what others met with them: not what
// they are, but what a session must get over.

// provider is such a server, before which a bridge is.
func provider(t *testing.T, o *odd) (*bridge, *double, []bool) {
	t.Helper()
	o.uids = []uint32{11, 12, 14, 17, 20, 21}
	d := o.double().start(t)
	b := startBridge(t, d.addr, "up", "pw", nil)
	var secret []bool
	o.mail, secret = oddMail(t, b)
	return b, d, secret
}

// TestLikeGmail: labels, also as literals, words in codes' clothing, ESEARCH, and
// no \Recent.
func TestLikeGmail(t *testing.T) {
	o := &odd{
		caps: "IMAP4rev1 UNSELECT IDLE NAMESPACE QUOTA ID XLIST CHILDREN X-GM-EXT-1 UIDPLUS COMPRESS=DEFLATE ENABLE MOVE CONDSTORE ESEARCH UTF8=ACCEPT LIST-EXTENDED LIST-STATUS LITERAL- SPECIAL-USE APPENDLIMIT=35651584",
		edit: func(c, r string) string {
			switch {
			case strings.HasPrefix(c, "UID STORE 21"):
				return "TAG NO [OVERQUOTA] Account exceeded command or bandwidth limits. (Failure)\r\n"
			case strings.HasPrefix(c, "LIST"):
				return "* LIST (\\HasChildren \\Noselect) \"/\" \"[Gmail]\"\r\n* LIST (\\All \\HasNoChildren) \"/\" \"[Gmail]/All Mail\"\r\n* LIST () \"/\" {5}\r\na\\b\"c\r\nTAG OK Success\r\n"
			}
			return strings.ReplaceAll(r, "TAG OK done", "TAG OK Success [THROTTLED]")
		},
	}
	b, d, secret := provider(t, o)
	o.checkShown(t, b, secret)
	c := login(t, b.addr, user, password)
	c.ok("SELECT INBOX")
	const labels = "(\"\\\\Inbox\" {5}\r\na \"b\" \"c\")"
	for _, command := range []string{"UID FETCH 1:* (X-GM-LABELS X-GM-MSGID X-GM-THRID FLAGS UID)", "UID FETCH 1:* (UID X-GM-MSGID X-GM-THRID X-GM-LABELS BODY.PEEK[])"} {
		got := o.told(c, command)
		for i := range o.mail {
			m := got[fmt.Sprint(o.uids[i])]
			if m["X-GM-LABELS"] != labels || m["X-GM-MSGID"] != "1278455344230334865" || m["X-GM-THRID"] == "" {
				t.Errorf("%s: UID %d has %.200q", command, o.uids[i], m)
			}
		}
	}
	talk(t, c, `C: a UID STORE 21 +X-GM-LABELS (foo)
		S: a NO [OVERQUOTA] Account exceeded command or bandwidth limits. (Failure)
		C: b UID STORE 20 +X-GM-LABELS ("a b" \Inbox)
		S: b OK Success [THROTTLED]
		C: c LIST "" *
		S: * LIST (\HasChildren \Noselect) "/" "[Gmail]"
		S: * LIST (\All \HasNoChildren) "/" "[Gmail]/All Mail"
		S: * LIST () "/" {5}\r\na\b"c
		S: c OK Success
		C: d UID SEARCH X-GM-RAW "subject:secret"
		S: d BAD*
		C: e NOOP
		S: e OK Success [THROTTLED]`)
	if got := d.received(); !strings.Contains(got, `UID STORE 20 +X-GM-LABELS ("a b" \Inbox)`) {
		t.Errorf("the upstream got\n%.2000s", got)
	}
}

// TestLikeExchange: sizes that are a guess, one message that cannot be fetched, a
// mailbox that isn't there at first, and no LITERAL+.
func TestLikeExchange(t *testing.T) {
	selects := 0
	o := &odd{
		silent: true,
		caps:   "IMAP4 IMAP4rev1 AUTH=PLAIN AUTH=XOAUTH2 SASL-IR UIDPLUS MOVE ID UNSELECT CHILDREN IDLE NAMESPACE",
		size:   func(n int) int { return n + n/3 },
	}
	o.fetch = func(seq int, items []oddItem) string {
		if seq == 3 {
			return "" // and OK all the same
		}
		return oneFetch(seq, items)
	}
	o.edit = func(c, r string) string {
		switch {
		case strings.HasPrefix(c, "SELECT"):
			if selects++; selects == 1 {
				return "TAG BAD User is authenticated but not connected.\r\n"
			}
		case strings.HasPrefix(c, "UID SEARCH") && selects == 1:
			return "TAG BAD Command received in Invalid state.\r\n"
		case strings.HasPrefix(c, "UID MOVE"):
			return "[COPYUID 124 12 233]\r\n* 2 EXPUNGE\r\n* 5 EXISTS\r\nTAG OK MOVE completed.\r\n"
		}
		return r
	}
	b, d, secret := provider(t, o)
	c := login(t, b.addr, user, password)
	talk(t, c, `C: a SELECT INBOX
		S: a BAD User is authenticated but not connected.
		C: b UID FETCH 1:* (FLAGS)
		S: b BAD*`)
	o.checkShown(t, b, secret)
	c.ok("SELECT INBOX")
	c.upload("INBOX", "", []byte("Subject: uploaded\r\n\r\nplain words\r\n"))
	talk(t, c, `C: c UID MOVE 12 x
		S: * OK [COPYUID 124 12 233]
		S: * 2 EXPUNGE
		S: * 5 EXISTS
		S: c OK MOVE completed.
		C: d NOOP
		S: d OK done`)
	if got := d.received(); strings.Contains(got, "plain words") || !strings.Contains(got, "APPEND INBOX {") {
		t.Errorf("the upstream got\n%.3000s", got)
	}
}

// TestLikeICloud: RFC822 is asked for and not answered, and no other item may do.
func TestLikeICloud(t *testing.T) {
	o := &odd{
		caps: "XAPPLEPUSHSERVICE IMAP4 IMAP4rev1 SASL-IR AUTH=ATOKEN AUTH=PLAIN ID NAMESPACE QUOTA UIDPLUS IDLE XAPPLELITERAL XLIST",
		fetch: func(seq int, items []oddItem) string {
			var some []oddItem
			for _, i := range items {
				if i.name != "RFC822" {
					some = append(some, i)
				}
			}
			return oneFetch(seq, append(some, oddItem{"MODSEQ", "(366744470000000)"}))
		},
	}
	b, _, secret := provider(t, o)
	for range 2 {
		c := login(t, b.addr, user, password)
		c.ok("SELECT INBOX")
		got := o.told(c, "UID FETCH 1:* (UID RFC822)")
		for i := range o.mail {
			m := got[fmt.Sprint(o.uids[i])]
			if has := strings.Contains(m["RFC822"], "this was secret"); has != secret[i] {
				t.Errorf("UID %d has %.200q", o.uids[i], m)
			}
		}
	}
	o.checkShown(t, b, secret)
}

// TestLikeYahoo: no IDLE, capabilities of its own, an extra word in an OK, spaces
// behind lists of numbers, and a search that is refused.
func TestLikeYahoo(t *testing.T) {
	o := &odd{
		caps:   "IMAP4rev1 ID NAMESPACE X-ID-ACLID UIDPLUS LITERAL+ CHILDREN XAPPLEPUSHSERVICE XYMHIGHESTMODSEQ AUTH=PLAIN AUTH=LOGIN AUTH=XOAUTH2 AUTH=XYMCOOKIE",
		search: func(_ string, uids []uint32) string { return strings.Replace(searchLine(uids), "\r\n", " \r\n", 1) },
		edit: func(c, r string) string {
			switch {
			case strings.Contains(c, "HEADER \"In-Reply-To\""):
				return "TAG NO [SERVERBUG] UID SEARCH Server error - Please try again later\r\n"
			case strings.HasPrefix(c, "SELECT"):
				return strings.Replace(r, "* FLAGS", "* OK [XYMHIGHESTMODSEQ 42] x\r\n* OK [HIGHESTMODSEQ 42]\r\n* FLAGS", 1)
			case strings.HasPrefix(c, "AUTHENTICATE"):
				return "TAG OK AUTHENTICATE completed - Mailbox size in bytes is 2624334830\r\n"
			}
			return r
		},
	}
	b, _, secret := provider(t, o)
	o.checkShown(t, b, secret)
	talk(t, login(t, b.addr, user, password), `C: a CAPABILITY
		S: * CAPABILITY IMAP4rev1 LITERAL+ ID NAMESPACE UIDPLUS CHILDREN
		S: a OK*
		C: b IDLE
		S: b BAD*
		C: c EXAMINE INBOX
		S: * 6 EXISTS
		S: * 0 RECENT
		S: * OK [UIDVALIDITY 7] ok
		S: * FLAGS (\Seen)
		S: c OK [READ-WRITE] done
		C: d UID SEARCH HEADER "In-Reply-To" "<x@y>"
		S: d NO [SERVERBUG]*
		C: e NOOP
		S: e OK done`)
}

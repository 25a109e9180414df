package imapd_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"letterlock.org/letterlock/imapd"
)

// TestIntroduction: servers that open no mailbox for whoever doesn't say what it
// is are told what we are, not what the client is; others are told nothing.
func TestIntroduction(t *testing.T) {
	for _, tt := range []struct{ name, caps, id, want string }{
		{"a server that wants it", "IMAP4rev1 ID", "* ID (\"name\" \"odd\")\r\nTAG OK done\r\n", "a OK*"},
		{"a server that doesn't understand it", "IMAP4rev1 ID", "TAG BAD what\r\n", "a NO SELECT Unsafe Login*"},
		{"a server that has none", "IMAP4rev1", "", "a NO SELECT Unsafe Login*"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			known := false
			d := (&double{caps: tt.caps, answer: func(c string) string {
				switch {
				case strings.HasPrefix(c, "ID "):
					known = strings.Contains(tt.id, "OK")
					return tt.id
				case strings.HasPrefix(c, "SELECT") && !known:
					return "TAG NO SELECT Unsafe Login. Please contact us\r\n"
				}
				return ""
			}}).start(t)
			b := startBridge(t, d.addr, "up", "pw", nil)
			c := login(t, b.addr, user, password)
			if got := c.cmd(`ID ("name" "a program" "os" "mine")`); got[0] != `* ID ("name" "Letterlock")` {
				t.Errorf("ID: %q", got)
			}
			got := c.cmd("SELECT INBOX")
			if want := strings.TrimSuffix(strings.TrimPrefix(tt.want, "a "), "*"); !strings.Contains(got[len(got)-1], want) {
				t.Errorf("SELECT: %q, want %q", got, want)
			}
			c.ok("NOOP")
			if got := d.received(); strings.Contains(got, "a program") || strings.Contains(got, "\nID ") != strings.Contains(tt.caps, "ID") {
				t.Errorf("the upstream got\n%s", got)
			}
		})
	}
}

// TestIdleThatTheUpstreamEnds: some servers end IDLE by themselves. The client's
// goes on, and DONE is not sent where nobody is known to wait for it; where one has
// crossed the end, the answer to it is nobody's.
func TestIdleThatTheUpstreamEnds(t *testing.T) {
	for _, tt := range []struct {
		name string
		keep time.Duration
		want string
	}{
		{"at once", time.Hour, "C: x IDLE\nS: + idling\nS: * 4 EXISTS\nC: DONE\nS: x OK ended\nC: y NOOP\nS: y OK done"},
		{"after a while", time.Nanosecond, "C: x IDLE\nS: + idling\nS: * 4 EXISTS\nS: * 5 EXISTS"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := 3
			d := (&double{answer: func(c string) string {
				if c != "IDLE" {
					return ""
				}
				if n++; n == 5 {
					return "+ idling\r\n* 5 EXISTS\r\n"
				}
				return fmt.Sprintf("+ idling\r\n* %d EXISTS\r\nTAG OK ended\r\n", n)
			}}).start(t)
			b := startBridge(t, d.addr, "up", "pw", func(c *imapd.Config, _ *imapd.Account) { c.KeepAlive = tt.keep })
			c := login(t, b.addr, user, password)
			c.waits = true
			c.ok("SELECT INBOX")
			talk(t, c, tt.want)
		})
	}
}

// TestDoneThatMeetsNoIdle: the end of IDLE by the upstream and our DONE may cross.
func TestDoneThatMeetsNoIdle(t *testing.T) {
	const idle = "C: x IDLE\nS: + idling\nC: DONE\nS: x OK ended\n"
	for _, tt := range []struct{ name, late, want string }{
		{"it is refused", "DONE BAD what\r\n", idle + "C: y NOOP\nS: y OK done\nC: z NOOP\nS: * BYE*\nS: EOF"},
		{"in small letters, with news", "* 4 EXISTS\r\ndone BAD\r\n", idle + "C: y NOOP\nS: * 4 EXISTS\nS: y OK done"},
		{"twice", "DONE BAD what\r\nDONE BAD what\r\n", idle + "C: y NOOP\nS: * BYE*\nS: EOF"},
		{"where there was none", "DONE BAD what\r\n", "C: y NOOP\nS: * BYE*\nS: EOF"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := (&double{answer: func(c string) string {
				switch c {
				case "IDLE":
					return "+ idling\r\n"
				case "DONE":
					return "TAG OK ended\r\n"
				case "NOOP": // behind the tagged line, where the order is certain
					return tt.late + "TAG OK done\r\n"
				}
				return ""
			}}).start(t)
			b := startBridge(t, d.addr, "up", "pw", nil)
			c := login(t, b.addr, user, password)
			c.ok("SELECT INBOX")
			talk(t, c, tt.want)
		})
	}
}

// TestOneMessageThatFails: a NO at the end of a FETCH may be about one message of
// many; the others are shown, encrypted ones too.
func TestOneMessageThatFails(t *testing.T) {
	o := odd{uids: []uint32{11, 12, 14, 17, 20, 21}}
	o.fetch = func(seq int, items []oddItem) string {
		if seq == 3 {
			return ""
		}
		return oneFetch(seq, items)
	}
	o.edit = func(c, r string) string {
		if strings.Contains(c, "FETCH 1:* ") {
			return strings.Replace(r, "TAG OK done", "TAG NO [SERVERBUG] some messages could not be fetched", 1)
		}
		return r
	}
	d := o.double().start(t)
	b := startBridge(t, d.addr, "up", "pw", nil)
	o.mail, _ = oddMail(t, b)
	c := login(t, b.addr, user, password)
	c.ok("SELECT INBOX")
	for range 2 {
		got := c.cmd("UID FETCH 1:* (UID BODY.PEEK[TEXT])")
		all := strings.Join(got, "\n")
		if last := got[len(got)-1]; !strings.Contains(last, "NO [SERVERBUG]") {
			t.Errorf("the end is %q", last)
		}
		if strings.Count(all, " FETCH (") != 5 || strings.Count(all, "this was secret\r\n") != 1 || !strings.Contains(all, "this was secret, and long") || strings.Contains(all, "BEGIN PGP") {
			t.Errorf("%d responses: %.300q", strings.Count(all, " FETCH ("), all)
		}
	}
}

// TestGoodbyeInTheMiddle: an upstream that hangs up within a FETCH. What came is
// whole, what didn't come isn't there, and the client is told that it is over.
func TestGoodbyeInTheMiddle(t *testing.T) {
	for _, bye := range []string{"* BYE [UNAVAILABLE] going down\r\n", "* BYE\r\n", "* 3 FETCH (UID 14 BODY[TEXT] {100}\r\nhalf of it", "* 3 FETCH (UID 14 BOD", ""} {
		o := odd{uids: []uint32{11, 12, 14, 17, 20, 21}}
		d := o.double()
		answer := d.answer
		d.answer = func(c string) string {
			r := answer(c)
			if !strings.Contains(c, "FETCH 1:*") {
				return r
			}
			at := strings.Index(r, "* 3 FETCH")
			return r[:at] + bye
		}
		d.hangs = "FETCH 1:*"
		d.start(t)
		b := startBridge(t, d.addr, "up", "pw", nil)
		o.mail, _ = oddMail(t, b)
		c := login(t, b.addr, user, password)
		c.ok("SELECT INBOX")
		c.send("x UID FETCH 1:* (UID BODY.PEEK[TEXT])\r\n")
		var all []string
		for {
			r, err := c.tryResponse()
			if err != nil {
				break
			}
			all = append(all, r)
		}
		said := strings.Join(all, "\n")
		if !strings.Contains(said, "hello") || strings.Contains(said, "half of it") && strings.Contains(said, "half of it)") || strings.Contains(said, "x OK") || strings.Contains(said, "BEGIN PGP") {
			t.Errorf("after %q: %q", bye, said)
		}
		if !strings.Contains(bye, "{100}") && !strings.Contains(said, "* BYE") {
			t.Errorf("after %q nothing says that it is over: %q", bye, said)
		}
	}
}

// TestCommandsBehindLiterals: James loses a command that it reads together with one
// that has a literal, and nobody would ever answer it.
func TestCommandsBehindLiterals(t *testing.T) {
	d := (&double{drops: true}).start(t)
	b := startBridge(t, d.addr, "up", "pw", nil)
	c := login(t, b.addr, user, password)
	c.ok("SELECT INBOX")
	var send, want strings.Builder
	for i := range 30 {
		fmt.Fprintf(&send, "p%d %s\r\n", i, []string{"CREATE {3+}\r\na b", "NOOP", "STORE 1 +FLAGS {1+}\r\nx", "LIST \"\" {1+}\r\n*", "APPEND INBOX {16+}\r\nSubject: x\r\n\r\nab"}[i%5])
		fmt.Fprintf(&want, "S: p%d OK done\n", i)
	}
	c.send(send.String())
	talk(t, c, want.String())
}

// TestNothingAtFirst: some servers give no byte of a message now and then. It is not
// taken for a plain one for ever.
func TestNothingAtFirst(t *testing.T) {
	for _, tt := range []struct{ name, value, first string }{
		{"no bytes", "{0}\r\n", "UID FETCH 1:* (UID BODY.PEEK[])"},
		{"an empty string", `""`, "UID FETCH 1:* (UID BODY.PEEK[])"},
		{"NIL", "NIL", "UID FETCH 1:* (UID BODY.PEEK[])"},
		{"no header", "{0}\r\n", "UID FETCH 1:* (UID RFC822.SIZE BODY.PEEK[HEADER.FIELDS (Subject)])"},
		{"no header, which is asked for", "NIL", "FETCH 1:* (UID BODY.PEEK[HEADER])"},
		{"no beginning", "NIL", "UID FETCH 1:* (UID BODY.PEEK[]<0.2000>)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			empty := true
			o := &odd{fetch: func(seq int, items []oddItem) string {
				for i := range items {
					if empty && seq == 2 && strings.HasPrefix(items[i].name, "BODY[") {
						items[i].value = tt.value
					}
				}
				return oneFetch(seq, items)
			}}
			b, _, secret := provider(t, o)
			c := login(t, b.addr, user, password)
			c.ok("SELECT INBOX")
			for range 2 { // as the server says it, without NO
				if got := c.ok(tt.first); len(got) < 6 || strings.Contains(strings.Join(got, ""), "BEGIN PGP") {
					t.Errorf("%q", got)
				}
			}
			empty = false
			o.checkShown(t, b, secret)
		})
	}
}

// TestNothingOfAnEncryptedMessage: of a message that is known to be encrypted nothing
// is given for a while. The others of the FETCH come, its ciphertext doesn't, and it
// is opened once it is there.
func TestNothingOfAnEncryptedMessage(t *testing.T) {
	for _, value := range []string{"{0}\r\n", "NIL", `""`} {
		empty := true
		o := &odd{fetch: func(seq int, items []oddItem) string {
			for i := range items {
				if empty && seq == 2 && items[i].name == "BODY[]" {
					items[i].value = value
				}
			}
			return oneFetch(seq, items)
		}}
		b, _, secret := provider(t, o)
		c := login(t, b.addr, user, password)
		c.ok("SELECT INBOX")
		c.ok("UID SEARCH SUBJECT x") // learns which are encrypted, and tries to look into them
		for range 2 {
			for _, command := range []string{"UID FETCH 1:* (UID FLAGS RFC822.SIZE BODY.PEEK[HEADER.FIELDS (Subject)])", "FETCH 1:* (UID BODY.PEEK[])"} {
				got := o.told(c, command)
				if len(got) != 6 || len(got["12"]) > 2 || len(got["20"]) < 2 || len(got["11"]) < 2 {
					t.Errorf("%s: %s: %.300q", value, command, got)
				}
			}
		}
		empty = false
		o.checkShown(t, b, secret)
	}
}

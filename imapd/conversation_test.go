package imapd_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"letterlock.org/letterlock/imapd"
	"letterlock.org/letterlock/imapd/index"
	"letterlock.org/letterlock/imapd/wire"
	"letterlock.org/letterlock/internal/store"
)

// double is an upstream that does as it is told.
type double struct {
	greeting string
	caps     string
	// answer gives what to send for a command, "TAG" standing for its tag;
	// "" closes the connection, "-" says nothing.
	answer func(command string) string
	// drops: a command that is read together with one that has a literal is lost.
	drops bool
	// hangs is in commands after whose answer the connection is closed.
	hangs string

	mu   sync.Mutex
	got  []string
	addr string
}

// prepare makes it ready to serve.
func (d *double) prepare() *double {
	if d.greeting == "" {
		d.greeting = "* OK hello"
	}
	if d.caps == "" {
		d.caps = "IMAP4rev1 LITERAL+ SASL-IR AUTH=PLAIN IDLE ESEARCH ENABLE CONDSTORE QRESYNC UIDPLUS MOVE"
	}
	return d
}

// start accepts sessions until the test ends.
func (d *double) start(t testing.TB) *double {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	d.prepare().addr = l.Addr().String()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { c.Close() })
			go d.serve(c)
		}
	}()
	return d
}

func (d *double) serve(c net.Conn) {
	defer c.Close()
	w := bufio.NewWriterSize(c, 1<<20) // an answer is one write
	fmt.Fprintf(w, "%s\r\n", d.greeting)
	w.Flush()
	r := wire.NewCommandReader(c, wire.Limits{})
	r.Continue = func() error { fmt.Fprint(w, "+ go\r\n"); return w.Flush() }
	idle := "" // the tag of an IDLE that is to end
	for {
		cmd, err := r.Next()
		if cmd.Tag == "DONE" && errors.Is(err, wire.ErrSyntax) {
			if idle == "" { // no command, where IDLE isn't under way
				fmt.Fprint(w, "DONE BAD what\r\n")
				w.Flush()
				continue
			}
			cmd.Tag, cmd.Rest, err = idle, []byte("DONE"), nil
			idle = ""
		}
		if err != nil {
			return
		}
		if cmd.Name == "IDLE" {
			idle = cmd.Tag
		}
		line := string(cmd.Rest)
		d.mu.Lock()
		d.got = append(d.got, line)
		d.mu.Unlock()
		reply := ""
		if d.answer != nil {
			reply = d.answer(line)
		}
		if strings.Contains(reply, "\nTAG ") {
			idle = "" // if it was IDLE, it is over
		}
		switch {
		case reply == "-":
		case reply != "":
		case cmd.Name == "CAPABILITY":
			reply = "* CAPABILITY " + d.caps + "\r\nTAG OK done\r\n"
		case cmd.Name == "SELECT", cmd.Name == "EXAMINE":
			reply = "* 3 EXISTS\r\n* OK [UIDVALIDITY 7] ok\r\nTAG OK [READ-WRITE] done\r\n"
		case cmd.Name == "UID SEARCH" && strings.Contains(line, "UID 1:*"):
			reply = "* ESEARCH (TAG \"TAG\") UID ALL 10:12\r\nTAG OK done\r\n"
		case cmd.Name == "LOGOUT":
			reply = "* BYE\r\nTAG OK done\r\n"
		default:
			reply = "TAG OK done\r\n"
		}
		if reply == "-" {
			continue
		}
		if reply == "CLOSE" {
			w.Flush()
			return
		}
		if rest, ok := strings.CutPrefix(reply, "TAG "); ok {
			reply = cmd.Tag + " " + rest
		}
		// Not in ciphertext, which may have these letters too.
		_, _ = strings.NewReplacer("\nTAG ", "\n"+cmd.Tag+" ", `"TAG"`, `"`+cmd.Tag+`"`).WriteString(w, reply)
		if r.Buffered() == 0 {
			w.Flush()
		}
		if d.drops && strings.Contains(line, "}\r\n") && r.Buffered() > 0 {
			w.Flush()
			if _, err := r.Next(); err != nil {
				return
			}
		}
		if d.hangs != "" && strings.Contains(line, d.hangs) {
			w.Flush()
			return
		}
	}
}

func (d *double) received() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return strings.Join(d.got, "\n")
}

// talk plays a conversation: lines of "C: …" are sent, those of "S: …" must come;
// "S: …*" needs the beginning only, "S: EOF" the end.
func talk(t *testing.T, c *client, conversation string) {
	t.Helper()
	for _, line := range strings.Split(strings.TrimSpace(conversation), "\n") {
		line = strings.TrimSpace(line)
		what, text := line[:3], line[min(3, len(line)):]
		text = strings.ReplaceAll(strings.TrimPrefix(text, " "), "\\r\\n", "\r\n")
		if what == "C: " || what == "C:" {
			c.send(text + "\r\n")
			continue
		}
		got, err := c.tryResponse()
		want, prefix := strings.CutSuffix(text, "*")
		switch {
		case text == "EOF":
			if err == nil {
				t.Fatalf("got %q, want the end", got)
			}
		case err != nil:
			t.Fatalf("got %v, want %q", err, text)
		case prefix && !strings.HasPrefix(got, want), !prefix && got != want:
			t.Fatalf("got %q, want %q", got, text)
		}
	}
}

func TestBeforeLogin(t *testing.T) {
	d := (&double{}).start(t)
	for _, tt := range []struct{ name, conversation string }{
		{"ID and CAPABILITY are ours", `S: * OK [CAPABILITY IMAP4rev1 LITERAL+ SASL-IR ID ENABLE IDLE AUTH=PLAIN AUTH=LOGIN] *
			C: a ID ("name" "x")
			S: * ID ("name" "Letterlock")
			S: a OK *
			C: b CAPABILITY
			S: * CAPABILITY IMAP4rev1*
			S: b OK *`},
		{"nothing else works", `S: * OK*
			C: a SELECT INBOX
			S: a BAD*
			C: b XYZZY {3+}\r\nabc
			S: b BAD*
			C: c LOGOUT
			S: * BYE*
			S: c OK*
			S: EOF`},
		{"a wrong password", `S: * OK*
			C: a LOGIN alice@example.test wrong
			S: a NO [AUTHENTICATIONFAILED]*
			C: b AUTHENTICATE PLAIN AHgAeQ==
			S: b NO [AUTHENTICATIONFAILED]*`},
		{"AUTHENTICATE PLAIN without an initial response", `S: * OK*
			C: a AUTHENTICATE PLAIN
			S: +*
			C: AGFsaWNlQGV4YW1wbGUudGVzdABsb2NhbC1wdw==
			S: a OK [CAPABILITY IMAP4rev1 LITERAL+ ID *`},
		{"AUTHENTICATE LOGIN", `S: * OK*
			C: a AUTHENTICATE LOGIN
			S: + VXNlcm5hbWU6
			C: YWxpY2VAZXhhbXBsZS50ZXN0
			S: + UGFzc3dvcmQ6
			C: bG9jYWwtcHc=
			S: a OK [CAPABILITY IMAP4rev1 LITERAL+ ID *`},
		{"AUTHENTICATE LOGIN with the user at once", `S: * OK*
			C: a authenticate login YWxpY2VAZXhhbXBsZS50ZXN0
			S: + UGFzc3dvcmQ6
			C: bG9jYWwtcHc=
			S: a OK [CAPABILITY *`},
		{"AUTHENTICATE LOGIN that goes wrong", `S: * OK*
			C: a AUTHENTICATE LOGIN
			S: + VXNlcm5hbWU6
			C: YWxpY2VAZXhhbXBsZS50ZXN0
			S: + UGFzc3dvcmQ6
			C: eA==
			S: a NO [AUTHENTICATIONFAILED]*
			C: b AUTHENTICATE LOGIN
			S: + VXNlcm5hbWU6
			C: *
			S: b BAD*
			C: c AUTHENTICATE LOGIN !!!!
			S: c BAD malformed response
			C: d AUTHENTICATE LOGIN =
			S: + UGFzc3dvcmQ6
			C: *
			S: d BAD*
			C: e AUTHENTICATE CRAM-MD5
			S: e NO [CANNOT] use PLAIN or LOGIN
			C: f NOOP
			S: f OK*`},
		{"AUTHENTICATE cancelled", `S: * OK*
			C: a AUTHENTICATE PLAIN
			S: +*
			C: *
			S: a BAD*
			C: b NOOP
			S: b OK*`},
		{"acting for another", `S: * OK*
			C: a AUTHENTICATE PLAIN Ym9iAGFsaWNlQGV4YW1wbGUudGVzdABsb2NhbC1wdw==
			S: a NO [AUTHORIZATIONFAILED]*`},
		{"LOGIN with literals", `S: * OK*
			C: a LOGIN {18}
			S: + OK
			C: alice@example.test {8+}\r\nlocal-pw
			S: a OK*`},
		{"HTTP", `S: * OK*
			C: GET / HTTP/1.1
			S: EOF`},
		{"a bare LF", "S: * OK*\nC: a NOOP\nb NOOP"},
		{"a literal too long to drain", `S: * OK*
			C: a LOGIN {1000000+}
			S: * BYE*
			S: EOF`},
		{"withheld commands", `S: * OK*
			C: a LOGIN alice@example.test local-pw
			S: a OK*
			C: b SELECT INBOX
			S: * 3 EXISTS
			S: * OK [UIDVALIDITY 7] ok
			S: b OK [READ-WRITE] done
			C: c UID SORT (SUBJECT) UTF-8 ALL
			S: c BAD*
			C: d COMPRESS DEFLATE
			S: d BAD*
			C: e FETCH 1 (BINARY[1])
			S: e BAD*
			C: f FETCH 1 (PREVIEW)
			S: f BAD*
			C: g APPEND INBOX ~{8+}\r\nx NOOP\r\n
			S: g BAD*
			C: h APPEND INBOX {2+}\r\nhi {8+}\r\nx NOOP\r\n
			S: h BAD*
			C: i SEARCH X-GM-RAW "x"
			S: i BAD*
			C: j NOOP
			S: j OK done`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := startBridge(t, d.addr, "up", "pw", nil)
			if tt.name == "a bare LF" {
				c := dial(t, b.addr)
				c.response()
				c.send("a NOOP\nb NOOP\r\n")
				talk(t, c, "S: * BYE*\nS: EOF")
				return
			}
			talk(t, dial(t, b.addr), tt.conversation)
		})
	}
	for _, never := range []string{"SORT", "COMPRESS", "BINARY", "PREVIEW", "x NOOP", "X-GM-RAW", "ID ("} {
		if strings.Contains(d.received(), never) {
			t.Errorf("the upstream got %s", never)
		}
	}
}

func TestLocked(t *testing.T) {
	b := startBridge(t, "127.0.0.1:1", "up", "pw", func(c *imapd.Config, _ *imapd.Account) { c.Locked = func() bool { return true } })
	talk(t, dial(t, b.addr), "S: * BYE [UNAVAILABLE]*\nS: EOF")
}

// TestUpstreamNotToBeTrusted checks that credentials go nowhere on a connection
// that isn't as it should be, and that a client is never asked for its password
// because of that.
func TestUpstreamNotToBeTrusted(t *testing.T) {
	for _, tt := range []struct {
		name string
		d    *double
		tls  bool
		want string
	}{
		{"PREAUTH", &double{greeting: "* PREAUTH hello"}, false, "a NO [UNAVAILABLE]*"},
		{"BYE", &double{greeting: "* BYE go away"}, false, "a NO [UNAVAILABLE]*"},
		{"garbage", &double{greeting: "HTTP/1.1 400 Bad"}, false, "a NO [UNAVAILABLE]*"},
		{"STARTTLS refused", &double{answer: func(c string) string {
			if c == "STARTTLS" {
				return "TAG NO no\r\n"
			}
			return ""
		}}, true, "a NO [UNAVAILABLE]*"},
		{"STARTTLS with answers injected", &double{answer: func(c string) string {
			if c == "STARTTLS" {
				return "TAG OK go\r\n* CAPABILITY IMAP4rev1 AUTH=PLAIN\r\nS2 OK x\r\n"
			}
			return ""
		}}, true, "a NO [UNAVAILABLE]*"},
		{"LOGINDISABLED", &double{caps: "IMAP4rev1 LOGINDISABLED"}, false, "a NO [UNAVAILABLE]*"},
		{"refused password", &double{answer: func(c string) string {
			if strings.HasPrefix(c, "AUTHENTICATE") {
				return "TAG NO [REFERRAL imap://evil.example/] no\r\n"
			}
			return ""
		}}, false, "a NO [UNAVAILABLE] the upstream server refused the stored password*"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := tt.d.start(t)
			b := startBridge(t, d.addr, "up", "upstream-secret", func(_ *imapd.Config, a *imapd.Account) {
				if tt.tls {
					a.StartTLS = &tls.Config{ServerName: "localhost"}
				}
			})
			talk(t, dial(t, b.addr), "S: * OK*\nC: a LOGIN alice@example.test local-pw\nS: "+tt.want+"\nC: b NOOP\nS: b OK*")
			if got := d.received(); tt.name != "refused password" && (strings.Contains(got, "AUTHENTICATE") || strings.Contains(got, "LOGIN ")) {
				t.Errorf("credentials were sent: %q", got)
			}
		})
	}
	t.Run("not there", func(t *testing.T) {
		b := startBridge(t, "127.0.0.1:1", "up", "pw", nil)
		talk(t, dial(t, b.addr), "S: * OK*\nC: a LOGIN alice@example.test local-pw\nS: a NO [UNAVAILABLE]*")
	})
}

// TestHostileUpstream checks what an upstream can say without harm to us, and
// what ends the session.
func TestHostileUpstream(t *testing.T) {
	for _, tt := range []struct{ name, command, answer, want string }{
		{"an EXPUNGE during FETCH waits", "FETCH 1 (FLAGS)", "* 2 EXPUNGE\r\n* 2 FETCH (FLAGS (\\Seen))\r\nTAG OK done\r\n",
			"S: * 3 FETCH (FLAGS (\\Seen))\nS: x OK done\nC: y NOOP\nS: * 2 EXPUNGE\nS: y OK done"},
		{"an EXPUNGE during UID FETCH passes", "UID FETCH 10 (FLAGS)", "* 2 EXPUNGE\r\nTAG OK done\r\n", "S: * 2 EXPUNGE\nS: x OK done"},
		{"numbers are translated while it waits", "STORE 1 +FLAGS (x)", "* 2 EXPUNGE\r\n* 4 EXISTS\r\nTAG OK done\r\n",
			"S: * 5 EXISTS\nS: x OK done\nC: y FETCH 3 (FLAGS)\nS: y OK done\nC: z NOOP\nS: * 2 EXPUNGE\nS: z OK done"},
		{"VANISHED becomes what the client knows", "UID FETCH 10 (FLAGS)", "* VANISHED 11\r\nTAG OK done\r\n", "S: * 2 EXPUNGE\nS: x OK done"},
		{"a mailbox that shrinks", "NOOP", "* 1 EXISTS\r\nTAG OK done\r\n", "S: * BYE*\nS: EOF"},
		{"an EXPUNGE of nothing", "NOOP", "* 9 EXPUNGE\r\n", "S: * BYE*\nS: EOF"},
		{"an EXPUNGE as Mailutils spells it", "NOOP", "* 2 EXPUNGED\r\n* 2 EXISTS\r\nTAG OK done\r\n", "S: * 2 EXPUNGE\nS: * 2 EXISTS\nS: x OK done"},
		{"a UID that changes", "FETCH 1 (UID FLAGS)", "* 1 FETCH (UID 99 FLAGS ())\r\nTAG OK done\r\n", "S: * BYE*\nS: EOF"},
		{"a UIDVALIDITY that changes", "NOOP", "* OK [UIDVALIDITY 8] x\r\n", "S: * BYE*\nS: EOF"},
		{"items without end", "UID FETCH 10 (BODY.PEEK[])", "* 1 FETCH (" + strings.Repeat("INTERNALDATE \"x\" ", 200) + "UID 10)\r\n", "S: * BYE*\nS: EOF"},
		{"a FETCH of nothing", "FETCH 1 (FLAGS)", "* 9 FETCH (FLAGS ())\r\n", "S: * BYE*\nS: EOF"},
		{"a FETCH that is none", "FETCH 1 (FLAGS)", "* 1 FETCH FLAGS\r\n", "S: * BYE*\nS: EOF"},
		{"an item without end", "FETCH 1 (FLAGS)", "* 1 FETCH (FLAGS (x) ENVELOPE (((((((\r\n* 2 FETCH (FLAGS \r\nTAG OK done\r\n", "S: * 1 FETCH (FLAGS (x))\nS: x OK done"},
		{"an item whose end nobody knows", "FETCH 1 (FLAGS)", "* 1 FETCH (ENVELOPE (\"x {3}\r\nabc)\r\nTAG OK done\r\n", "S: * BYE*\nS: EOF"},
		{"nesting", "FETCH 1 (FLAGS)", "* 1 FETCH (ENVELOPE " + strings.Repeat("(", 5000) + "\r\nTAG OK done\r\n", "S: x OK done"},
		{"a literal of no size", "FETCH 1 (FLAGS)", "* 1 FETCH (BODY[] {99999999999999999999}\r\n", "S: * BYE*\nS: EOF"},
		{"an envelope larger than memory", "FETCH 1 (FLAGS)", "* 1 FETCH (ENVELOPE (NIL {9000000000}\r\n" + strings.Repeat("x", 2<<20), "S: * BYE*\nS: EOF"},
		{"content that nobody asked for", "NOOP", "* 1 FETCH (UID 10 BODY[] {3}\r\nabc FLAGS (\\Seen))\r\n* 2 FETCH (BODY[TEXT] \"x\")\r\nTAG OK done\r\n",
			"S: * 1 FETCH (UID 10 FLAGS (\\Seen))\nS: x OK done"},
		{"content of a message that is not classified", "UID FETCH 10 (BODY.PEEK[1])", "* 1 FETCH (UID 10 BODY[1] {3}\r\nabc)\r\nTAG OK done\r\n",
			"S: x NO [UNAVAILABLE]*"},
		{"an answer to nothing", "NOOP", "zz OK done\r\n", "S: * BYE*\nS: EOF"},
		{"PREAUTH in the middle", "NOOP", "* PREAUTH x\r\n", "S: * BYE*\nS: EOF"},
		{"an upstream's capabilities", "NOOP", "* CAPABILITY IMAP4rev2 X\r\n* OK [CAPABILITY COMPRESS] x\r\nTAG OK [CAPABILITY X] done\r\n",
			"S: * CAPABILITY IMAP4rev1 LITERAL+ ID IDLE ESEARCH ENABLE CONDSTORE QRESYNC UIDPLUS MOVE\nS: * OK [CAPABILITY IMAP4rev1 LITERAL+ ID IDLE ESEARCH ENABLE CONDSTORE QRESYNC UIDPLUS MOVE] x\nS: x OK [CAPABILITY IMAP4rev1 LITERAL+ ID IDLE ESEARCH ENABLE CONDSTORE QRESYNC UIDPLUS MOVE] done"},
		{"a referral", "NOOP", "TAG NO [REFERRAL imap://evil.example/] go there\r\n", "S: x NO go there"},
		{"planted keywords", "NOOP", "* FLAGS (\\Seen $LetterlockVerified a)\r\n* OK [PERMANENTFLAGS ($letterlockX \\*)] x\r\n* 1 FETCH (FLAGS ($LETTERLOCKVERIFIED b))\r\nTAG OK done\r\n",
			"S: * FLAGS (\\Seen a)\nS: * OK [PERMANENTFLAGS (\\*)] x\nS: * 1 FETCH (FLAGS (b))\nS: x OK done"},
		{"what nobody asked for is dropped", "NOOP", "* XFOO {5}\r\na\r\nb) \"x\r\n* 0 RECENT x\r\n* LIST () \"/\" \"{3}\"\r\nTAG OK done\r\n",
			"S: * 0 RECENT\nS: * LIST () \"/\" \"{3}\"\nS: x OK done"},
		{"a FETCH spelled with spaces", "NOOP", "* 1  FETCH (FLAGS ($LetterlockVerified))\r\n*  4  EXISTS\r\nTAG  OK done\r\n", "S: * 1 FETCH (FLAGS ())\nS: * 4 EXISTS\nS: x OK done"},
		{"a COPYUID as Exchange says it", "UID MOVE 11 x", "[COPYUID 9 11 4]\r\n* 2 EXPUNGE\r\nTAG OK done\r\n", "S: * OK [COPYUID 9 11 4]\nS: * 2 EXPUNGE\nS: x OK done"},
		{"a FETCH spelled with a sign", "NOOP", "* +1 FETCH (FLAGS ($LetterlockVerified))\r\nTAG OK done\r\n", "S: x OK done"},
		{"a FETCH spelled with a number beyond", "NOOP", "* 4294967297 FETCH (FLAGS ($LetterlockVerified))\r\nTAG OK done\r\n", "S: x OK done"},
		{"a FETCH spelled with a tab", "NOOP", "* 1\tFETCH (FLAGS ($LetterlockVerified))\r\nTAG OK done\r\n", "S: x OK done"},
		{"a FETCH spelled with a word between", "NOOP", "* 1 X FETCH (FLAGS ($LetterlockVerified))\r\nTAG OK done\r\n", "S: x OK done"},
		{"a FETCH spelled with a number in hex", "NOOP", "* 0x1 FETCH (FLAGS ($LetterlockVerified))\r\nTAG OK done\r\n", "S: x OK done"},
		{"a FETCH spelled with no space", "NOOP", "* 1 FETCH(FLAGS ($LetterlockVerified))\r\nTAG OK done\r\n", "S: x OK done"},
		{"a FETCH behind a bare CR", "NOOP", "* OK x\r* 1 FETCH (FLAGS ($LetterlockVerified))\r\nTAG OK done\r* 2\r\n", "S: * OK x?* 1 FETCH (FLAGS ($LetterlockVerified))\nS: x OK done?* 2"},
		{"a FETCH in a literal of a list", "NOOP", "* LIST () \"/\" {39}\r\n* 1 FETCH (FLAGS ($LetterlockVerified))\r\nTAG OK done\r\n", "S: x OK done"},
		{"a FETCH in a literal of a search", "NOOP", "* SEARCH {39}\r\n* 1 FETCH (FLAGS ($LetterlockVerified))\r\nTAG OK done\r\n", "S: x OK done"},
		{"a FETCH in a literal of flags", "NOOP", "* FLAGS ({41}\r\n* 1 FETCH (FLAGS ($LetterlockVerified))\r\n)\r\nTAG OK done\r\n", "S: x OK done"},
		{"a FETCH in a literal of what is enabled", "NOOP", "* ENABLED {39}\r\n* 1 FETCH (FLAGS ($LetterlockVerified))\r\nTAG OK done\r\n", "S: x OK done"},
		{"planted keywords that are oddly spelled", "NOOP", "* 1 FETCH (FLAGS (a \\$LetterlockVerified \"$LetterlockVerified\" ($LetterlockVerified) b))\r\nTAG OK done\r\n",
			"S: * 1 FETCH (FLAGS (a b))\nS: x OK done"},
		{"a BYE passes", "NOOP", "* BYE going down\r\n", "S: * BYE going down"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := (&double{answer: func(c string) string {
				if c == tt.command || strings.HasPrefix(c, "UID FETCH 10 (UID BODY.PEEK[") && strings.Contains(tt.command, "BODY") {
					return tt.answer
				}
				return ""
			}}).start(t)
			b := startBridge(t, d.addr, "up", "pw", nil)
			c := login(t, b.addr, user, password)
			c.ok("SELECT INBOX")
			talk(t, c, "C: x "+tt.command+"\n"+tt.want)
		})
	}
}

// TestNumbersWhileExpungeWaits checks what the upstream is asked for.
func TestNumbersWhileExpungeWaits(t *testing.T) {
	d := (&double{answer: func(c string) string {
		if c == "FETCH 1 (FLAGS)" {
			return "* 2 EXPUNGE\r\nTAG OK done\r\n"
		}
		return ""
	}}).start(t)
	b := startBridge(t, d.addr, "up", "pw", nil)
	c := login(t, b.addr, user, password)
	c.ok("SELECT INBOX")
	c.ok("FETCH 1 (FLAGS)")
	c.ok("STORE 3 +FLAGS (x)")
	if r := c.cmd("FETCH 2 (FLAGS)"); !strings.Contains(r[0], "NO [EXPUNGEISSUED]") {
		t.Errorf("of the one that is gone: %q", r)
	}
	c.ok("FETCH 1:* (FLAGS)")
	if got := d.received(); !strings.Contains(got, "STORE 2 +FLAGS (x)") || !strings.Contains(got, "FETCH 1:2 (FLAGS)") {
		t.Errorf("upstream got:\n%s", got)
	}
}

// TestSearchWhileExpungeWaits: a SEARCH in which the client names and is told
// its own numbers.
func TestSearchWhileExpungeWaits(t *testing.T) {
	for _, tt := range []struct{ client, upstream, answer, want string }{
		{"SEARCH ALL", "SEARCH ALL", "* SEARCH 1 2 (MODSEQ 9)", "* SEARCH 1 3 (MODSEQ 9)"},
		{"SEARCH 3", "SEARCH 2", "* SEARCH 2", "* SEARCH 3"},
		{"SEARCH 2:*", "SEARCH 2", "* SEARCH 2", "* SEARCH 3"},
		{"SEARCH OR 2 SUBJECT 2", "SEARCH OR NOT ALL SUBJECT 2", "* SEARCH", "* SEARCH"},
		{"SEARCH RETURN (MIN MAX COUNT ALL) ALL", "SEARCH RETURN (MIN MAX COUNT ALL) ALL", "* ESEARCH (TAG \"TAG\") MIN 1 MAX 2 COUNT 2 ALL 1:2",
			"* ESEARCH (TAG \"x\") MIN 1 MAX 3 COUNT 2 ALL 1,3"},
		{"UID SEARCH 3", "UID SEARCH 2", "* SEARCH 12", "* SEARCH 12"},
	} {
		t.Run(tt.client, func(t *testing.T) {
			d := (&double{answer: func(c string) string {
				switch {
				case c == "FETCH 1 (FLAGS)":
					return "* 2 EXPUNGE\r\nTAG OK done\r\n"
				case strings.Contains(c, "UID SEARCH RETURN (ALL) UID 1:*"):
					return "* ESEARCH (TAG \"TAG\") UID ALL 10:12\r\nTAG OK done\r\n"
				case strings.HasPrefix(c, "SEARCH"), strings.HasPrefix(c, "UID SEARCH 2"), strings.HasPrefix(c, "UID SEARCH 3"):
					return tt.answer + "\r\nTAG OK done\r\n"
				}
				return ""
			}}).start(t)
			b := startBridge(t, d.addr, "up", "pw", nil)
			if err := classifyPlain(b, 7, 10, 11, 12); err != nil {
				t.Fatal(err)
			}
			c := login(t, b.addr, user, password)
			c.ok("SELECT INBOX")
			c.ok("FETCH 1 (FLAGS)")
			want := "C: x " + tt.client + "\nS: " + tt.want + "\nS: x OK done\nC: y NOOP\nS: * 2 EXPUNGE\nS: y OK done"
			if strings.HasPrefix(tt.client, "UID") { // RFC 3501, Section 7.4.1: during UID SEARCH it may be told
				want = "C: x " + tt.client + "\nS: " + tt.want + "\nS: * 2 EXPUNGE\nS: x OK done"
			}
			talk(t, c, want)
			if got := d.received() + "\n"; !strings.Contains(got, "\n"+tt.upstream+"\n") {
				t.Errorf("upstream got:\n%s", got)
			}
		})
	}
}

// classifyPlain tells the library of messages in INBOX that are plain.
func classifyPlain(b *bridge, uidvalidity uint32, uids ...uint32) error {
	m, err := b.library.Mailbox(context.Background(), "INBOX", uidvalidity)
	if err != nil {
		return err
	}
	defer m.Close()
	var found []index.Classification
	for _, uid := range uids {
		found = append(found, index.Classification{UID: uid, Header: []byte("Content-Type: text/html\r\n\r\n")})
	}
	return m.Classify(context.Background(), found)
}

// TestPipelining checks that answers come in the order of commands, local ones
// among them, at a depth of 50.
func TestPipelining(t *testing.T) {
	d := (&double{}).start(t)
	b := startBridge(t, d.addr, "up", "pw", nil)
	c := login(t, b.addr, user, password)
	c.ok("SELECT INBOX")
	var send strings.Builder
	for i := range 50 {
		fmt.Fprintf(&send, "p%d %s\r\n", i, []string{"NOOP", "XYZ", "UID FETCH 10 (FLAGS)", "ID NIL", "STORE 1 +FLAGS {1+}\r\nx", "SEARCH ALL", "SELECT INBOX", "UID SEARCH SUBJECT x", "CAPABILITY"}[i%9])
	}
	c.send(send.String())
	for next := 0; next < 50; {
		r := c.response()
		if strings.HasPrefix(r, "*") {
			continue
		}
		if !strings.HasPrefix(r, fmt.Sprintf("p%d ", next)) {
			t.Fatalf("got %q, want the answer to p%d", r, next)
		}
		next++
	}
}

// TestLiteralsWithoutLiteralPlus checks that clients may use LITERAL+ whatever
// the upstream has.
func TestLiteralsWithoutLiteralPlus(t *testing.T) {
	d := (&double{caps: "IMAP4rev1"}).start(t)
	b := startBridge(t, d.addr, "up", "pw", func(_ *imapd.Config, a *imapd.Account) { a.Append = imapd.AppendNone })
	c := login(t, b.addr, user, password)
	c.ok("CREATE {3+}\r\na b")
	c.upload("INBOX", "", []byte("Subject: x\r\n\r\nhi\r\n"))
	if got := d.received(); !strings.Contains(got, "CREATE {3}\r\na b") || !strings.Contains(got, "APPEND INBOX {18}\r\nSubject: x") {
		t.Errorf("upstream got:\n%s", got)
	}
}

// TestKeepAlive checks that a client that waits long hears from us.
func TestKeepAlive(t *testing.T) {
	release := make(chan struct{})
	d := (&double{answer: func(c string) string {
		if strings.HasPrefix(c, "UID FETCH") {
			<-release
		}
		return ""
	}}).start(t)
	b := startBridge(t, d.addr, "up", "pw", func(c *imapd.Config, _ *imapd.Account) { c.KeepAlive = 20 * time.Millisecond })
	c := login(t, b.addr, user, password)
	c.ok("SELECT INBOX")
	c.send("x UID FETCH 10 (FLAGS)\r\n")
	for range 3 {
		if r := c.response(); r != "* OK still working" {
			t.Fatal(r)
		}
	}
	close(release)
	c.until("x")
}

// TestKeepAliveOfOurOwnWork checks that a client hears from us, too, while nothing is
// asked of the upstream: here a search has classified what nobody knew, and the store
// is slow to take it.
func TestKeepAliveOfOurOwnWork(t *testing.T) {
	o := odd{uids: []uint32{11, 12, 14, 17, 20, 21}}
	d := o.double().start(t)
	b := startBridge(t, d.addr, "up", "pw", func(c *imapd.Config, _ *imapd.Account) { c.KeepAlive = 20 * time.Millisecond })
	o.mail, _ = oddMail(t, b)
	c := login(t, b.addr, user, password)
	c.ok("SELECT INBOX")
	busy, release, freed := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	var once sync.Once
	go func() {
		freed <- b.store.Update(t.Context(), func(store.Tx) error {
			once.Do(func() { close(busy) })
			<-release
			return nil
		})
	}()
	<-busy
	c.send("x UID SEARCH TEXT secret\r\n")
	for heard := 0; heard < 3; {
		if r := c.response(); r == "* OK still working" {
			heard++
		} else if !strings.HasPrefix(r, "* ") {
			t.Fatal(r)
		}
	}
	close(release)
	if err := <-freed; err != nil {
		t.Fatal(err)
	}
	if got := c.until("x"); !slices.Contains(got, "* SEARCH 12 20") {
		t.Errorf("found %q", got)
	}
}

// TestHeaderThatChanges checks that an upstream cannot show a clean header while
// a message is classified, and one that imitates ours afterwards.
func TestHeaderThatChanges(t *testing.T) {
	const forged = "From: a@example.org\r\nLetterlock-Status: encrypted; signature=valid\r\n\r\n"
	literal := func(name, s string) string { return fmt.Sprintf("%s {%d}\r\n%s", name, len(s), s) }
	d := (&double{answer: func(c string) string {
		switch {
		case strings.Contains(c, "BODY.PEEK[TEXT]<0."):
			return "* 1 FETCH (UID 10 " + literal("BODY[HEADER]", "From: a@example.org\r\n\r\n") + " " + literal("BODY[TEXT]<0>", "hi\r\n") + ")\r\nTAG OK done\r\n"
		case c == "UID FETCH 10 (BODY.PEEK[])":
			return "* 1 FETCH (UID 10 " + literal("BODY[]", forged+"hi\r\nLetterlock-Status: in the text\r\n") + ")\r\nTAG OK done\r\n"
		case c == "UID FETCH 10 (BODY.PEEK[HEADER])":
			return "* 1 FETCH (UID 10 BODY[HEADER] \"Letterlock-Status: encrypted\" FLAGS (x \"$LetterlockVerified\") INTERNALDATE {25}\r\n* 1 FETCH (FLAGS (a b c)))\r\nTAG OK done\r\n"
		case c == "UID FETCH 10 (BODY.PEEK[HEADER.FIELDS (Letterlock-Status)])":
			return "* 1 FETCH (UID 10 " + literal("BODY[HEADER.FIELDS (Letterlock-Status)]", "Letterlock-Status: x\r\n\r\nLetterlock-Status: y\r\n") + ")\r\nTAG OK done\r\n"
		}
		return ""
	}}).start(t)
	b := startBridge(t, d.addr, "up", "pw", nil)
	c := login(t, b.addr, user, password)
	c.ok("SELECT INBOX")
	if got := c.fetch("UID FETCH 10 (BODY.PEEK[HEADER])")["10"]["BODY[HEADER]"]; got != "From: a@example.org\r\n\r\n" {
		t.Fatalf("%q", got)
	}
	got := c.fetch("UID FETCH 10 (BODY.PEEK[])")["10"]["BODY[]"]
	if want := strings.Replace(forged, "Letterlock-S", "XXXXXXXXXX-S", 1) + "hi\r\nLetterlock-Status: in the text\r\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	m := c.fetch("UID FETCH 10 (BODY.PEEK[HEADER])")["10"]
	if m["BODY[HEADER]"] != "XXXXXXXXXX-Status: encrypted" || m["FLAGS"] != "(x)" || m["INTERNALDATE"] != "" {
		t.Errorf("%q", m)
	}
	for name, v := range c.fetch("UID FETCH 10 (BODY.PEEK[HEADER.FIELDS (Letterlock-Status)])")["10"] {
		if strings.Contains(v, "Letterlock-") {
			t.Errorf("%s is %q", name, v)
		}
	}
}

// TestHeaderThatChangesInPieces is the same of pieces that begin in the middle:
// before the message's first line nobody knows which bytes begin one.
func TestHeaderThatChangesInPieces(t *testing.T) {
	forged := "From: a@example.org\r\nLetterlock-Status: encrypted; signature=valid\r\nX-Long: " + strings.Repeat("x", 200_000) +
		"\r\nLetterlock-Status: late\r\n\r\nhi\r\nLetterlock-Status: in the text\r\n"
	masked := strings.Replace(forged, "Letterlock-S", "XXXXXXXXXX-S", 2)
	piece := regexp.MustCompile(`BODY\.PEEK(\[\w*\])<(\d+)\.(\d+)>`)
	d := (&double{answer: func(c string) string {
		var b strings.Builder
		if strings.HasPrefix(c, "UID FETCH 10 (UID BODY.PEEK[HEADER] ") {
			b.WriteString(" BODY[HEADER] {6}\r\na:\r\n\r\n BODY[TEXT]<0> \"hi\"")
			c = strings.Replace(c, "BODY.PEEK[TEXT]<", "", 1)
		}
		for _, m := range piece.FindAllStringSubmatch(c, -1) {
			from, _ := strconv.Atoi(m[2])
			n, _ := strconv.Atoi(m[3])
			text := forged[min(from, len(forged)):min(from+n, len(forged))]
			fmt.Fprintf(&b, " BODY%s<%d> {%d}\r\n%s", m[1], from, len(text), text)
		}
		if b.Len() == 0 {
			return ""
		}
		return "* 1 FETCH (UID 10" + b.String() + ")\r\nTAG OK done\r\n"
	}}).start(t)
	for _, tt := range []struct{ name, items string }{
		{"from the middle of the first line", "BODY.PEEK[]<10.2000>"},
		{"from the imitation on", "BODY.PEEK[]<21.2000>"},
		{"from its second letter on", "BODY.PEEK[]<22.2000>"},
		{"of the header", "BODY.PEEK[HEADER]<20.400>"},
		{"two at once", "BODY.PEEK[]<10.2000> BODY.PEEK[]<21.30>"},
		{"two with one from the start", "BODY.PEEK[]<0.25> BODY.PEEK[]<21.30>"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := startBridge(t, d.addr, "up", "pw", nil)
			c := login(t, b.addr, user, password)
			c.ok("SELECT INBOX")
			for _, when := range []string{"first", "second"} {
				var want []string
				for _, m := range piece.FindAllStringSubmatch(tt.items, -1) {
					from, _ := strconv.Atoi(m[2])
					n, _ := strconv.Atoi(m[3])
					text := masked[from:min(from+n, len(masked))]
					want = append(want, fmt.Sprintf("BODY%s<%d> {%d}\r\n%s", m[1], from, len(text), text))
				}
				got := strings.Join(c.ok("UID FETCH 10 ("+tt.items+")"), "\n")
				for _, w := range want {
					if !strings.Contains(got, w) {
						t.Errorf("%s contact: got %.300q, want %.300q", when, got, w)
					}
				}
			}
		})
	}
	t.Run("one after the other", func(t *testing.T) {
		b := startBridge(t, d.addr, "up", "pw", nil)
		c := login(t, b.addr, user, password)
		c.ok("SELECT INBOX")
		var all strings.Builder
		for at := 0; at < len(forged); at += 65536 {
			got := c.fetch(fmt.Sprintf("UID FETCH 10 (BODY.PEEK[]<%d.65536>)", at))["10"]
			all.WriteString(got[fmt.Sprintf("BODY[]<%d>", at)])
		}
		if all.String() != masked {
			t.Errorf("%d bytes, want %d; the end is %q", all.Len(), len(masked), all.String()[max(0, all.Len()-100):])
		}
	})
}

// TestNoUIDVALIDITY checks that a mailbox of which nothing can be remembered is
// not shown at all.
func TestNoUIDVALIDITY(t *testing.T) {
	d := (&double{answer: func(c string) string {
		if strings.HasPrefix(c, "SELECT") {
			return "* 3 EXISTS\r\n* OK [UIDVALIDITY x] y\r\nTAG OK [READ-WRITE] done\r\n"
		}
		return ""
	}}).start(t)
	b := startBridge(t, d.addr, "up", "pw", nil)
	c := login(t, b.addr, user, password)
	if r := c.cmd("SELECT INBOX"); !strings.Contains(r[len(r)-1], "NO [UNAVAILABLE]") {
		t.Errorf("%q", r)
	}
	if r := c.cmd("FETCH 1 (BODY[])"); !strings.Contains(r[0], "BAD") {
		t.Errorf("%q", r)
	}
}

// TestIndexNotReadable checks that a store that fails ends a SELECT, and not the
// session.
func TestIndexNotReadable(t *testing.T) {
	d := (&double{}).start(t)
	b := startBridge(t, d.addr, "up", "pw", nil)
	c := login(t, b.addr, user, password)
	if err := b.library.Close(); err != nil {
		t.Fatal(err)
	}
	if r := c.cmd("SELECT INBOX"); !strings.Contains(r[len(r)-1], "NO [UNAVAILABLE] the index") {
		t.Errorf("%q", r)
	}
	c.ok("NOOP")
}

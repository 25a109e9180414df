package wire_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"letterlock.org/letterlock/smtpd/wire"
)

func TestParseCommand(t *testing.T) {
	for _, tt := range []struct{ name, in, verb, args string }{
		{"a name only", "QUIT", "QUIT", ""},
		{"small letters", "mail from:<a@b>", "MAIL", "from:<a@b>"},
		{"white space after it", "RSET  ", "RSET", ""},
		{"an unknown one", "Foo bar", "FOO", "bar"},
		{"UTF-8", "RCPT TO:<ä@b>", "RCPT", "TO:<ä@b>"},
		{"white space before it", " QUIT", "", ""},
		{"a tabulator", "NOOP\tx", "", ""},
		{"a NUL", "NOOP \x00", "", ""},
		{"no UTF-8", "NOOP \xff", "", ""},
		{"digits", "A1", "", ""},
		{"nothing", "", "", ""},
		{"a long one", strings.Repeat("A", 17), "", ""},
	} {
		got, err := wire.ParseCommand([]byte(tt.in))
		if got.Verb != tt.verb || got.Args != tt.args || (err != nil) != (tt.verb == "") {
			t.Errorf("%s: got %q, %v", tt.name, got, err)
		}
	}
}

func TestParsePath(t *testing.T) {
	for _, tt := range []struct {
		name, in, mailbox, rest string
		bad                     bool
	}{
		{"a path", "FROM:<a@b.example>", "a@b.example", "", false},
		{"small letters and a space", "from: <a@b.example> SIZE=1", "a@b.example", "SIZE=1", false},
		{"the null path", "FROM:<>", "", "", false},
		{"a quoted local part", `FROM:<"a b>\""@c.example> X`, `"a b>\""@c.example`, "X", false},
		{"a source route", "FROM:<@x.example,@y.example:a@b.example>", "a@b.example", "", false},
		{"a source route without an end", "FROM:<@x.example>", "", "", true},
		{"without brackets", "FROM: a@b.example SIZE=1", "a@b.example", "SIZE=1", false},
		{"quotes without brackets", `FROM:"a b"@c.example`, "", "", true},
		{"two addresses without brackets", "FROM:a@b.example,c@d.example", "", "", true},
		{"a closing bracket only", "FROM:a@b.example>", "", "", true},
		{"without a closing bracket", "FROM:<a@b.example", "", "", true},
		{"a space inside", "FROM:<a b@c.example>", "", "", true},
		{"two opening brackets", "FROM:<<a@c.example>", "", "", true},
		{"something after the bracket", "FROM:<a@b.example>SIZE=1", "", "", true},
		{"another word", "TO:<a@b.example>", "", "", true},
		{"no colon", "FROM <a@b.example>", "", "", true},
		{"nothing", "", "", "", true},
	} {
		m, rest, err := wire.ParsePath("FROM", tt.in)
		if m != tt.mailbox || rest != tt.rest || (err != nil) != tt.bad {
			t.Errorf("%s: got %q, %q, %v", tt.name, m, rest, err)
		}
	}
}

func TestParseMailParams(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		want     wire.MailParams
		err      error
	}{
		{"none", "", wire.MailParams{}, nil},
		{"all", "SIZE=10 body=8bitmime SMTPUTF8 RET=hdrs ENVID=a+2Bb AUTH=<>", wire.MailParams{Size: 10, Body: wire.Body8Bit, UTF8: true, Return: "HDRS", EnvelopeID: "a+b", Auth: "<>"}, nil},
		{"a size beyond counting", "SIZE=99999999999999999999", wire.MailParams{Size: 1<<63 - 1}, nil},
		{"a size that is none", "SIZE=-1", wire.MailParams{}, wire.ErrSyntax},
		{"BINARYMIME, which we don't have", "BODY=BINARYMIME", wire.MailParams{}, wire.ErrSyntax},
		{"twice", "SIZE=1 size=2", wire.MailParams{}, wire.ErrSyntax},
		{"a value where none belongs", "SMTPUTF8=1", wire.MailParams{}, wire.ErrSyntax},
		{"no value where one belongs", "SIZE=", wire.MailParams{}, wire.ErrSyntax},
		{"small hex digits", "ENVID=a+2b", wire.MailParams{}, wire.ErrSyntax},
		{"a line end in xtext", "ENVID=a+0D+0Ab", wire.MailParams{}, wire.ErrSyntax},
		{"an unknown one", "MT-PRIORITY=3", wire.MailParams{}, wire.ErrParameter},
		{"garbage", "=x", wire.MailParams{}, wire.ErrSyntax},
	} {
		got, err := wire.ParseMailParams(tt.in)
		if !errors.Is(err, tt.err) || err == nil && got != tt.want {
			t.Errorf("%s: got %+v, %v", tt.name, got, err)
		}
	}
}

func TestParseRcptParams(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		want     wire.RcptParams
		err      error
	}{
		{"all", "NOTIFY=success,DELAY ORCPT=rfc822;a+2Bb@c", wire.RcptParams{Notify: "SUCCESS,DELAY", ORCPT: "rfc822;a+2Bb@c"}, nil},
		{"beyond ASCII", "ORCPT=utf-8;ä@c", wire.RcptParams{ORCPT: "utf-8;ä@c"}, nil},
		{"never", "NOTIFY=NEVER", wire.RcptParams{Notify: "NEVER"}, nil},
		{"never and now", "NOTIFY=NEVER,DELAY", wire.RcptParams{}, wire.ErrSyntax},
		{"twice the same", "NOTIFY=DELAY,DELAY", wire.RcptParams{}, wire.ErrSyntax},
		{"no type", "ORCPT=a@c", wire.RcptParams{}, wire.ErrSyntax},
		{"no xtext", "ORCPT=rfc822;a+b@c", wire.RcptParams{}, wire.ErrSyntax},
		{"unknown", "RRVS=1", wire.RcptParams{}, wire.ErrParameter},
	} {
		got, err := wire.ParseRcptParams(tt.in)
		if !errors.Is(err, tt.err) || err == nil && got != tt.want {
			t.Errorf("%s: got %+v, %v", tt.name, got, err)
		}
	}
}

func TestAppendReply(t *testing.T) {
	for _, tt := range []struct {
		name   string
		status string
		lines  []string
		want   string
	}{
		{"a line", "2.0.0", []string{"ok"}, "250 2.0.0 ok\r\n"},
		{"several", "", []string{"a", "b"}, "250-a\r\n250 b\r\n"},
		{"what would be another reply", "2.0.0", []string{"x\r\n250 y"}, "250 2.0.0 x??250 y\r\n"},
	} {
		if got := string(wire.AppendReply(nil, 250, tt.status, tt.lines...)); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

// FuzzCommand: whatever a client says, what comes out has no control characters
// and can be written into a command of ours.
func FuzzCommand(f *testing.F) {
	for _, s := range []string{"MAIL FROM:<a@b> SIZE=1 AUTH=<>", `RCPT TO:<"a b"@c> NOTIFY=NEVER ORCPT=rfc822;a+2Bb`, "RCPT TO:<@a:b@c>", "XCLIENT ADDR=IPV6:::1 NAME=[UNAVAILABLE]", "MAIL FROM:<\"\\\"> X"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		c, err := wire.ParseCommand(line)
		if err != nil {
			return
		}
		safe := func(s string) {
			if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) || !utf8.ValidString(s) {
				t.Errorf("%q gives %q", line, s)
			}
		}
		safe(c.Verb)
		for _, k := range []string{"FROM", "TO"} {
			m, rest, err := wire.ParsePath(k, c.Args)
			if err != nil {
				continue
			}
			safe(m)
			if p, err := wire.ParseMailParams(rest); err == nil {
				safe(p.EnvelopeID + p.Return + p.Auth)
			}
			if p, err := wire.ParseRcptParams(rest); err == nil {
				safe(p.ORCPT + p.Notify)
				if strings.ContainsAny(p.ORCPT, " <>") && strings.Contains(p.ORCPT, " ") {
					t.Errorf("%q gives ORCPT %q", line, p.ORCPT)
				}
			}
		}
		as, _ := wire.ParseAttributes(c.Args) // what was read before an error counts too
		for _, a := range as {
			safe(a.Name + a.Value)
		}
		if back, ok := wire.ParseXtext(string(wire.AppendXtext(nil, c.Args))); !ok || back != c.Args {
			t.Errorf("%q came back from xtext as %q", c.Args, back)
		}
		if r := wire.AppendReply(nil, 250, "", string(line)); bytes.Count(r, []byte("\n")) != 1 || !bytes.HasSuffix(r, []byte("\r\n")) {
			t.Errorf("reply %q", r)
		}
	})
}

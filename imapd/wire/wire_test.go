package wire_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"letterlock.org/letterlock/imapd/wire"
)

// read reads all commands of s and writes them in a form that a table can hold.
func read(t *testing.T, s string, l wire.Limits) string {
	t.Helper()
	r := wire.NewCommandReader(strings.NewReader(s), l)
	r.Continue = func() error { return nil }
	r.Stream = func(name string, args []wire.Token) bool { return name == "APPEND" && len(args) >= 1 }
	var out []string
	for {
		c, err := r.Next()
		switch {
		case errors.Is(err, io.EOF):
			return strings.Join(out, "; ")
		case errors.Is(err, wire.ErrSyntax):
			out = append(out, c.Tag+" syntax")
		case errors.Is(err, wire.ErrTooBig):
			out = append(out, c.Tag+" big")
		case errors.Is(err, wire.ErrLiteral8):
			out = append(out, c.Tag+" literal8")
		case errors.Is(err, wire.ErrDesync):
			return strings.Join(append(out, "desync"), "; ")
		case err != nil:
			return strings.Join(append(out, err.Error()), "; ")
		default:
			s := c.Tag + " " + c.Name
			for _, a := range c.Args {
				s += " " + show(a)
			}
			if c.Message != nil {
				b, err := io.ReadAll(c.Message)
				s += fmt.Sprintf(" <%s>", b)
				if err == nil {
					err = c.Message.End()
				}
				if err != nil {
					s += " !"
				}
			}
			out = append(out, s)
		}
	}
}

func show(t wire.Token) string {
	if t.Kind == wire.List {
		var in []string
		for _, e := range t.List {
			in = append(in, show(e))
		}
		return "(" + strings.Join(in, " ") + ")"
	}
	if t.Kind == wire.Atom {
		return string(t.Value)
	}
	return fmt.Sprintf("%q", t.Value)
}

func TestCommands(t *testing.T) {
	small := wire.Limits{Line: 300, Literal: 10, Drain: 1000}
	for _, tt := range []struct{ name, in, want string }{
		{"atoms", "a noop\r\nb select INBOX\r\n", "a NOOP; b SELECT INBOX"},
		{"quoted strings lose their quotes", "a LOGIN \"a\\\"b\" \"\"\r\n", `a LOGIN "a\"b" ""`},
		{"UID commands have two words", "a uid fetch 1:* (FLAGS)\r\n", "a UID FETCH 1:* (FLAGS)"},
		{"a literal is an argument", "a LOGIN {3}\r\nb c {4+}\r\nNOOP\r\n", `a LOGIN "b c" "NOOP"`},
		{"a literal's bytes are no command", "a LOGIN {8+}\r\nx NOOP\r\n y\r\nb NOOP\r\n", `a LOGIN "x NOOP\r\n" y; b NOOP`},
		{"sections hold lists", "a FETCH 1 (BODY.PEEK[HEADER.FIELDS (From To)]<0.5> UID)\r\n", "a FETCH 1 (BODY.PEEK[HEADER.FIELDS (From To)]<0.5> UID)"},
		{"sections hold literals", "a FETCH 1 BODY[HEADER.FIELDS ({4+}\r\nFrom)]\r\nb NOOP\r\n", "a FETCH 1 BODY[HEADER.FIELDS ({4+}\r\nFrom)]; b NOOP"},
		{"brackets are nothing special elsewhere", "a SEARCH SUBJECT [x\r\n", "a SEARCH SUBJECT [x"},
		{"a message is left to the caller", "a APPEND x (\\Seen) {5+}\r\nhello\r\nb NOOP\r\n", `a APPEND x (\Seen) <hello>; b NOOP`},
		{"a mailbox may be a literal too", "a APPEND {1+}\r\nx {5}\r\nhello\r\nb NOOP\r\n", `a APPEND "x" <hello>; b NOOP`},
		{"a second message is read and refused", "a APPEND x {2+}\r\nhi {6+}\r\nb NOOP\r\nc NOOP\r\n", "a APPEND x <hi> !; c NOOP"},
		{"a binary literal is drained", "a APPEND x ~{8+}\r\nb NOOP\r\nc)\r\nd NOOP\r\n", "a literal8; d NOOP"},
		{"a literal that is too long is drained", "a LOGIN {11+}\r\nb NOOP\r\nc X\r\nd NOOP\r\n", "a big; d NOOP"},
		{"of a synchronising one nothing comes", "a LOGIN {12}\r\nd NOOP\r\n", "a big; d NOOP"},
		{"a literal longer than we drain ends it", "a LOGIN {1001+}\r\nb NOOP\r\n", "desync"},
		{"a literal of no size ends it", "a LOGIN {99999999999999999999+}\r\nb NOOP\r\n", "desync"},
		{"a long line", "a X " + strings.Repeat("y", 400) + "\r\nb NOOP\r\n", "a big; b NOOP"},
		{"a long line with a literal", "a X " + strings.Repeat("y", 400) + " {8+}\r\nc NOOP\r\n\r\nb NOOP\r\n", "a big; b NOOP"},
		{"bare LF", "a NOOP\nb NOOP\r\n", "desync"},
		{"an open quote", "a LOGIN \"x\r\nb NOOP\r\n", "a syntax; b NOOP"},
		{"an open quote before a literal", "a LOGIN \"x {5+}\r\nb NOOP\r\n", "desync"},
		{"an announcement in quotes is text", "a LOGIN \"{5+}\"\r\nb NOOP\r\n", `a LOGIN "{5+}"; b NOOP`},
		{"a literal glued to an atom is consumed", "a LOGIN x{6+}\r\nb NOOP\r\nc NOOP\r\n", "a syntax; c NOOP"},
		{"parentheses unclosed", "a STORE 1 (x\r\n", "a syntax"},
		{"parentheses too many", "a STORE 1 x)\r\n", "a syntax"},
		{"nested too deep", "a X " + strings.Repeat("(", 60) + strings.Repeat(")", 60) + "\r\nb NOOP\r\n", "a big; b NOOP"},
		{"no tag", "* NOOP\r\nb NOOP\r\n", " syntax; b NOOP"},
		{"an empty line", "\r\nb NOOP\r\n", " syntax; b NOOP"},
		{"NUL", "a X \x00\r\nb NOOP\r\n", "a syntax; b NOOP"},
		{"a bare CR", "a X y\rz\r\nb NOOP\r\n", "a syntax; b NOOP"},
		{"a CR in quotes", "a X \"y\rz\"\r\nb NOOP\r\n", "a syntax; b NOOP"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := read(t, tt.in, small); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestOutIsWhatCame(t *testing.T) {
	const in = "a SEARCH CHARSET UTF-8 (SUBJECT {3+}\r\nabc) \"q\\\"\" {0}\r\n\r\n"
	r := wire.NewCommandReader(strings.NewReader(in), wire.Limits{})
	c, err := r.Next()
	if err != nil {
		t.Fatal(err)
	}
	var got string
	for _, p := range c.Out().Parts {
		if p.Literal {
			got += fmt.Sprintf("<%s>", p.Bytes)
		} else {
			got += string(p.Bytes)
		}
	}
	if want := `SEARCH CHARSET UTF-8 (SUBJECT <abc>) "q\"" <>`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestResponses(t *testing.T) {
	const in = "* OK [CAPABILITY X] hi {3}\r\n" +
		"* LIST () \"/\" {5}\r\na\r\nbc\r\n* LIST () \"/\" \"x{5}\"\r\n" +
		"* 7 FETCH (UID 9 FLAGS (\\Seen) ENVELOPE (NIL {3}\r\na)b NIL) BODY[HEADER.FIELDS (\"A ]\")]<0> {4}\r\nx\r\n) BODYSTRUCTURE (\"a\" (\"b)\" NIL)) BODY[TEXT] NIL)\r\n" +
		"* SEARCH 1 2\r\nt1 OK done {9}\r\n+ go\r\n"
	r := wire.NewResponseReader(strings.NewReader(in), wire.Limits{})
	var got []string
	for {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Name != "FETCH" {
			b, err := r.Collect(1000)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, h.Name+":"+string(b))
			continue
		}
		f, err := r.Fetch()
		if err != nil {
			t.Fatal(err)
		}
		for {
			i, err := f.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			v := string(i.Value)
			if i.Literal {
				var b bytes.Buffer
				_ = f.Copy(&b)
				v = "<" + b.String() + ">"
				got = append(got, string(i.Name)+"="+v)
				continue
			}
			got = append(got, string(i.Name)+"="+v)
		}
	}
	want := []string{
		"OK:* OK [CAPABILITY X] hi {3}\r\n",
		"LIST:* LIST () \"/\" {5}\r\na\r\nbc\r\n", "LIST:* LIST () \"/\" \"x{5}\"\r\n",
		"UID=9", "FLAGS=(\\Seen)", "ENVELOPE=(NIL {3}\r\na)b NIL)", "BODY[HEADER.FIELDS (\"A ]\")]<0>=<x\r\n)>",
		"BODYSTRUCTURE=(\"a\" (\"b)\" NIL))", "BODY[TEXT]=NIL", "SEARCH:* SEARCH 1 2\r\n", "OK:t1 OK done {9}\r\n", ":+ go\r\n",
	}
	if g, w := strings.Join(got, "\n"), strings.Join(want, "\n"); g != w {
		t.Errorf("got\n%s\nwant\n%s", g, w)
	}
}

func TestFetchItems(t *testing.T) {
	for _, tt := range []struct{ in, request, response string }{
		{"body.peek[header.fields (From to)]<0.5>", "BODY.PEEK[header.fields (From to)]<0.5>", "BODY[HEADER.FIELDS (From to)]<0>"},
		{"BODY[]", "BODY[]", "BODY[]"},
		{"BODY[1.2.MIME]", "BODY[1.2.MIME]", "BODY[1.2.MIME]"},
		{"body[HEADER.FIELDS ({4+}\r\nFrom \"a b\")]", "BODY[HEADER.FIELDS (From \"a b\")]", "BODY[HEADER.FIELDS (From \"a b\")]"},
		{"rfc822.size", "RFC822.SIZE", "RFC822.SIZE"},
		{"BODY[MIME]", "", ""}, {"BODY[1.]", "", ""}, {"BODY[0]", "", ""}, {"BODY[]<0>", "", ""}, {"BODY[]<0.0>", "", ""}, {"BODY[HEADER x]", "", ""},
	} {
		r := wire.NewCommandReader(strings.NewReader("a FETCH 1 ("+tt.in+")\r\n"), wire.Limits{})
		c, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		items, err := wire.ParseFetchItems(c.Args[1])
		if tt.request == "" {
			if err == nil {
				t.Errorf("%s: no error", tt.in)
			}
			continue
		}
		if err != nil {
			t.Fatalf("%s: %v", tt.in, err)
		}
		if got := items[0].Request(); got != tt.request {
			t.Errorf("Request(%s) = %s, want %s", tt.in, got, tt.request)
		}
		if got := items[0].Response(); got != tt.response {
			t.Errorf("Response(%s) = %s, want %s", tt.in, got, tt.response)
		}
	}
}

// FuzzCommands looks for what the reader must not do: panic, take a message's
// bytes for a command, or give back a command that isn't what came.
func FuzzCommands(f *testing.F) {
	f.Add([]byte("a LOGIN {3+}\r\nabc \"d\"\r\nb FETCH 1 (BODY[HEADER.FIELDS (x)])\r\n"))
	f.Add([]byte("a APPEND x {3+}\r\nabc {4}\r\nb SEARCH ~{3+}\r\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := wire.NewCommandReader(bytes.NewReader(in), wire.Limits{Line: 200, Literal: 50, Drain: 500})
		r.Stream = func(name string, args []wire.Token) bool { return name == "APPEND" && len(args) > 0 }
		for {
			c, err := r.Next()
			if err != nil {
				if errors.Is(err, wire.ErrSyntax) || errors.Is(err, wire.ErrTooBig) || errors.Is(err, wire.ErrLiteral8) {
					continue
				}
				return
			}
			if c.Message != nil {
				if err := c.Message.Refuse(); err != nil {
					return
				}
				continue
			}
			n := 0
			for _, p := range c.Out().Parts {
				n += len(p.Bytes)
			}
			if n > len(c.Rest) || !wire.HasPrefixFold(c.Rest, c.Name[:min(3, len(c.Name))]) {
				t.Fatalf("%q became %q", in, c.Rest)
			}
			for _, a := range c.Args {
				_, _ = wire.ParseFetchItems(a)
				_, _ = wire.ParseSet(a.Value)
			}
		}
	})
}

// FuzzResponses checks that what is passed on is what came, and that the items
// of a FETCH end where the response does.
func FuzzResponses(f *testing.F) {
	f.Add([]byte("* 7 FETCH (UID 9 ENVELOPE (NIL {3}\r\na)b NIL) BODY[] {4}\r\nabcd)\r\n* OK x\r\n"))
	f.Add([]byte("* LIST () \"/\" {5}\r\na\r\nbc\r\n+ \r\nt1 NO x\r\n"))
	f.Add([]byte("* 7  FETCH (UID  9 (ENVELOPE (\"a\"b\")) BODY[]{4}\r\nabcd\r\n )\r\n\r\n* 8 FETCH (FLAGS(\\Seen) X (\r\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := wire.NewResponseReader(bytes.NewReader(in), wire.Limits{Response: 500})
		var out bytes.Buffer
		for {
			for bytes.HasPrefix(in[out.Len():], []byte("\r\n")) { // which belongs to nothing
				out.WriteString("\r\n")
			}
			h, err := r.Next()
			if err != nil {
				return
			}
			if h.Name == "FETCH" {
				before := out.Len()
				two := wire.NewResponseReader(bytes.NewReader(in[before:]), wire.Limits{Response: 500})
				if _, err := two.Next(); err == nil {
					if fr, err := two.Fetch(); err == nil {
						_ = fr.Drain()
					}
				}
			}
			if err := r.Copy(&out); err != nil {
				return
			}
			if !bytes.HasPrefix(in, out.Bytes()) {
				t.Fatalf("%q passed on as %q", in, out.Bytes())
			}
		}
	})
}

package render_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"
)

// rawClient speaks IMAP with no opinion on what it means.
type rawClient struct {
	t    testing.TB
	c    net.Conn
	r    *bufio.Reader
	tags int
}

func dial(t testing.TB, addr, user, password string) *rawClient {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	rc := &rawClient{t: t, c: c, r: bufio.NewReaderSize(c, 64<<10)}
	rc.response()
	rc.run("LOGIN " + user + " " + password)
	return rc
}

// response reads one response with its literals.
func (c *rawClient) response() []byte {
	c.t.Helper()
	c.c.SetDeadline(time.Now().Add(10 * time.Minute))
	var all []byte
	for {
		line, err := c.r.ReadBytes('\n')
		if err != nil {
			c.t.Fatalf("reading a response: %v", err)
		}
		all = append(all, line...)
		n, ok := literalSize(line)
		if !ok {
			return all
		}
		lit := make([]byte, n)
		if _, err := io.ReadFull(c.r, lit); err != nil {
			c.t.Fatal(err)
		}
		all = append(all, lit...)
	}
}

func literalSize(line []byte) (int, bool) {
	s := strings.TrimRight(string(line), "\r\n")
	i := strings.LastIndexByte(s, '{')
	if i < 0 || !strings.HasSuffix(s, "}") {
		return 0, false
	}
	n, err := strconv.Atoi(s[i+1 : len(s)-1])
	return n, err == nil
}

// run sends a command and gives its untagged responses; it must succeed.
func (c *rawClient) run(command string) [][]byte {
	c.t.Helper()
	c.tags++
	tag := fmt.Sprintf("t%d", c.tags)
	if _, err := io.WriteString(c.c, tag+" "+command+"\r\n"); err != nil {
		c.t.Fatal(err)
	}
	var untagged [][]byte
	for {
		r := c.response()
		if !bytes.HasPrefix(r, []byte(tag+" ")) {
			untagged = append(untagged, r)
			continue
		}
		if !bytes.HasPrefix(r, []byte(tag+" OK")) {
			c.t.Fatalf("%.200s: %s", command, r)
		}
		return untagged
	}
}

func (c *rawClient) append(mailbox string, raw []byte) {
	c.t.Helper()
	c.run(fmt.Sprintf("APPEND %s {%d+}\r\n%s", mailbox, len(raw), raw))
}

// fetch gives the items of one message by name, each as it stands.
func (c *rawClient) fetch(seq int, items string) map[string][]byte {
	c.t.Helper()
	got := map[string][]byte{}
	for _, r := range c.run(fmt.Sprintf("FETCH %d (%s)", seq, items)) {
		prefix := fmt.Sprintf("* %d FETCH (", seq)
		if !bytes.HasPrefix(r, []byte(prefix)) {
			continue
		}
		p := &tokens{s: r[len(prefix):]}
		for p.s[0] != ')' {
			name := p.name()
			at := p.s
			p.value()
			got[name] = at[:len(at)-len(p.s)]
			p.s = bytes.TrimLeft(p.s, " ")
		}
	}
	return got
}

// tokens reads IMAP values from the front of s.
type tokens struct{ s []byte }

// name reads an item's name, with its section.
func (p *tokens) name() string {
	depth := 0
	for i, c := range p.s {
		switch {
		case c == '[':
			depth++
		case c == ']':
			depth--
		case c == ' ' && depth == 0:
			name := string(p.s[:i])
			p.s = p.s[i+1:]
			return strings.ToUpper(name)
		}
	}
	panic("no item name")
}

// value reads one value: nil for NIL, []any for a list, string for all else.
func (p *tokens) value() any {
	switch c := p.s[0]; c {
	case '(':
		p.s = p.s[1:]
		list := []any{}
		for p.s[0] != ')' {
			list = append(list, p.value())
			if p.s[0] == ' ' {
				p.s = p.s[1:]
			}
		}
		p.s = p.s[1:]
		return list
	case '"':
		var b []byte
		for i := 1; ; i++ {
			switch p.s[i] {
			case '"':
				p.s = p.s[i+1:]
				return string(b)
			case '\\':
				i++
			}
			b = append(b, p.s[i])
		}
	case '{':
		end := bytes.IndexByte(p.s, '\n') + 1
		n, _ := literalSize(p.s[:end])
		v := string(p.s[end : end+n])
		p.s = p.s[end+n:]
		return v
	default:
		end := bytes.IndexAny(p.s, " ()\r\n")
		if end < 0 {
			end = len(p.s)
		}
		v := string(p.s[:end])
		p.s = p.s[end:]
		if strings.EqualFold(v, "NIL") {
			return nil
		}
		return v
	}
}

// parse reads one whole value.
func parse(t testing.TB, b []byte) any {
	t.Helper()
	defer func() {
		if e := recover(); e != nil {
			t.Fatalf("not an IMAP value: %q: %v", b, e)
		}
	}()
	p := &tokens{s: append(bytes.Clone(b), ' ')}
	v := p.value()
	if len(p.s) != 1 {
		t.Fatalf("something follows the value: %q", b)
	}
	return v
}

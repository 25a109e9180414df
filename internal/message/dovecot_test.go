package message_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"testing"

	"letterlock.org/letterlock/internal/mailtest/peer"
	"letterlock.org/letterlock/internal/message"
)

// TestStructureIsDovecots stores the corpus and random MIME in Dovecot and
// compares its BODY with ours: types, sizes and lines of every part. We differ
// on purpose in five things: message/global is a message to us (RFC 9051,
// Section 7.5.2), a Content-Type without subtype is text/plain (RFC 2045, Section
// 5.2), a parameter without value doesn't hide those after it, an unquoted
// one goes on after "=", and where an inner delimiter and an outer one follow on
// each other, the line end between is the outer one's (RFC 2046, Section 5.1.1).
func TestStructureIsDovecots(t *testing.T) {
	d := peer.Dovecot(t)
	var all [][]byte
	for _, raw := range corpus(t, 1000) {
		if bytes.Contains(raw, []byte("; protected; ")) {
			continue // a parameter without value
		}
		if bytes.IndexByte(raw, 0) < 0 && len(raw) > 0 { // Dovecot takes no NUL, and nothing empty
			all = append(all, canonical(t, raw))
		}
	}
	r := rand.New(rand.NewPCG(7, 8))
	for range 2000 {
		all = append(all, canonical(t, randomMIME(r)))
	}
	d.Append(t, peer.Alice, "INBOX", all...)
	items := fetchBodies(t, d)
	if len(items) != len(all) {
		t.Fatalf("%d messages fetched, want %d", len(items), len(all))
	}
	differ := 0
	for i, item := range items {
		raw := all[i]
		p, err := message.Parse(message.Bytes(raw), message.Limits{})
		if err != nil {
			t.Fatalf("message %d: %v", i+1, err)
		}
		got, want := ours(raw, p), theirs(item)
		if got == want {
			continue
		}
		if differ++; differ <= 5 {
			t.Errorf("message %d\n%s\nours   %s\ntheirs %s", i+1, clip(raw), got, want)
		}
	}
	if differ > 0 {
		t.Errorf("%d of %d messages differ", differ, len(all))
	}
}

func clip(b []byte) string { return fmt.Sprintf("%.1500q", b) }

func canonical(t *testing.T, raw []byte) []byte {
	b, err := io.ReadAll(message.CRLF(bytes.NewReader(raw)))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func ours(raw []byte, p *message.Part) string {
	name := p.Type + "/" + p.Subtype
	size := p.End - p.Body
	switch {
	case p.Type == "multipart":
		var kids []string
		for _, c := range p.Children {
			kids = append(kids, ours(raw, c))
		}
		if kids == nil { // as Dovecot shows one without parts
			kids = []string{"text/plain 0 0"}
		}
		return fmt.Sprintf("%s{%s}", name, strings.Join(kids, ", "))
	case p.Is("message/rfc822"):
		lines := p.Lines
		if endsInDelimiter(raw, p) && bytes.HasPrefix(raw[p.End:], []byte("\r\n")) {
			size, lines = size+2, lines+1
		}
		return fmt.Sprintf("%s %d %d<%s>", name, size, lines, ours(raw, p.Embedded))
	case p.Type == "text":
		return fmt.Sprintf("%s %d %d", name, size, p.Lines)
	}
	return fmt.Sprintf("%s %d", name, size)
}

// endsInDelimiter tells whether the last line of p is a delimiter of a multipart
// inside.
func endsInDelimiter(raw []byte, p *message.Part) bool {
	body := raw[p.Body:p.End]
	last := body[bytes.LastIndexByte(body, '\n')+1:]
	for q := range p.Embedded.All() {
		if q.IsMultipart() && bytes.HasPrefix(last, []byte("--"+q.Params["boundary"])) {
			return true
		}
	}
	return false
}

// fetchBodies fetches BODY of every message in INBOX and gives what is in the
// outer brackets, as nested lists of strings.
func fetchBodies(t *testing.T, d *peer.DovecotServer) (items []any) {
	t.Helper()
	conn, err := net.Dial("tcp", d.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "a LOGIN %s %s\r\nb EXAMINE INBOX\r\nc FETCH 1:* BODY\r\n", peer.Alice, d.Users[peer.Alice])
	r := bufio.NewReader(conn)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(line, "c ") {
			return items
		}
		_, list, ok := strings.Cut(line, " FETCH (BODY ")
		if !ok {
			if !strings.HasPrefix(line, "* ") && !strings.Contains(line, " OK ") {
				t.Fatal(line)
			}
			continue
		}
		for strings.HasSuffix(line, "}\r\n") { // a literal: its length is enough for this test
			n := 0
			fmt.Sscanf(line[strings.LastIndexByte(line, '{'):], "{%d}", &n)
			if _, err := r.Discard(n); err != nil {
				t.Fatal(err)
			}
			if line, err = r.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
			list += line
		}
		item, _ := sexpr(list)
		items = append(items, item)
	}
}

// sexpr reads a list, quoted string or atom from the front of s.
func sexpr(s string) (any, string) {
	s = strings.TrimLeft(s, " ")
	switch {
	case strings.HasPrefix(s, "("):
		list := []any{}
		for s = s[1:]; !strings.HasPrefix(s, ")"); s = strings.TrimLeft(s, " ") {
			var v any
			v, s = sexpr(s)
			list = append(list, v)
		}
		return list, s[1:]
	case strings.HasPrefix(s, `"`):
		i := 1
		for ; s[i] != '"'; i++ {
			if s[i] == '\\' {
				i++
			}
		}
		return s[1:i], s[i+1:]
	}
	i := strings.IndexAny(s, " ()\r")
	if strings.HasPrefix(s[i:], "\r\n") && strings.HasPrefix(s, "{") {
		i += 2
	}
	return s[:i], s[i:]
}

// theirs reads a body (RFC 3501, Section 9, "body").
func theirs(v any) string {
	list, ok := v.([]any)
	if !ok || len(list) < 2 {
		return fmt.Sprint(v)
	}
	if _, multipart := list[0].([]any); multipart {
		var kids []string
		for i, e := range list {
			if _, ok := e.([]any); !ok {
				return fmt.Sprintf("multipart/%s{%s}", strings.ToLower(fmt.Sprint(list[i])), strings.Join(kids, ", "))
			}
			kids = append(kids, theirs(e))
		}
	}
	name := strings.ToLower(fmt.Sprintf("%v/%v", list[0], list[1]))
	switch {
	case len(list) == 10: // message/rfc822: envelope, body and lines follow
		return fmt.Sprintf("%s %v %v<%s>", name, list[6], list[9], theirs(list[8]))
	case len(list) == 8:
		return fmt.Sprintf("%s %v %v", name, list[6], list[7])
	}
	return fmt.Sprintf("%s %v", name, list[6])
}

// randomMIME is lines that delimiters, headers and text are drawn from, more
// often well nested than not.
func randomMIME(r *rand.Rand) []byte {
	bounds := []string{"b", "bb", "c", "c--", "d=/", "e f"}
	pick := func(s ...string) string { return s[r.IntN(len(s))] }
	header := func(multipart bool) string {
		h := pick("", "", "Subject: x\n", "X-Y: z\n folded\n", "junk\n", "Content-Transfer-Encoding: 8bit\n")
		if multipart {
			h += "Content-Type: multipart/" + pick("mixed", "alternative", "digest", "x") +
				";" + pick(" ", "\n\t") + "boundary=" + pick(`"b"`, `"bb"`, `"c"`, `"c--"`, `"d=/"`, `"e f"`, "b", "bb", "e f") + pick("", "; boundary=zz", "; x=y") + "\n"
		} else {
			h += pick("", "", "Content-Type: text/html\n", "Content-Type: message/rfc822\n", "Content-Type: image/png\n",
				"Content-Type: multipart/mixed\n", "Content-Type: text/plain; charset=utf-8\n")
		}
		return h + pick("\n", "\n", "\n", "\n", "")
	}
	var b strings.Builder
	b.WriteString(header(r.IntN(4) > 0))
	for range r.IntN(14) {
		switch r.IntN(5) {
		case 0:
			b.WriteString(pick("text\n", "more text\n\n", "\n", "--not a delimiter\n", "-- \n"))
		case 1:
			b.WriteString("--" + pick(bounds...) + pick("--", "--", "", "junk") + "\n")
		default:
			b.WriteString("--" + pick(bounds...) + pick("", "", " ", "\t") + "\n" + header(r.IntN(3) == 0) + pick("", "text\n", "a\nb\n"))
		}
	}
	s := b.String()
	if r.IntN(3) == 0 && !strings.HasPrefix(s[strings.LastIndexByte(s[:len(s)-1], '\n')+1:], "--") {
		s = s[:len(s)-1] // Dovecot reads an unended delimiter in a header as a field
	}
	if strings.TrimSpace(s) == "" {
		s = "A: b\n\n"
	}
	return []byte(s)
}

package message_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"letterlock.org/letterlock/internal/message"
)

// outline writes a structure as one line: type, section, body in quotes where
// it is a leaf, lines.
func outline(raw string, p *message.Part) string {
	var b strings.Builder
	name := p.Type + "/" + p.Subtype
	if len(p.Section) > 0 {
		name = strings.Trim(strings.ReplaceAll(fmt.Sprint(p.Section), " ", "."), "[]") + ":" + name
	}
	b.WriteString(name)
	switch {
	case p.Embedded != nil:
		fmt.Fprintf(&b, "<%s>", outline(raw, p.Embedded))
	case p.IsMultipart():
		var kids []string
		for _, c := range p.Children {
			kids = append(kids, outline(raw, c))
		}
		fmt.Fprintf(&b, "{%s}", strings.Join(kids, " "))
	default:
		fmt.Fprintf(&b, "%q/%d", raw[p.Body:p.End], p.Lines)
	}
	return b.String()
}

func TestParse(t *testing.T) {
	tests := []struct{ name, raw, want string }{
		{"an empty message is empty text", "", `text/plain""/0`},
		{"a header without end has no body", "Subject: a\r\n", `text/plain""/0`},
		{"a body follows the empty line", "Subject: a\r\n\r\nhi\r\nyou\r\n", `text/plain"hi\r\nyou\r\n"/2`},
		{"an unended last line is not counted", "A: b\n\nhi\nyou", `text/plain"hi\nyou"/1`},
		{"no header at all", "\r\nbody", `text/plain"body"/0`},
		{"two parts, the line end before a delimiter is the delimiter's",
			"Content-Type: multipart/mixed; boundary=b\r\n\r\npre\r\n--b\r\n\r\none\r\n--b\r\nContent-Type: text/html\r\n\r\ntwo\r\n\r\n--b--\r\npost\r\n",
			`multipart/mixed{1:text/plain"one"/0 2:text/html"two\r\n"/1}`},
		{"LF alone ends lines too",
			"Content-Type: multipart/mixed; boundary=b\n\n--b\n\none\n--b--\n",
			`multipart/mixed{1:text/plain"one"/0}`},
		{"no closing delimiter", "Content-Type: multipart/mixed; boundary=b\n\n--b\n\none\n", `multipart/mixed{1:text/plain"one\n"/1}`},
		{"no boundary parameter is a leaf of its type", "Content-Type: multipart/mixed\n\n--b\n\none\n", `multipart/mixed"--b\n\none\n"/3`},
		{"a repeated boundary parameter: the first counts",
			"Content-Type: multipart/mixed; boundary=a; boundary=b\n\n--b\n\n--a\n\nx\n--a--\n", `multipart/mixed{1:text/plain"x"/0}`},
		{"a repeated Content-Type: the first counts",
			"Content-Type: text/plain\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\nx\n", `text/plain"--b\n\nx\n"/3`},
		{"malformed type is text/plain", "Content-Type: garbage\n\nx", `text/plain"x"/0`},
		{"a delimiter ends an unended header",
			"Content-Type: multipart/mixed; boundary=b\n\n--b\nA: b\n--b\n\nx\n--b--", `multipart/mixed{1:text/plain""/0 2:text/plain"x"/0}`},
		{"delimiters one after another are empty parts",
			"Content-Type: multipart/mixed; boundary=b\n\n--b\n--b\n--b--", `multipart/mixed{1:text/plain""/0 2:text/plain""/0}`},
		{"an empty body has no line end to give away",
			"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nA: b\r\n\r\n--b--", `multipart/mixed{1:text/plain""/0}`},
		{"an outer delimiter ends the inner multipart",
			"Content-Type: multipart/mixed; boundary=o\n\n--o\nContent-Type: multipart/alternative; boundary=i\n\n--i\n\nx\n--o\n\ny\n--o--",
			`multipart/mixed{1:multipart/alternative{1.1:text/plain"x"/0} 2:text/plain"y"/0}`},
		{"equal boundaries nested: the innermost counts",
			"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\nx\n--b--\n\n--b\n\ny\n--b--",
			`multipart/mixed{1:multipart/mixed{1.1:text/plain"x"/0} 2:text/plain"y"/0}`},
		{"one boundary the beginning of another: the longest counts",
			"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: multipart/mixed; boundary=bb\n\n--bb\n\nx\n--bb--\n--b\n\ny\n--b--",
			`multipart/mixed{1:multipart/mixed{1.1:text/plain"x"/0} 2:text/plain"y"/0}`},
		{"an embedded message",
			"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: message/rfc822\n\nSubject: in\n\nhi\n--b--",
			`multipart/mixed{1:message/rfc822<1:text/plain"hi"/0>}`},
		{"a message in a message is part 1 of it",
			"Content-Type: message/rfc822\n\nContent-Type: message/rfc822\n\n\nx", `message/rfc822<1:message/rfc822<1.1:text/plain"x"/0>>`},
		{"an embedded multipart counts below its part",
			"Content-Type: message/rfc822\n\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\nx\n--b--",
			`message/rfc822<1:multipart/mixed{1.1:text/plain"x"/0}>`},
		{"digest parts are messages by default",
			"Content-Type: multipart/digest; boundary=b\n\n--b\n\nSubject: a\n\nhi\n--b\nContent-Type: text/plain\n\nx\n--b--",
			`multipart/digest{1:message/rfc822<1:text/plain"hi"/0> 2:text/plain"x"/0}`},
		{"white space after a delimiter is padding",
			"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b \t\r\n\r\nx\r\n--b-- \r\n", `multipart/mixed{1:text/plain"x"/0}`},
		{"an mbox line is not the end", "From a@b Sat Jan  1 00:00:00 2022\nContent-Type: text/html\n\nx", `text/html"x"/0`},
		{"a delimiter at the very end opens an empty part",
			"Content-Type: multipart/mixed; boundary=b\n\n--b", `multipart/mixed{1:text/plain""/0}`},
		{"boundaries that end in dashes",
			"Content-Type: multipart/mixed; boundary=b--\n\n--b--\n\nx\n--b----\n", `multipart/mixed{1:text/plain"x"/0}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, err := message.Parse(message.Bytes([]byte(tt.raw)), message.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			if got := outline(tt.raw, p); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			checkPart(t, []byte(tt.raw), p, int64(len(tt.raw)))
			again, err := message.Parse(pieces{message.Bytes([]byte(tt.raw))}, message.Limits{})
			if err != nil || !reflect.DeepEqual(p, again) {
				t.Errorf("read in pieces: %s, %v", outline(tt.raw, again), err)
			}
		})
	}
}

func TestFind(t *testing.T) {
	raw := "Content-Type: multipart/mixed; boundary=b\n\n--b\n\nx\n--b\nContent-Type: message/rfc822\n\nSubject: leaf\n\nhi\n" +
		"--b\nContent-Type: message/rfc822\n\nContent-Type: multipart/mixed; boundary=c\n\n--c\n\ny\n--c--\n--b--\n"
	root, err := message.Parse(message.Bytes([]byte(raw)), message.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		section []int
		want    string // body, "-" for none
	}{
		{[]int{1}, "x"}, {[]int{2, 1}, "hi"}, {[]int{3, 1}, "y"},
		{[]int{4}, "-"}, {[]int{0}, "-"}, {[]int{1, 1}, "-"}, {[]int{2, 2}, "-"}, {[]int{3, 2}, "-"}, {[]int{2, 1, 1}, "-"},
	}
	for _, tt := range tests {
		got := "-"
		if p := root.Find(tt.section...); p != nil {
			got = raw[p.Body:p.End]
		}
		if got != tt.want {
			t.Errorf("Find(%v) = %q, want %q", tt.section, got, tt.want)
		}
	}
	leaf, err := message.Parse(message.Bytes([]byte("A: b\n\nx")), message.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if leaf.Find(1) != leaf || leaf.Find() != leaf || leaf.Find(1, 1) != nil {
		t.Error("part 1 of a message without parts is its root")
	}
}

func TestParseLimits(t *testing.T) {
	nested := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=\"b%d\"\n\n--b%d\n", i, i)
		}
		return b.String()
	}
	tests := []struct{ name, raw string }{
		{"too deep", nested(40)},
		{"too deep by embedding", strings.Repeat("Content-Type: message/rfc822\n\n", 40)},
		{"too many parts", "Content-Type: multipart/mixed; boundary=b\n\n" + strings.Repeat("--b\n\n", 1001)},
		{"too long a boundary", "Content-Type: multipart/mixed; boundary=" + strings.Repeat("b", 71) + "\n\n"},
		{"too long a header", "A: " + strings.Repeat("b", 1<<20)},
		{"too many fields", strings.Repeat("A: b\n", 2001)},
		{"headers too long together", "Content-Type: multipart/mixed; boundary=b\n\n" +
			strings.Repeat("--b\nA: "+strings.Repeat("b", 1<<19)+"\n\n", 9)},
		{"too many fields together", "Content-Type: multipart/mixed; boundary=b\n\n" +
			strings.Repeat("--b\n"+strings.Repeat("A: b\n", 1500)+"\n", 14)},
	}
	for _, tt := range tests {
		if _, err := message.Parse(message.Bytes([]byte(tt.raw)), message.Limits{}); !errors.Is(err, message.ErrLimit) {
			t.Errorf("%s: error %v, want ErrLimit", tt.name, err)
		}
	}
	if _, err := message.Parse(message.Bytes([]byte(nested(30))), message.Limits{}); err != nil {
		t.Errorf("30 levels are allowed: %v", err)
	}
}

// TestParseIsLinear compares the time over n nested multiparts with that over
// 4n; quadratic time would be sixteen times as much.
func TestParseIsLinear(t *testing.T) {
	shapes := map[string]func(n int) []byte{
		"nested multiparts": func(n int) []byte {
			var b bytes.Buffer
			for i := range n {
				fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=\"%d\"\n\n--%d\n", i, i)
			}
			b.WriteString("\n")
			for range n {
				b.WriteString("--no such boundary\n")
			}
			return b.Bytes()
		},
		"equal boundaries": func(n int) []byte {
			one := "Content-Type: multipart/mixed; boundary=b\n\n--b\n"
			return append(bytes.Repeat([]byte(one), n), bytes.Repeat([]byte("--b--\n"), n)...)
		},
		"embedded messages": func(n int) []byte {
			return bytes.Repeat([]byte("Content-Type: message/rfc822\n\n"), n)
		},
	}
	l := message.Limits{Depth: 1e6, Parts: 1e6, Fields: 1e6, Header: 1 << 30}
	for name, shape := range shapes {
		took := func(n int) time.Duration {
			src := message.Bytes(shape(n))
			best := time.Hour
			for range 3 {
				start := time.Now()
				if _, err := message.Parse(src, l); err != nil {
					t.Fatal(err)
				}
				best = min(best, time.Since(start))
			}
			return best
		}
		small, big := took(10000), took(40000)
		t.Logf("%s: 10,000 in %v, 40,000 in %v", name, small, big)
		// Generous: a quadratic parser takes minutes here, a busy machine doesn't.
		if big > 10*small+3*time.Second {
			t.Errorf("%s: 10,000 took %v, 40,000 took %v", name, small, big)
		}
	}
}

// checkPart fails unless p lies within its parent, its children in order within
// its body, and its line count is that of its bytes.
func checkPart(t *testing.T, raw []byte, root *message.Part, end int64) {
	t.Helper()
	if root.Start != 0 || root.End != end {
		t.Fatalf("root is %d to %d, want 0 to %d", root.Start, root.End, end)
	}
	for p := range root.All() {
		if !(0 <= p.Start && p.Start <= p.Body && p.Body <= p.End && p.End <= end) {
			t.Fatalf("part %v: start %d, body %d, end %d of %d", p.Section, p.Start, p.Body, p.End, end)
		}
		if got := raw[p.Start:p.Body]; !bytes.Equal(got, p.Header.Raw) {
			t.Fatalf("part %v: header %q, its bytes are %q", p.Section, p.Header.Raw, got)
		}
		if got, want := p.Lines, int64(bytes.Count(raw[p.Body:p.End], []byte("\n"))); got != want {
			t.Fatalf("part %v: %d lines, its bytes have %d", p.Section, got, want)
		}
		if e := p.Embedded; e != nil && (e.Start != p.Body || e.End != p.End) {
			t.Fatalf("part %v: embedded %d to %d in body %d to %d", p.Section, e.Start, e.End, p.Body, p.End)
		}
		checkTiles(t, raw, p)
		for _, c := range p.Children {
			if root.Find(c.Section...) != c {
				t.Fatalf("Find(%v) does not find it", c.Section)
			}
		}
		if e := p.Embedded; e != nil && !e.IsMultipart() && root.Find(append(slices.Clone(e.Section), 1)...) != e {
			t.Fatalf("Find(%v, 1) does not find the message inside", e.Section)
		}
	}
}

// checkTiles fails unless the children of p and the delimiters between them are
// its whole body.
func checkTiles(t *testing.T, raw []byte, p *message.Part) {
	t.Helper()
	if !p.IsMultipart() {
		if len(p.Children) > 0 {
			t.Fatalf("part %v has children and is %s/%s", p.Section, p.Type, p.Subtype)
		}
		return
	}
	delim := []byte("--" + p.Params["boundary"])
	at := p.Body
	for i, c := range p.Children {
		if c.Start < at || c.End > p.End {
			t.Fatalf("part %v: child %d is %d to %d, after %d, within %d", p.Section, i, c.Start, c.End, at, p.End)
		}
		gap := raw[at:c.Start]
		if i > 0 {
			gap = bytes.TrimPrefix(bytes.TrimPrefix(gap, []byte("\r")), []byte("\n"))
			if !bytes.HasPrefix(gap, delim) || bytes.Count(gap, []byte("\n")) > 1 {
				t.Fatalf("part %v: between child %d and the one before is %q, want one delimiter", p.Section, i, gap)
			}
		} else if !bytes.Contains(gap, delim) {
			t.Fatalf("part %v: no delimiter before its first child, but %q", p.Section, gap)
		}
		at = c.End
	}
}

// pieces is a Source that Parse doesn't know to be in memory.
type pieces struct{ message.Source }

func FuzzParse(f *testing.F) {
	f.Add([]byte("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\none\r\n--b--\r\n"))
	f.Add([]byte("Content-Type: multipart/digest; boundary=\"b\"\n\n--b\n\nSubject: a\n\nhi\n--b--\n"))
	f.Add([]byte("Content-Type: message/rfc822\n\nContent-Type: multipart/mixed; boundary*0=a; boundary*1=b\n\n--ab\n--ab--"))
	f.Add([]byte("From a\nA\n b\n: c\nContent-Type: multipart/x;boundary=b--;boundary=c\n\n--b----\n--b--"))
	for _, raw := range corpus(f, 200) {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) > 1<<20 {
			return
		}
		p, err := message.Parse(message.Bytes(raw), message.Limits{})
		if err != nil {
			if !errors.Is(err, message.ErrLimit) {
				t.Fatal(err)
			}
			return
		}
		checkPart(t, raw, p, int64(len(raw)))
		if again, err := message.Parse(pieces{message.Bytes(raw)}, message.Limits{}); err != nil || !reflect.DeepEqual(p, again) {
			t.Fatalf("read in pieces it differs: %v", err)
		}
		for q := range p.All() {
			for _, field := range q.Header.Fields {
				if text := field.Text(); strings.ContainsAny(text, "\r\n\x00\u202e") {
					t.Fatalf("Text() = %q is not safe to show", text)
				}
			}
		}
	})
}

// corpus gives up to n messages of at most 64 KiB of LETTERLOCK_CORPUS, or none.
func corpus(tb testing.TB, n int) [][]byte {
	dir := os.Getenv("LETTERLOCK_CORPUS")
	if dir == "" {
		return nil
	}
	var all [][]byte
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".eml" {
			return err
		}
		b, err := os.ReadFile(path)
		if err == nil && len(b) <= 64<<10 && len(all) < n {
			all = append(all, b)
		}
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	return all
}

func TestParseCorpus(t *testing.T) {
	if os.Getenv("LETTERLOCK_CORPUS") == "" {
		t.Skip("LETTERLOCK_CORPUS is not set")
	}
	all := corpus(t, 100000)
	if len(all) == 0 {
		t.Fatal("no messages in LETTERLOCK_CORPUS")
	}
	for _, raw := range all {
		p, err := message.Parse(message.Bytes(raw), message.Limits{})
		if errors.Is(err, message.ErrLimit) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		checkPart(t, raw, p, int64(len(raw)))
	}
	t.Logf("%d messages", len(all))
}

func BenchmarkParse(b *testing.B) {
	small := []byte("Content-Type: multipart/mixed; boundary=b\r\nSubject: x\r\n\r\n--b\r\n\r\n" +
		strings.Repeat(strings.Repeat("x", 70)+"\r\n", 140) + "--b--\r\n")
	large := append(bytes.Clone(small[:len(small)-7]), bytes.Repeat([]byte(strings.Repeat("y", 76)+"\r\n"), 500_000)...)
	for name, src := range map[string]message.Source{
		"10 KB": message.Bytes(small), "10 KB in pieces": pieces{message.Bytes(small)}, "39 MB in pieces": pieces{message.Bytes(large)},
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(src.Size())
			b.ReportAllocs()
			for b.Loop() {
				if _, err := message.Parse(src, message.Limits{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

package message_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"

	"letterlock.org/letterlock/internal/message"
)

func TestParseHeader(t *testing.T) {
	tests := []struct {
		name, raw string
		fields    []string // name|value
		body      string   // what is left
	}{
		{"CRLF", "A: b\r\nC: d\r\n\r\nbody", []string{"A|b", "C|d"}, "body"},
		{"LF", "A: b\nC: d\n\nbody", []string{"A|b", "C|d"}, "body"},
		{"no end", "A: b", []string{"A|b"}, ""},
		{"empty", "", nil, ""},
		{"only a body", "\r\nbody", nil, "body"},
		{"folded", "A: b\r\n c\r\n\td\r\n\r\n", []string{"A|b c\td"}, ""},
		{"folded by a blank line", "A: b\r\n \r\nC: d\r\n\r\n", []string{"A|b", "C|d"}, ""},
		{"space before the colon", "A \t: b\n\n", []string{"A|b"}, ""},
		{"no space after it", "A:b\n\n", []string{"A|b"}, ""},
		{"an empty value", "A:\n\n", []string{"A|"}, ""},
		{"an mbox line", "From a@b Sat Jan  1 10:00:00 2022\nA: b\n\n", []string{"|From a@b Sat Jan  1 10:00:00 2022", "A|b"}, ""},
		{"a line without colon", "junk\nA: b\n\n", []string{"|junk", "A|b"}, ""},
		{"a folded line first", " junk\nA: b\n\n", []string{"|junk", "A|b"}, ""},
		{"an empty name", ": x\nA: b\n\n", []string{"|: x", "A|b"}, ""},
		{"a name with bytes that none may have", "A\x80: x\nB\x00: y\n\n", []string{"|A\x80: x", "|B\x00: y"}, ""},
		{"a bare CR ends no line", "A: b\rC: d\n\n", []string{"A|b\rC: d"}, ""},
		{"an empty line of CR CR LF ends nothing", "A: b\n\r\r\nC: d\n\n", []string{"A|b", "|", "C|d"}, ""},
	}
	for _, tt := range tests {
		h := message.ParseHeader([]byte(tt.raw))
		var got []string
		var all []byte
		for _, f := range h.Fields {
			if int(f.Start) != len(all) {
				t.Errorf("%s: %q starts at %d, want %d", tt.name, f.Raw, f.Start, len(all))
			}
			all = append(all, f.Raw...)
			got = append(got, f.Name+"|"+f.Value())
		}
		if !reflect.DeepEqual(got, tt.fields) {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.fields)
		}
		if string(h.Raw)+tt.body != tt.raw || !bytes.HasPrefix(h.Raw, all) || len(bytes.Trim(h.Raw[len(all):], "\r\n")) > 0 {
			t.Errorf("%s: header %q of fields %q, body %q", tt.name, h.Raw, all, tt.body)
		}
		for step := range 3 {
			pad := strings.Repeat("p", step*4095)
			read, err := message.ReadHeader(message.Bytes([]byte(tt.raw+pad)), 0)
			if err != nil || tt.body != "" && !bytes.Equal(read.Raw, h.Raw) {
				t.Errorf("%s: ReadHeader %q, %v", tt.name, read.Raw, err)
			}
		}
	}
}

func TestHeaderLookup(t *testing.T) {
	h := message.ParseHeader([]byte("junk\nSubject: =?utf-8?q?a=0Ab?=\nsubject: two\n\n"))
	if got := h.Get("SUBJECT"); got != "=?utf-8?q?a=0Ab?=" {
		t.Errorf("Get: %q", got)
	}
	all := h.All("subject")
	if len(all) != 2 || all[0].Text() != "ab" || all[1].Value() != "two" {
		t.Errorf("All: %v", all)
	}
	if h.Get("") != "" || h.Has("") || len(h.All("")) > 0 || h.Has("from") || !h.Has("Subject") {
		t.Error("a malformed line is a field of no name")
	}
}

// TestReadHeaderAnywhere puts the end of a header at every place around the
// sizes in which ReadHeader reads.
func TestReadHeaderAnywhere(t *testing.T) {
	for _, eol := range []string{"\n", "\r\n"} {
		for n := 4080; n < 4110; n++ {
			raw := "A: " + strings.Repeat("b", n-3-2*len(eol)) + eol + eol
			h, err := message.ReadHeader(message.Bytes([]byte(raw+"B: c"+eol+eol)), 0)
			if err != nil || string(h.Raw) != raw {
				t.Fatalf("%d bytes with %q: got %d, %v", n, eol, len(h.Raw), err)
			}
		}
	}
	long := message.Bytes([]byte("A: " + strings.Repeat("b", 100_000)))
	if _, err := message.ReadHeader(long, 1000); !errors.Is(err, message.ErrLimit) {
		t.Errorf("got %v, want ErrLimit", err)
	}
}

func TestWithoutFields(t *testing.T) {
	raw := "A: 1\r\nX-Secret: 2\r\n folded\r\nB: 3\r\nx-secret : 4\r\njunk\r\n\r\nbody\r\nX-Secret: stays\r\n"
	src, err := message.WithoutFields(message.Bytes([]byte(raw)), func(f message.Field) bool { return f.Is("x-secret") || f.Name == "" })
	if err != nil {
		t.Fatal(err)
	}
	want := "A: 1\r\nB: 3\r\n\r\nbody\r\nX-Secret: stays\r\n"
	if err := iotest.TestReader(message.Reader(src), []byte(want)); err != nil {
		t.Error(err)
	}
	same := message.Bytes([]byte(raw))
	if src, err = message.WithoutFields(same, func(message.Field) bool { return false }); err != nil || src.Size() != same.Size() {
		t.Errorf("dropping nothing: %v, %v", src, err)
	}
}

func TestConcatAndSection(t *testing.T) {
	whole := []byte("0123456789abcdefghij")
	b := message.Bytes(whole)
	c := message.Concat(message.Section(b, 0, 3), message.Bytes(nil), message.Section(b, 3, 1),
		message.Concat(message.Section(b, 4, 10), message.Section(message.Section(b, 10, 100), 4, 100)))
	if err := iotest.TestReader(message.Reader(c), whole); err != nil {
		t.Error(err)
	}
	for off := -2; off <= len(whole)+2; off++ {
		for n := -1; n <= len(whole)+2; n++ {
			s := message.Section(c, int64(off), int64(n))
			lo := min(max(off, 0), len(whole))
			want := whole[lo:min(lo+max(n, 0), len(whole))]
			got, err := message.ReadAll(s, 100)
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("Section(%d, %d) = %q, %v; want %q", off, n, got, err, want)
			}
		}
	}
	for _, src := range []message.Source{b, c, message.Section(c, 2, 5)} {
		if _, err := src.ReadAt(make([]byte, 1), -1); err == nil {
			t.Errorf("%T was read at a negative offset", src)
		}
		if n, err := src.ReadAt(make([]byte, 1), src.Size()); n != 0 || err != io.EOF {
			t.Errorf("%T read at its end: %d, %v", src, n, err)
		}
	}
	if _, err := message.ReadAll(c, 3); !errors.Is(err, message.ErrTooLarge) {
		t.Errorf("got %v", err)
	}
	if message.Concat().Size() != 0 {
		t.Error("nothing has a size")
	}
}

func TestCRLF(t *testing.T) {
	tests := []struct{ in, want string }{
		{"", ""}, {"a", "a"}, {"a\r\nb\r\n", "a\r\nb\r\n"}, {"a\nb\n", "a\r\nb\r\n"}, {"a\rb\r", "a\r\nb\r\n"},
		{"\r\r\n\n", "\r\n\r\n\r\n"}, {"\n\r", "\r\n\r\n"}, {"a\r", "a\r\n"},
	}
	for _, tt := range tests {
		if err := iotest.TestReader(message.CRLF(strings.NewReader(tt.in)), []byte(tt.want)); err != nil {
			t.Errorf("%q: %v", tt.in, err)
		}
		got, err := io.ReadAll(message.CRLF(iotest.OneByteReader(strings.NewReader(tt.in))))
		if err != nil || string(got) != tt.want {
			t.Errorf("%q one byte at a time: %q, %v", tt.in, got, err)
		}
	}
	want := errors.New("broken")
	got, err := io.ReadAll(message.CRLF(io.MultiReader(strings.NewReader("a\nb\r"), iotest.ErrReader(want))))
	if err != want || !strings.HasPrefix(string(got), "a\r\nb") {
		t.Errorf("%q, %v", got, err)
	}
}

func TestParseParams(t *testing.T) {
	tests := []struct {
		in, word string
		params   map[string]string
	}{
		{"text/plain", "text/plain", nil},
		{"Text/PLAIN; Charset=UTF-8", "text/plain", map[string]string{"charset": "UTF-8"}},
		{` text / plain ; a = "b;\"c" (x) ; d=e`, "text/plain", map[string]string{"a": `b;"c`, "d": "e"}},
		{"(c) text/(c)plain (c); (c) a=b", "text/plain", map[string]string{"a": "b"}},
		{"attachment; filename=a b.txt", "attachment", map[string]string{"filename": "a"}},
		{"text", "text", nil}, {"", "", nil}, {"/plain", "", nil}, {"text/", "", nil}, {"a/b/c", "a/b", nil},
		{"multipart/mixed; boundary=----=_Part/1:2", "multipart/mixed", map[string]string{"boundary": "----=_Part/1:2"}},
		{"multipart/mixed; boundary=a; BOUNDARY=b", "multipart/mixed", map[string]string{"boundary": "a"}},
		{"a/b; c; =d; e=; f=g", "a/b", map[string]string{"f": "g"}},
		{`a/b; c="unended`, "a/b", map[string]string{"c": "unended"}},
		{"a/b; c=d (unended", "a/b", map[string]string{"c": "d"}},
		{"a/b; filename*=utf-8'en'caf%C3%A9", "a/b", map[string]string{"filename": "café"}},
		{"a/b; filename=x; filename*=iso-8859-1''caf%E9", "a/b", map[string]string{"filename": "café"}},
		{"a/b; n*1=two; n*0=one", "a/b", map[string]string{"n": "onetwo"}},
		{"a/b; n*0*=utf-8''%C3; n*1*=%A9; n*2=%41", "a/b", map[string]string{"n": "é%41"}},
		{"a/b; n*0=a; n*2=c", "a/b", map[string]string{"n": "a"}},
		{"a/b; n*1=b", "a/b", map[string]string{}},
		{"a/b; boundary=x; boundary*0=y", "a/b", map[string]string{"boundary": "x"}},
		{"a/b; n*x=y; n*-1=z", "a/b", map[string]string{}},
		{"a/b; n*=%4", "a/b", map[string]string{"n": "%4"}},
	}
	for _, tt := range tests {
		word, params := message.ParseParams(tt.in)
		got := message.DecodeParams(params)
		if word != tt.word || len(got) != len(tt.params) || len(got) > 0 && !reflect.DeepEqual(got, tt.params) {
			t.Errorf("%q: got %q %q, want %q %q", tt.in, word, got, tt.word, tt.params)
		}
	}
}

// TestParseAcrossBuffers has lines and delimiters that end where a buffer does.
func TestParseAcrossBuffers(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 50 {
		// Lines around the reader's buffer of 64 KiB, with and without CR.
		var b strings.Builder
		b.WriteString("Content-Type: multipart/mixed; boundary=b\r\n\r\n")
		var bodies []string
		for range 3 {
			body := strings.Repeat("x", 65536-20+r.IntN(40)) + []string{"", "\r\n--not", "\r", "\n"}[r.IntN(4)]
			bodies = append(bodies, body)
			fmt.Fprintf(&b, "--b%s\r\n\r\n%s\r\n", strings.Repeat(" ", r.IntN(2)*70_000), body)
		}
		b.WriteString("--b--\r\n")
		raw := b.String()
		p, err := message.Parse(pieces{message.Bytes([]byte(raw))}, message.Limits{})
		if err != nil || len(p.Children) != 3 {
			t.Fatal(len(p.Children), err)
		}
		checkPart(t, []byte(raw), p, int64(len(raw)))
		for i, c := range p.Children {
			if raw[c.Body:c.End] != bodies[i] {
				t.Fatalf("child %d has %d bytes, want %d", i, c.End-c.Body, len(bodies[i]))
			}
		}
	}
}

func FuzzHeader(f *testing.F) {
	f.Add([]byte("A: b\r\n c\r\nContent-Type: text/plain; x*0*=utf-8''%41\n\nbody"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		h := message.ParseHeader(raw)
		var all []byte
		for _, field := range h.Fields {
			all = append(all, field.Raw...)
			_, params := message.ParseParams(field.Value())
			message.DecodeParams(params)
		}
		if !bytes.HasPrefix(raw, h.Raw) || !bytes.HasPrefix(h.Raw, all) || len(h.Raw)-len(all) > 2 {
			t.Fatalf("header %q of fields %q", h.Raw, all)
		}
		read, err := message.ReadHeader(message.Bytes(raw), 0)
		if err == nil && !bytes.Equal(read.Raw, h.Raw) {
			t.Fatalf("ReadHeader %q, ParseHeader %q", read.Raw, h.Raw)
		}
	})
}

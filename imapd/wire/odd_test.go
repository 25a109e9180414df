package wire_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"letterlock.org/letterlock/imapd/wire"
)

// fetchItems reads a FETCH response; what it gives ends with the error.
func fetchItems(r *wire.ResponseReader) []string {
	if h, err := r.Next(); err != nil || h.Name != "FETCH" || !h.HasNum {
		return []string{"no FETCH"}
	}
	f, err := r.Fetch()
	if err != nil {
		return []string{err.Error()}
	}
	var got []string
	for {
		i, err := f.Next()
		switch {
		case err == io.EOF:
			return got
		case errors.Is(err, wire.ErrDesync):
			return append(got, "desync")
		case err != nil:
			return append(got, err.Error())
		}
		v := string(i.Value)
		if i.Literal {
			var b strings.Builder
			if f.Copy(&b) != nil {
				return append(got, "cut")
			}
			v = "<" + b.String() + ">"
		}
		got = append(got, string(i.Name)+"="+v)
	}
}

// TestOddFetches: what some servers send beside the grammar, read so that what is
// passed on is within it.
func TestOddFetches(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"spaces", "* 1   FETCH ( UID  9   FLAGS  (\\Seen) ) \r\n", "UID=9|FLAGS=(\\Seen)"},
		{"no spaces", "* 1 FETCH (UID 9 FLAGS(\\Seen) BODY[]{2}\r\nab BODY[1]\"x\")\r\n", "UID=9|FLAGS=(\\Seen)|BODY[]=<ab>|BODY[1]=\"x\""},
		{"an empty line behind a literal", "* 1 FETCH (BODY[] {2}\r\nab\r\n UID 9)\r\n", "BODY[]=<ab>|UID=9"},
		{"two empty lines behind a literal", "* 1 FETCH (BODY[] {2}\r\nab\r\n\r\n UID 9)\r\n", "BODY[]=<ab>|desync"},
		{"empty lines before", "\r\n\r\n* 1 FETCH (UID 9)\r\n", "UID=9"},
		{"parentheses around items", "* 1 FETCH (UID 9 (ENVELOPE (NIL)) (FLAGS (a) X 1) Y 2)\r\n", "UID=9|ENVELOPE=(NIL)|FLAGS=(a)|X=1|Y=2"},
		{"a parenthesis too many", "* 1 FETCH (UID 9))\r\n", "UID=9|malformed item"},
		{"quotes in a string", "* 1 FETCH (ENVELOPE (\"<\"a\"@b>\" \"\"\"\" NIL) UID 9)\r\n", `ENVELOPE=("<\"a\"@b>" "\"\"" NIL)|UID=9`},
		{"quotes and a literal", "* 1 FETCH (ENVELOPE (\"a\"b\" {3}\r\n\"x)) UID 9)\r\n", "ENVELOPE=(\"a\\\"b\" {3}\r\n\"x))|UID=9"},
		{"a literal that isn't waited for, and a binary one", "* 1 FETCH (ENVELOPE (\"a\" {3+}\r\nb\r\n ~{1}\r\nc {002}\r\nde) UID 9)\r\n", "ENVELOPE=(\"a\" {3}\r\nb\r\n {1}\r\nc {2}\r\nde)|UID=9"},
		{"a literal that ends in a tilde, right before another", "* 1 FETCH (ENVELOPE (NIL {1}\r\n~{1}\r\nx) UID 9)\r\n", "ENVELOPE=(NIL {1}\r\n~{1}\r\nx)|UID=9"},
		{"controls in a name", "* 1 FETCH (UID 9 BODY[HEADER.FIELDS (X\rMailer)] \"\")\r\n", "UID=9|malformed item"},
		{"a string that ends a list", `* 1 FETCH (BODYSTRUCTURE ("a"("b" "c")"d") UID 9)` + "\r\n", `BODYSTRUCTURE=("a"("b" "c")"d")|UID=9`},
		{"an item without end", "* 1 FETCH (UID 9 ENVELOPE (\"a)\r\n", "UID=9|malformed item"},
		{"an item without end, then a literal", "* 1 FETCH (UID 9 ENVELOPE (\"a {3}\r\nabc)\r\n", "UID=9|desync"},
	} {
		r := wire.NewResponseReader(strings.NewReader(tt.in+"* OK next\r\n"), wire.Limits{})
		got := strings.Join(fetchItems(r), "|")
		if got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.name, got, tt.want)
		}
		if h, err := r.Next(); !strings.HasSuffix(got, "desync") && (err != nil || h.Name != "OK") {
			t.Errorf("%s: then comes %q, %v", tt.name, h.Name, err)
		}
	}
}

// FuzzFetch: an item, written as it was read, reads the same again, and nothing but
// it: no reader finds more in it than we did.
func FuzzFetch(f *testing.F) {
	f.Add([]byte("UID  9 (ENVELOPE (\"a\"b\" {2}\r\n\"x \"\\\"\")) BODY[]{4}\r\nabcd\r\n FLAGS(\\Seen) X \"\"\"\""))
	f.Fuzz(func(t *testing.T, in []byte) {
		in = append(append([]byte("* 1 FETCH ("), in...), ")\r\n"...)
		for _, item := range fetchItems(wire.NewResponseReader(bytes.NewReader(in), wire.Limits{Response: 500})) {
			name, value, ok := strings.Cut(item, "=")
			if !ok || name == "" || strings.HasPrefix(value, "<") || strings.ContainsAny(name, "[=") {
				continue
			}
			again := fetchItems(wire.NewResponseReader(strings.NewReader("* 1 FETCH ("+item[:len(name)]+" "+value+" Z 1)\r\n"), wire.Limits{}))
			if len(again) != 2 || again[0] != item || again[1] != "Z=1" {
				t.Fatalf("%q is read as %q", item, again)
			}
		}
	})
}

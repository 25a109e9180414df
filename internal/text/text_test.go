package text_test

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"letterlock.org/letterlock/internal/text"
)

func TestDecode(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"plain text stays", "Hello, you", "Hello, you"},
		{"a quoted word", "=?utf-8?q?Gr=C3=BC=C3=9Fe?= an alle", "Grüße an alle"},
		{"words side by side join", "=?utf-8?b?SGVs?= =?utf-8?b?bG8=?=", "Hello"},
		{"another character set", "=?iso-8859-1?q?caf=E9?=", "café"},
		{"an unknown character set is read as UTF-8", "=?x-none?q?caf=C3=A9?=", "café"},
		{"a malformed word stays", "=?utf-8?z?abc?=", "=?utf-8?z?abc?="},
		{"no line leaves its line, also encoded", "=?utf-8?q?a=0D=0AX:_b?=", "aX: b"},
		{"NUL and escape go", "a\x00b\x1b[31m", "ab[31m"},
		{"direction marks go", "abc\u202etxt.exe\u2066", "abctxt.exe"},
		{"a tab is a space", "a\tb", "a b"},
		{"what is not UTF-8 is marked", "a\xffb", "a\ufffdb"},
	}
	for _, tt := range tests {
		if got := text.Decode(tt.in); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestDecodeIsBounded(t *testing.T) {
	start := time.Now()
	for _, n := range []int{16 << 10, 1 << 20} {
		text.Decode(strings.Repeat("=?a?q?x", n/7))
	}
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("took %v", took)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add("=?utf-8?q?a=0D=0A?= =?iso-2022-jp?b?GyRCJUYbKEI=?=")
	f.Add("=?utf-7?q?+AA0-?= \u202e")
	f.Fuzz(func(t *testing.T, s string) {
		got := text.Decode(s)
		if strings.ContainsAny(got, "\r\n\x00\x1b\u0085\u2028\u202e\u2066") || !utf8.ValidString(got) {
			t.Fatalf("Decode(%q) = %q is not safe to show", s, got)
		}
	})
}

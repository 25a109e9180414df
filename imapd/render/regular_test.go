package render_test

import (
	"bytes"
	"strings"
	"testing"

	"letterlock.org/letterlock/imapd/render"
	"letterlock.org/letterlock/internal/message"
)

// FuzzReadRegular: what is taken for regular is read as everything else reads it.
func FuzzReadRegular(f *testing.F) {
	f.Add([]byte("From: a\r\nsubject: b\r\n c\r\nFROM: d\r\n\r\nbody: x\r\n"))
	f.Add([]byte("Letterlock-Status: a\r\nFrom: b\r\n\r\n"))
	f.Add([]byte("From:\r\n\r\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var got []message.Field
		n := render.ReadRegular(raw, func(start int, name, raw []byte) {
			got = append(got, message.Field{Name: string(name), Raw: bytes.Clone(raw), Start: int64(start)})
		})
		if n == 0 {
			return
		}
		h := message.ParseHeader(raw)
		if len(h.Raw) != n || len(h.Fields) != len(got) {
			t.Fatalf("a header of %d bytes and %d fields, want %d and %d", n, len(got), len(h.Raw), len(h.Fields))
		}
		for i, want := range h.Fields {
			if got[i].Name != want.Name || got[i].Start != want.Start || !bytes.Equal(got[i].Raw, want.Raw) {
				t.Errorf("field %d is %+v, want %+v", i, got[i], want)
			}
		}
		for _, names := range [][]string{{"From", "subject"}, {"X"}, {"Letterlock-Status", "From"}} {
			for _, not := range []bool{false, true} {
				want := render.HeaderFields(h, names, not)
				render.Mask(want, 0, render.Imitations(want))
				if got := render.NewPicker(names, not).Append([]byte("..."), raw[:n]); string(got) != "..."+string(want) {
					t.Errorf("picked %q of %v (not: %v), want %q", got, names, not, want)
				}
			}
		}
	})
}

func TestReadRegular(t *testing.T) {
	for _, tt := range []struct {
		name, raw string
		want      int
	}{
		{"fields and folding", "From: a\r\nTo: b,\r\n\tc\r\n\r\nbody", len("From: a\r\nTo: b,\r\n\tc\r\n\r\n")},
		{"no field at all", "\r\nbody", 2},
		{"8-bit text", "Subject: \xc3\xbc\xff\r\n\r\n", 16},
		{"nothing", "", 0},
		{"no end", "From: a\r\n", 0},
		{"an end within CRLF", "From: a\r\n\r", 0},
		{"a bare LF", "From: a\nTo: b\r\n\r\n", 0},
		{"a bare LF that ends it", "From: a\r\n\n", 0},
		{"a bare CR", "From: a\rTo: b\r\n\r\n", 0},
		{"CRCRLF", "From: a\r\r\n\r\n", 0},
		{"NUL", "From: a\x00\r\n\r\n", 0},
		{"a vertical tab", "From: a\vTo: b\r\n\r\n", 0},
		{"a space before the colon", "From : a\r\n\r\n", 0},
		{"no name", ": a\r\n\r\n", 0},
		{"no colon", "From a\r\n\r\n", 0},
		{"an mbox line", "From a@example.org Tue Mar  3 10:00:00 2026\r\nTo: b\r\n\r\n", 0},
		{"folding before any field", " From: a\r\n\r\n", 0},
		{"a folded line of white space", "From: a\r\n \r\nTo: b\r\n\r\n", 0},
		{"8-bit names", "Fr\xc3\xb6m: a\r\n\r\n", 0},
	} {
		if got := render.ReadRegular([]byte(tt.raw), func(int, []byte, []byte) {}); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
	if !render.FieldName("X-Y") || render.FieldName("") || render.FieldName("X Y") || render.FieldName(strings.Repeat("x", 3)+":") {
		t.Error("names of fields")
	}
}

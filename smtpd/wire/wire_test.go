package wire_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"letterlock.org/letterlock/smtpd/wire"
)

// decode runs a decoder over pieces of at most n bytes.
func decode(in string, n int) (out, rest string, done bool, d wire.DataDecoder) {
	for in != "" && !done {
		piece := []byte(in[:min(n, len(in))])
		in = in[len(piece):]
		o, r, end := d.Decode(piece)
		out += string(o)
		if done = end; done {
			rest = string(r) + in
		}
	}
	return out, rest, done, d
}

// TestDataDecoder: only CRLF.CRLF ends a message, and nothing but a dot at the
// beginning of a line is taken away, wherever the network cuts.
func TestDataDecoder(t *testing.T) {
	for _, tt := range []struct {
		name, in, out, rest string
		done, bad, doubtful bool
	}{
		{"a message", "a\r\nb\r\n.\r\nNOOP\r\n", "a\r\nb\r\n", "NOOP\r\n", true, false, false},
		{"an empty message", ".\r\nX", "", "X", true, false, false},
		{"dots", "..\r\n...a\r\n.b\r\n..\r\n.\r\n", ".\r\n..a\r\nb\r\n.\r\n", "", true, false, false},
		{"dots within lines", "a.\r\n a..b\r\n.\r\n", "a.\r\n a..b\r\n", "", true, false, false},
		{"no end", "a\r\n.", "a\r\n", "", false, false, false},
		{"LF.LF is no end", "a\n.\nb\r\n.\r\n", "", "", true, true, false},
		{"LF.CRLF is no end", "a\n.\r\nb\r\n.\r\n", "", "", true, true, false},
		{"CRLF.LF is no end", "a\r\n.\nb\r\n.\r\n", "", "", true, true, false},
		{"CRLF.CR is no end", "a\r\n.\rb\r\n.\r\n", "", "", true, true, false},
		{"CR.CR is no end", "a\r.\rb\r\n.\r\n", "", "", true, true, false},
		{"CR.CRLF is no end", "a\r.\r\nb\r\n.\r\n", "", "", true, true, false},
		{"CRLF.CRCRLF is no end", "a\r\n.\r\r\nb\r\n.\r\n", "", "", true, true, false},
		{"LFLF.LFLF is no end", "a\n\n.\n\nb\r\n.\r\n", "", "", true, true, false},
		{"CRCRLF.CRLF is one that not all see", "a\r\r\n.\r\nb\r\n.\r\n", "", "b\r\n.\r\n", true, true, true},
		{"a CR before the end", "a\r\n\r.\r\n.\r\n", "", "", true, true, false},
		{"a LF first", "\n.\r\n\r\n.\r\n", "", "", true, true, false},
		{"a NUL before the dot is no end", "a\r\n\x00.\r\nb\r\n.\r\n", "a\r\n\x00.\r\nb\r\n", "", true, false, false},
	} {
		for n := 1; n <= len(tt.in); n++ {
			out, rest, done, d := decode(tt.in, n)
			if done != tt.done || done && d.Bad() != tt.bad || d.Doubtful() != tt.doubtful || rest != tt.rest || !tt.bad && out != tt.out {
				t.Errorf("%s, in pieces of %d: got %q, rest %q, done %v, bad %v, doubtful %v", tt.name, n, out, rest, done, d.Bad(), d.Doubtful())
			}
		}
	}
}

// slowDecode is DataDecoder as one reads RFC 5321.
func slowDecode(in string) (out, rest string, done, bad bool) {
	body, rest, done := strings.Cut("\r\n"+in, "\r\n.\r\n")
	if !done {
		return "", "", false, false
	}
	if body != "" {
		body += "\r\n"
	}
	bare := strings.ReplaceAll(body, "\r\n", "")
	return strings.TrimPrefix(strings.ReplaceAll(body, "\r\n.", "\r\n"), "\r\n"), rest, true, strings.ContainsAny(bare, "\r\n")
}

func FuzzDataDecoder(f *testing.F) {
	for _, s := range []string{"a\r\n.\r\n", ".\r\n", "..\r\n.\r\n", "a\n.\n\r\n.\r\n", "\r\n.\r\r\n.\r\n", "a\r\r\n.\r\nb"} {
		f.Add(s, uint8(1))
	}
	f.Fuzz(func(t *testing.T, in string, cut uint8) {
		out, rest, done, d := decode(in, int(cut)+1)
		want, wantRest, wantDone, wantBad := slowDecode(in)
		if done != wantDone || rest != wantRest || done && d.Bad() != wantBad || done && !wantBad && out != want {
			t.Errorf("%q: got %q, %q, %v, %v; want %q, %q, %v, %v", in, out, rest, done, d.Bad(), want, wantRest, wantDone, wantBad)
		}
	})
}

// FuzzStuffer: what is stuffed comes back from the decoder as it was, and holds
// no end of a message for servers that read LF or CR as one of a line, or leave NULs out.
func FuzzStuffer(f *testing.F) {
	for _, s := range []string{"", ".", "a\r\n.\r\n", "a\n.\n", "a\r.\rb", "a\r\n\x00.\r\n", "..", "\r\n..\r\n"} {
		f.Add([]byte(s), uint8(0))
	}
	f.Fuzz(func(t *testing.T, in []byte, cut uint8) {
		var s wire.Stuffer
		var out bytes.Buffer
		for rest := in; len(rest) > 0; {
			n := min(int(cut)+1, len(rest))
			if err := s.Next(rest[:n], func(b []byte) error { out.Write(b); return nil }); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		out.WriteString(s.End())
		if text := "\n" + strings.NewReplacer("\r", "\n", "\x00", "").Replace(out.String()); strings.Contains(text, "\n.\n") {
			t.Fatalf("an end within: %q", text)
		}
		if bytes.ContainsAny(bytes.ReplaceAll(in, []byte("\r\n"), nil), "\r\n\x00") {
			return
		}
		back, _, done, d := decode(out.String()+".\r\n", 7)
		if !done || d.Bad() || back != string(in) && back != string(in)+"\r\n" {
			t.Errorf("%q came back as %q", in, back)
		}
	})
}

func FuzzLineCheck(f *testing.F) {
	for _, s := range []string{"a\r\nb\r\n", "\na", "a\r", "a\r\r\n", "a\r\n\n", "\r\n"} {
		f.Add(s, uint8(0))
	}
	f.Fuzz(func(t *testing.T, in string, cut uint8) {
		var l wire.LineCheck
		for rest := in; rest != ""; {
			n := min(int(cut)+1, len(rest))
			l.Check([]byte(rest[:n]))
			rest = rest[n:]
		}
		if want := strings.ContainsAny(strings.ReplaceAll(in, "\r\n", ""), "\r\n"); l.Bad() != want {
			t.Errorf("%q: bad %v, want %v", in, l.Bad(), want)
		}
	})
}

func TestReaderLines(t *testing.T) {
	long := strings.Repeat("x", 3000)
	for _, tt := range []struct {
		name, in string
		want     []string // "!" for too long, "?" for a bare line end
	}{
		{"lines", "a\r\n\r\nb c\r\n", []string{"a", "", "b c"}},
		{"one that is too long is skipped", "a\r\n" + long + "\r\nb\r\n", []string{"a", "!", "b"}},
		{"as long as allowed", long[:98] + "\r\nb\r\n", []string{long[:98], "b"}},
		{"one byte too long", long[:99] + "\r\nb\r\n", []string{"!", "b"}},
		{"nothing after a bare LF", "a\nb\r\nc\r\n", []string{"?", "?"}},
		{"nothing after a bare CR", "a\rb\r\nc\r\n", []string{"?", "?"}},
		{"nothing after two CRs", "a\r\r\nc\r\n", []string{"?", "?"}},
		{"no line at the end", "a\r\nb", []string{"a"}},
	} {
		for _, src := range []io.Reader{strings.NewReader(tt.in), iotest.OneByteReader(strings.NewReader(tt.in)), iotest.DataErrReader(strings.NewReader(tt.in))} {
			r := wire.NewReader(src)
			var got []string
			for len(got) < 5 {
				line, err := r.Line(100)
				switch {
				case errors.Is(err, wire.ErrLong):
					got = append(got, "!")
				case errors.Is(err, wire.ErrBareLineEnd):
					if got = append(got, "?"); len(got) == 2 {
						goto done
					}
				case err != nil:
					goto done
				default:
					got = append(got, string(line))
				}
			}
		done:
			if strings.Join(got, "|") != strings.Join(tt.want, "|") {
				t.Errorf("%s: got %.60q, want %.60q", tt.name, got, tt.want)
			}
		}
	}
}

// TestReaderBlocksAndLines: lines, a block of which a part is taken back, lines
// again; and after an error nothing.
func TestReaderBlocksAndLines(t *testing.T) {
	broken := errors.New("broken")
	r := wire.NewReader(io.MultiReader(strings.NewReader("DATA\r\nhello\r\n.\r\nQUIT\r\n"), iotest.ErrReader(broken)))
	if l, err := r.Line(100); string(l) != "DATA" || err != nil {
		t.Fatalf("%q, %v", l, err)
	}
	b, err := r.Block()
	if err != nil || string(b) != "hello\r\n.\r\nQUIT\r\n" {
		t.Fatalf("%q, %v", b, err)
	}
	r.Unread(6)
	if l, err := r.Line(100); string(l) != "QUIT" || err != nil {
		t.Fatalf("%q, %v", l, err)
	}
	r.Release()
	for range 3 {
		if _, err := r.Block(); !errors.Is(err, broken) {
			t.Errorf("got %v", err)
		}
		if _, err := r.Line(100); !errors.Is(err, broken) {
			t.Errorf("got %v", err)
		}
	}
}

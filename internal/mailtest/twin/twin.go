// Package twin says in what a message may differ from what it was before it was
// encrypted, stored and opened again: the whole list, each with its reason.
//
// [Check] compares one message with what a client is shown of its encrypted
// twin. It is for tests, and knows nothing of OpenPGP: what it expects, it says
// from the two texts alone.
package twin

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"mime/quotedprintable"
	"slices"
	"strings"

	"letterlock.org/letterlock/internal/message"
)

// How a message was encrypted.
type How string

const (
	// Sealed is stored for its owner (pgp.Seal): nothing differs.
	Sealed How = "sealed"
	// Protected is sent by Letterlock (pgp.Protect):
	//
	//   - fields that never leave are gone: Bcc and what the sender's program
	//     notes for itself; what servers add on the way (Received) stands first;
	//   - there is one space after a field's colon, since the field is written
	//     anew;
	//   - Letterlock-Status, which we say, then MIME-Version, which every
	//     message has that was encrypted, then the fields that describe the
	//     body;
	//   - the parameters of the root's Content-Type stand on lines of their own,
	//     with the marks of header protection (RFC 9788, Section 2.1.1);
	//   - a body that is not 7bit is encoded anew (RFC 3156, Section 3), so that
	//     its bytes differ, and its text does not.
	Protected How = "protected"
	// Foreign is encrypted by another program that protects no header fields
	// (RFC 3156): the fields stand as they were, then Letterlock-Status,
	// MIME-Version and those that describe the body; the body has its bytes.
	Foreign How = "foreign"
)

// Check compares a message with what is shown of its encrypted twin. It says
// the first difference that is not in the list.
func Check(plain, shown []byte, how How) error {
	if how == Sealed {
		return same("message", plain, shown)
	}
	p, s := message.ParseHeader(plain), message.ParseHeader(shown)
	body, shownBody := plain[len(p.Raw):], shown[len(s.Raw):]
	word, _ := message.ParseParams(p.Get("Content-Type"))
	composite := strings.HasPrefix(word, "multipart/") || strings.HasPrefix(word, "message/")
	want := expected(p, how, how == Protected && !sevenBit(body) && !composite)
	for i, f := range s.Fields {
		if i >= len(want) {
			return fmt.Errorf("field %q is not in the message", f.Raw)
		}
		if ok, what := want[i].is(f); !ok {
			return fmt.Errorf("field %d is %q, want %s", i, f.Raw, what)
		}
	}
	if len(s.Fields) < len(want) {
		_, what := want[len(s.Fields)].is(message.Field{})
		return fmt.Errorf("%d fields, want %d: %s is missing", len(s.Fields), len(want), what)
	}
	if how == Foreign || sevenBit(body) {
		return same("body", body, shownBody)
	}
	return sameParts(plain, shown)
}

// field is one that is expected: all bytes, or its beginning, or its parameters.
type field struct {
	raw    []byte
	prefix string
	marked string // the value of a Content-Type, to which marks were added
	name   string // whose value may differ
}

func (w field) is(f message.Field) (ok bool, what string) {
	switch {
	case w.raw != nil:
		return bytes.Equal(w.raw, f.Raw), fmt.Sprintf("%q", w.raw)
	case w.prefix != "":
		return strings.HasPrefix(string(f.Raw), w.prefix), w.prefix
	case w.name != "":
		return f.Is(w.name), w.name
	}
	return f.Is("Content-Type") && sameType(w.marked, f.Value()), "Content-Type: " + w.marked
}

// expected is the header that is to be shown. With anew the root's body is
// encoded anew.
func expected(h message.Header, how How, anew bool) []field {
	var first, said, about []field
	for _, f := range h.Fields {
		n := strings.ToLower(f.Name)
		switch {
		case n == "mime-version":
		case n == "content-type":
			// Comes first of those that describe the body.
			if how == Foreign {
				about = append(about, field{raw: f.Raw})
			} else {
				about = slices.Insert(about, 0, field{marked: f.Value()})
			}
		case n == "content-transfer-encoding" && how == Protected && anew:
		case strings.HasPrefix(n, "content-"):
			about = append(about, field{raw: f.Raw})
		case how == Foreign:
			said = append(said, field{raw: f.Raw})
		case neverLeaves(n):
		case n == "received":
			first = append(first, field{raw: f.Raw})
		default:
			said = append(said, field{raw: oneSpace(f.Raw)})
		}
	}
	if !h.Has("Content-Type") {
		t := field{marked: "text/plain"}
		if how == Foreign {
			t = field{raw: []byte("Content-Type: text/plain; charset=utf-8\r\n")}
		}
		about = slices.Insert(about, 0, t)
	}
	all := append(first, said...)
	all = append(all, field{prefix: "Letterlock-Status: encrypted; signature="}, field{raw: []byte("MIME-Version: 1.0\r\n")})
	all = append(all, about...)
	if anew {
		all = append(all, field{name: "Content-Transfer-Encoding"})
	}
	return all
}

// neverLeaves: see pgp.Protect.
func neverLeaves(n string) bool {
	return slices.Contains([]string{"bcc", "fcc", "user-agent", "x-mailer"}, n) || strings.HasPrefix(n, "x-mozilla-")
}

func oneSpace(raw []byte) []byte {
	name, value, _ := bytes.Cut(raw, []byte{':'})
	return slices.Concat(name, []byte(": "), bytes.TrimLeft(value, " \t"))
}

// sameType compares a Content-Type with one that has the marks of header
// protection besides.
func sameType(plain, shown string) bool {
	word, params := message.ParseParams(plain)
	gotWord, got := message.ParseParams(shown)
	got = slices.DeleteFunc(got, func(p message.Param) bool { return p.Name == "hp" || p.Name == "protected-headers" })
	return strings.EqualFold(word, gotWord) && slices.EqualFunc(params, got, func(a, b message.Param) bool {
		return strings.EqualFold(a.Name, b.Name) && a.Value == b.Value
	})
}

func sevenBit(b []byte) bool {
	for line := range bytes.Lines(b) {
		if len(line) > 1000 || bytes.ContainsFunc(line, func(r rune) bool { return r >= 0x80 || r == 0 }) {
			return false
		}
	}
	return true
}

// sameParts compares structure and decoded text.
func sameParts(plain, shown []byte) error {
	p, err := message.Parse(message.Bytes(plain), message.Limits{})
	if err != nil {
		return err
	}
	s, err := message.Parse(message.Bytes(shown), message.Limits{})
	if err != nil {
		return err
	}
	return sameTree(p, s, plain, shown)
}

func sameTree(p, s *message.Part, plain, shown []byte) error {
	if p.Type != s.Type || p.Subtype != s.Subtype || len(p.Children) != len(s.Children) || (p.Embedded == nil) != (s.Embedded == nil) {
		return fmt.Errorf("part %s/%s of %d parts became %s/%s of %d", p.Type, p.Subtype, len(p.Children), s.Type, s.Subtype, len(s.Children))
	}
	for i := range p.Children {
		if err := sameTree(p.Children[i], s.Children[i], plain, shown); err != nil {
			return err
		}
	}
	if p.Embedded != nil {
		return sameTree(p.Embedded, s.Embedded, plain, shown)
	}
	if len(p.Children) > 0 {
		return nil
	}
	return same("text of "+p.Type+"/"+p.Subtype, decoded(p, plain), decoded(s, shown))
}

func decoded(p *message.Part, raw []byte) []byte {
	var r io.Reader = bytes.NewReader(raw[p.Body:p.End])
	switch strings.ToLower(strings.TrimSpace(p.Header.Get("Content-Transfer-Encoding"))) {
	case "base64":
		r = base64.NewDecoder(base64.StdEncoding, r)
	case "quoted-printable":
		r = quotedprintable.NewReader(r)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		return append(b, err.Error()...)
	}
	return b
}

func same(what string, want, got []byte) error {
	if bytes.Equal(want, got) {
		return nil
	}
	i := 0
	for i < len(want) && i < len(got) && want[i] == got[i] {
		i++
	}
	return fmt.Errorf("%s of %d bytes, want %d; from byte %d on %.80q, want %.80q", what, len(got), len(want), i, got[i:], want[i:])
}

package pgp

import (
	"bytes"
	"slices"
	"strings"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/internal/text"
)

// oneReading tells whether every mail program takes the same structure from the
// header of a signed message. That header is not signed: with a second
// Content-Type or boundary, a bare CR, or a line that ends the header for some,
// anybody can wrap what somebody signed so that we see the signed part and
// another program words of their own, beside our word for the signature.
func oneReading(h message.Header) bool {
	if !oneLineEnd(h.Raw) {
		return false
	}
	for _, f := range h.Fields {
		if f.Name == "" || endsForSome(f) {
			return false
		}
	}
	types := h.All("Content-Type")
	if len(types) > 1 || len(h.All("Content-Transfer-Encoding")) > 1 || len(h.All("MIME-Version")) > 1 {
		return false
	}
	return len(types) == 0 || plainType(types[0].Value()) && paramsOnce(types[0].Value())
}

// oneLineEnd tells whether the lines of b end the same way for everyone: without
// NUL and bare CR, and with either CRLF or LF, not now one and now the other.
func oneLineEnd(b []byte) bool {
	crlf := bytes.Count(b, lineEnd)
	return bytes.IndexByte(b, 0) < 0 && bytes.Count(b, []byte("\r")) == crlf &&
		(crlf == 0 || bytes.Count(b, []byte("\n")) == crlf)
}

// endsForSome tells of a field that some take for none, or for the header's end:
// with white space before the colon (RFC 5322, Section 4.5.8, of old), or a
// continuation line of white space only (Section 4.2).
func endsForSome(f message.Field) bool {
	if len(f.Raw) <= len(f.Name) || f.Raw[len(f.Name)] != ':' {
		return true
	}
	first := true
	for line := range bytes.Lines(f.Raw) {
		if !first && len(bytes.TrimSpace(line)) == 0 {
			return true
		}
		first = false
	}
	return false
}

// plainType tells whether a Content-Type is written as RFC 2045, Section 5.1 has
// it, in the simplest way: without comments, which some take for text, escapes,
// or values that some cut short.
func plainType(value string) bool {
	rest, _ := strings.CutPrefix(value, typeWord(value))
	if len(rest) == len(value) {
		return false
	}
	for {
		rest = strings.TrimLeft(rest, " \t")
		if rest == "" {
			return true
		}
		if rest[0] != ';' {
			return false
		}
		if rest = strings.TrimLeft(rest[1:], " \t;"); rest == "" {
			return true // semicolons too many are common
		}
		name := token(rest)
		if after := strings.TrimLeft(rest[len(name):], " \t"); name != "" && (after == "" || after[0] == ';') {
			rest = after // a word that isn't a parameter, as chatmail's "protected"
			continue
		}
		base, _, extended := strings.Cut(strings.ToLower(name), "*")
		if name == "" || len(rest) <= len(name) || rest[len(name)] != '=' ||
			extended && (base == "boundary" || base == "protocol") {
			return false
		}
		v, n := paramValue(rest[len(name)+1:], base == "boundary")
		if n == 0 || base == "boundary" && !plainBoundary(v) || base != "boundary" && seemsBoundary(base, v) {
			return false
		}
		rest = rest[len(name)+1+n:]
	}
}

// seemsBoundary tells of another parameter in which some find a boundary: who looks
// for semicolons without regard to quotes, or for the word alone.
func seemsBoundary(name, v string) bool {
	return strings.Contains(v, ";") || strings.HasSuffix(name, "boundary") || strings.Contains(strings.ToLower(v), "boundary=")
}

// typeWord is the "type/subtype" that value begins with.
func typeWord(value string) string {
	t := token(value)
	if t == "" || len(value) <= len(t) || value[len(t)] != '/' {
		return ""
	}
	s := token(value[len(t)+1:])
	if s == "" {
		return ""
	}
	return value[:len(t)+1+len(s)]
}

// token is the token that s begins with (RFC 2045, Section 5.1).
func token(s string) string {
	if i := strings.IndexFunc(s, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune(`()<>@,;:\"/[]?=`, r)
	}); i >= 0 {
		return s[:i]
	}
	return s
}

// paramValue is the value that s begins with, and its length as written; 0 if it
// is none, or none that is simple. Where it need not be a token, it may be such as
// "application/pgp-signature" without quotes, which every program reads.
func paramValue(s string, exactly bool) (v string, n int) {
	if !strings.HasPrefix(s, `"`) {
		v = token(s)
		for !exactly && len(v) < len(s) && strings.IndexByte("/:=?@[]", s[len(v)]) >= 0 {
			v = s[:len(v)+1+len(token(s[len(v)+1:]))]
		}
		return v, len(v)
	}
	v, _, ok := strings.Cut(s[1:], `"`)
	if !ok || strings.Contains(v, `\`) || strings.ContainsFunc(v, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
		return "", 0
	}
	return v, len(v) + 2
}

// plainBoundary: RFC 2046, Section 5.1.1.
func plainBoundary(b string) bool {
	return b != "" && len(b) <= 70 && b[len(b)-1] != ' ' && !strings.ContainsFunc(b, func(r rune) bool {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		return !letter && !strings.ContainsRune("'()+_,-./:=? ", r)
	})
}

// paramsOnce tells whether no parameter is there twice, as a piece or encoded
// (RFC 2231) either.
func paramsOnce(contentType string) bool {
	_, params := message.ParseParams(contentType)
	seen := map[string]bool{}
	for _, p := range params {
		name, _, _ := strings.Cut(strings.ToLower(p.Name), "*")
		if seen[name] {
			return false
		}
		seen[name] = true
	}
	return true
}

// saysAsSigned tells whether what people see and go by, which stands outside of what
// is signed, is what the signed part protects, if it does (RFC 9788, Section 2.1.1):
// a signature speaks for nothing else. Servers write dates and lists of addresses
// anew; there the moment and the addresses count. An answer must not go where only
// the outside says (Section 4.4.4). Where every field is protected, a Subject that
// stands only outside is somebody else's; a To is added by servers.
func saysAsSigned(visible message.Header, signed *message.Part) bool {
	hp := strings.ToLower(signed.Params["hp"])
	all := hp == "clear" || hp == "cipher"
	if !all && !strings.EqualFold(signed.Params["protected-headers"], "v1") {
		return true
	}
	for _, name := range []string{"Subject", "From", "Date", "To", "Cc", "Reply-To"} {
		inside, outside := signed.Header.All(name), visible.All(name)
		if len(inside) == 0 && (!all || name != "Reply-To" && name != "Subject" || !slices.ContainsFunc(outside, says)) {
			continue
		}
		if len(inside) != 1 || len(outside) != 1 || !sameField(name, inside[0], outside[0]) {
			return false
		}
	}
	return true
}

// says tells of a field that isn't empty: servers write empty ones where there was none.
func says(f message.Field) bool { return spaced(f) != "" }

func sameField(name string, a, b message.Field) bool {
	if spaced(a) == spaced(b) {
		return true
	}
	switch name {
	case "Date":
		t := parseDate(a.Value())
		return !t.IsZero() && t.Equal(parseDate(b.Value()))
	case "To", "Cc", "Reply-To":
		in, inside := addressesOf(a)
		out, outside := addressesOf(b)
		return inside && outside && slices.Equal(in, out) // also of nobody: "undisclosed-recipients:;"
	}
	return false
}

// addressesOf are those of a field, sorted; ok is false where it is malformed.
func addressesOf(f message.Field) (all []string, ok bool) {
	list, err := address.ParseList(f.Value())
	for _, m := range list {
		all = append(all, m.Address.Key())
	}
	slices.Sort(all)
	return slices.Compact(all), err == nil
}

// spaced is what a field shows, without regard to how it was folded or encoded, and
// with whatever would reorder it.
func spaced(f message.Field) string { return strings.Join(strings.Fields(text.Words(f.Value())), " ") }

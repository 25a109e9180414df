package pgp

import (
	"bytes"
	"strings"

	"letterlock.org/letterlock/internal/message"
)

// oneReading tells whether every mail program takes the same structure from the
// header of a signed message. That header is not signed: with a second
// Content-Type or boundary, a bare CR, or a line that ends the header for some,
// anybody can wrap what somebody signed so that we see the signed part and
// another program words of their own, beside our word for the signature.
func oneReading(h message.Header) bool {
	if bytes.IndexByte(h.Raw, 0) >= 0 || bytes.Count(h.Raw, []byte("\r")) != bytes.Count(h.Raw, []byte("\r\n")) {
		return false
	}
	for _, f := range h.Fields {
		if f.Name == "" {
			return false
		}
	}
	types := h.All("Content-Type")
	if len(types) > 1 || len(h.All("Content-Transfer-Encoding")) > 1 || len(h.All("MIME-Version")) > 1 {
		return false
	}
	return len(types) == 0 || paramsOnce(types[0].Value())
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

// saysAsSigned tells whether the Subject and From that people see, which stand
// outside of what is signed, are those that the signed part protects, if it
// does (RFC 9788, Section 2.1.1): a signature speaks for nothing else.
func saysAsSigned(visible message.Header, signed *message.Part) bool {
	hp := strings.ToLower(signed.Params["hp"])
	if hp != "clear" && hp != "cipher" && !strings.EqualFold(signed.Params["protected-headers"], "v1") {
		return true
	}
	for _, name := range []string{"Subject", "From"} {
		inside, outside := signed.Header.All(name), visible.All(name)
		if len(inside) == 0 {
			continue
		}
		if len(inside) != 1 || len(outside) != 1 || spaced(inside[0]) != spaced(outside[0]) {
			return false
		}
	}
	return true
}

// spaced is what a field shows, without regard to how it was folded.
func spaced(f message.Field) string { return strings.Join(strings.Fields(f.Text()), " ") }

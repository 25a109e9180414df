package pgp

import (
	"bytes"
	"strings"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/message"
)

// notInside tells of fields that mean nothing, or a lie, when they come from
// inside a ciphertext: what servers and mail stores say on the way, blind
// copies (RFC 9788, Section 11.4), and what is ours to say.
func notInside(name string) bool {
	switch n := strings.ToLower(name); n {
	case "received", "received-spf", "return-path", "delivered-to", "envelope-to", "x-original-to", "apparently-to",
		"authentication-results", "dkim-signature", "domainkey-signature", "bcc", "status", "x-status", "x-keywords", "x-uid":
		return true
	default:
		for _, prefix := range []string{"resent-", "arc-", "x-spam-", "x-mozilla-"} {
			if strings.HasPrefix(n, prefix) {
				return true
			}
		}
		return oursToSay(n)
	}
}

// oursToSay tells of fields that only a rendering itself may carry, whoever
// else wrote them. HP-Outer is of use to who decrypts, which we have done.
func oursToSay(name string) bool {
	n := strings.ToLower(name)
	return n == "hp-outer" || strings.HasPrefix(n, "letterlock-")
}

// saidOnlyInside are fields that a message with header protection has inside if
// it has them at all (RFC 9788, Section 5.2.1): one that stands only outside
// was added on the way, and an answer must not follow it (Section 4.4.4).
func saidOnlyInside(name string) bool {
	switch strings.ToLower(name) {
	case "to", "cc", "reply-to", "subject", "comments", "keywords", "in-reply-to", "references", "followup-to",
		"mail-followup-to", "mail-reply-to", "disposition-notification-to", "return-receipt-to":
		return true
	}
	return false
}

// Bounds of a rendering's header: those of message.Limits, with room for ours.
const (
	maxShownHeader = 1<<20 - 4096
	maxShownFields = 1990
	maxShownLine   = 998 // RFC 5322, Section 2.1.1
)

// appendField appends a field that other people wrote, so that it is one field
// for every reader: its own bytes where they are well-formed, with line ends of
// CRLF, else its value folded anew without control characters, right behind its
// name: with white space there (RFC 5322, Section 4.5), some take the line for the
// end of the header. What can't be written so is left out.
func appendField(out []byte, f message.Field) []byte {
	raw := bytes.TrimRight(f.Raw, "\r\n")
	if f.Name == "" || strings.ContainsFunc(f.Name, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return out
	}
	lines := bytes.Split(bytes.ReplaceAll(raw, lineEnd, []byte("\n")), []byte("\n"))
	if len(raw) > len(f.Name) && raw[len(f.Name)] == ':' && wellFormed(lines) {
		for _, l := range lines {
			out = append(append(out, l...), "\r\n"...)
		}
		return out
	}
	value := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(f.Value(), "?"))
	return appendFolded(out, f.Name, value)
}

// wellFormed: no control characters but tabs, no long lines, and no
// continuation line of white space only, which some take for the header's end.
func wellFormed(lines [][]byte) bool {
	for i, l := range lines {
		if len(l) > maxShownLine || i > 0 && len(bytes.TrimSpace(l)) == 0 {
			return false
		}
		if bytes.ContainsFunc(l, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
			return false
		}
	}
	return true
}

// appendFolded writes a field with its words on lines of at most 76 where that
// can be; a word that fits no line drops the field.
func appendFolded(out []byte, name, value string) []byte {
	start, line := len(out), len(name)+1
	out = append(append(out, name...), ':')
	for _, word := range strings.Fields(value) {
		if len(word) > maxShownLine-1 {
			return out[:start]
		}
		if line+1+len(word) > 76 && line > len(name)+1 {
			out, line = append(out, "\r\n"...), 0
		}
		out = append(append(out, ' '), word...)
		line += 1 + len(word)
	}
	return append(out, "\r\n"...)
}

// oneSender is the address of a header that has exactly one From field with
// exactly one address, and no group; else the zero address.
func oneSender(h message.Header) address.Address {
	all := h.All("From")
	if len(all) != 1 || hasGroup(all[0].Value()) {
		return address.Address{}
	}
	list, err := address.ParseList(all[0].Value())
	if err != nil || len(list) != 1 {
		return address.Address{}
	}
	return list[0].Address
}

// hasGroup looks for the semicolon that ends a group (RFC 5322, Section 3.4),
// outside of quoted strings and comments.
func hasGroup(value string) bool {
	quoted, depth := false, 0
	for i := 0; i < len(value); i++ {
		switch c := value[i]; {
		case c == '\\':
			i++
		case c == '"' && depth == 0:
			quoted = !quoted
		case quoted:
		case c == '(':
			depth++
		case c == ')' && depth > 0:
			depth--
		case c == ';' && depth == 0:
			return true
		}
	}
	return false
}

// dateOf reads a Date field (RFC 5322, Sections 3.3 and 4.3); zero if it is none.
func dateOf(h message.Header) time.Time {
	return parseDate(h.Get("Date"))
}

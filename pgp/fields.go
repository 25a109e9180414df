package pgp

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"strings"
	"time"

	"letterlock.org/letterlock/internal/message"
)

// field is a header field on its way out: its value is folded with CRLF, has no
// other CR or LF, no line end at its end, and begins with a space.
type field struct{ name, value string }

// structural tells of fields that describe the body (RFC 9787, Section 1.1.1);
// every other field is part of what is said.
func structural(name string) bool {
	n := strings.ToLower(name)
	return n == "mime-version" || strings.HasPrefix(n, "content-")
}

// dropped tells of fields that never leave: blind copies (RFC 9788, Section
// 11.4), what is ours to say, and what only the sender's program needs to know
// or tells too much of it.
func dropped(name string) bool {
	switch n := strings.ToLower(name); n {
	case "bcc", "resent-bcc", "user-agent", "x-mailer", "fcc", "return-path",
		"x-identity-key", "x-account-key",
		"hp-outer": // RFC 9788, Section 5.2.1: only of our making
		return true
	default:
		return strings.HasPrefix(n, "letterlock-") || strings.HasPrefix(n, "x-mozilla-") ||
			strings.HasPrefix(n, "x-enigmail-")
	}
}

// trace tells of fields that servers add on the way (RFC 5321, Section 4.4);
// they stay outside and are no part of what is said.
func trace(name string) bool { return strings.EqualFold(name, "Received") }

// once are fields that may stand once (RFC 5322, Section 3.6): more would let
// two readers see two messages. A second To or Cc is wrong too, but leaving it
// out would lose something.
func once(name string) bool {
	switch strings.ToLower(name) {
	case "from", "sender", "date", "message-id", "in-reply-to", "references", "subject":
		return true
	}
	return false
}

// cleanField is f without what may not stand in a header: bare CR and LF, NUL,
// folding into empty lines, and white space before the colon, which would make
// a mailbox's "From " line of a From field.
func cleanField(f message.Field) field {
	_, raw, _ := bytes.Cut(f.Raw, []byte{':'})
	if line, ended := bytes.CutSuffix(raw, []byte("\r\n")); ended && len(line) < 100 && bytes.IndexByte(line, '\r') < 0 &&
		bytes.IndexByte(line, '\n') < 0 && bytes.IndexByte(line, 0) < 0 { // almost all
		return field{f.Name, " " + string(bytes.TrimLeft(line, " \t"))}
	}
	value := make([]byte, 0, len(raw)+1)
	for line := range bytes.Lines(raw) {
		line = bytes.TrimRight(line, "\r\n")
		if len(value) == 0 {
			value = append(value, ' ')
			line = bytes.TrimLeft(line, " \t")
		} else if len(bytes.TrimSpace(line)) == 0 {
			continue
		} else {
			value = append(value, '\r', '\n')
		}
		for _, c := range line {
			switch c {
			case 0:
			case '\r':
				value = append(value, ' ')
			default:
				value = append(value, c)
			}
		}
	}
	return field{f.Name, string(foldLong(value))}
}

// foldLong folds lines that are longer than mail may have, where there is white
// space to do it (RFC 5322, Section 2.2.3). The name of HP-Outer has to fit too.
func foldLong(value []byte) []byte {
	const most = maxLine - 100
	if len(value) <= most {
		return value
	}
	var out []byte
	for line := range bytes.Lines(value) {
		for len(line) > most {
			i := bytes.LastIndexAny(line[1:most], " \t") + 1
			if i < 1 || len(bytes.TrimSpace(line[:i])) == 0 {
				break
			}
			out = append(append(out, line[:i]...), '\r', '\n')
			line = line[i:]
		}
		out = append(out, line...)
	}
	return out
}

// unfolded is the value on one line (RFC 5322, Section 2.2.3).
func (f field) unfolded() string {
	return strings.TrimSpace(strings.ReplaceAll(f.value, "\r\n", ""))
}

// append adds the field to a header.
func (f field) append(b []byte) []byte {
	b = append(append(append(b, f.name...), ':'), f.value...)
	return append(b, '\r', '\n')
}

// newMessageID makes an identifier within the sender's domain (RFC 5322,
// Section 3.6.4).
func newMessageID(domain string) string {
	if domain == "" {
		domain = "letterlock.invalid"
	}
	return fmt.Sprintf(" <%s@%s>", strings.ToLower(rand.Text()), domain)
}

// dateValue is a Date of that moment in UTC: the zone would tell where the
// sender is.
func dateValue(now time.Time) string {
	return " " + now.UTC().Format("Mon, 02 Jan 2006 15:04:05 -0700")
}

// newBoundary is a boundary that occurs in no content: 128 random bits.
func newBoundary() string { return "=-" + rand.Text() }

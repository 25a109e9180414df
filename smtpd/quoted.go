package smtpd

import (
	"bytes"
	"html"
	"strings"

	"letterlock.org/letterlock/internal/message"
)

// openedID stands among the IDs for a message that nobody names, but that was
// decrypted by Letterlock for certain: the header of its rendering is quoted.
const openedID = "opened"

// quotedIDs looks for the header of another message in text: mail programs that
// forward inline with the whole header name it nowhere else.
func quotedIDs(text []byte, isHTML bool) (ids []string) {
	if !quotesHeader(text) {
		return nil
	}
	plain := string(text)
	if isHTML {
		plain = withoutTags(plain)
	}
	lines := strings.Split(strings.ReplaceAll(plain, "\r", ""), "\n")
	for i, line := range lines {
		name, value, ok := strings.Cut(strings.TrimLeft(line, ">|* \t\u00a0"), ":")
		if !ok {
			continue
		}
		switch strings.ToLower(strings.TrimRight(name, " *\t")) {
		case "message-id":
			if i+1 < len(lines) && strings.TrimSpace(value) == "" { // folded
				value = strings.TrimLeft(lines[i+1], ">|* \t")
			}
			if strings.ContainsRune(value, '<') {
				ids = append(ids, message.MessageIDs(value)...)
			}
		case "letterlock-status":
			if strings.HasPrefix(strings.TrimLeft(value, " \t\u00a0"), "encrypted; signature=") {
				ids = append(ids, openedID)
			}
		}
	}
	return ids
}

// quotesHeader tells whether one of the names that quotedIDs looks for is in text.
// Both have a hyphen, and few texts have many.
func quotesHeader(text []byte) bool {
	for at := 0; ; at++ {
		i := bytes.IndexByte(text[at:], '-')
		if i < 0 {
			return false
		}
		at += i
		before, after := text[:at], text[at+1:]
		if endsIn(before, "message") && beginsWith(after, "id") || endsIn(before, "letterlock") && beginsWith(after, "status") {
			return true
		}
	}
}

func endsIn(b []byte, word string) bool {
	n := len(b) - len(word)
	return n >= 0 && b[len(b)-1]|0x20 == word[len(word)-1] && strings.EqualFold(string(b[n:]), word)
}

func beginsWith(b []byte, word string) bool {
	return len(b) >= len(word) && strings.EqualFold(string(b[:len(word)]), word)
}

// quotesNothing tells of a text in which quotedIDs finds nothing, where that is seen
// without decoding or copying it.
func quotesNothing(src message.Source, p *message.Part) (nothing bool) {
	if isEncoded(p) {
		return false
	}
	_, _ = message.InMemory(src, p.Body, min(p.End, p.Body+maxPartBytes), func(b []byte) error {
		nothing = !quotesHeader(b)
		return nil
	})
	return nothing
}

// withoutTags is what HTML shows, roughly: each tag ends a line where it is one
// that usually does, and is nothing else.
func withoutTags(s string) string {
	var b strings.Builder
	for s != "" {
		before, rest, ok := strings.Cut(s, "<")
		b.WriteString(before)
		if !ok {
			break
		}
		tag, after, ok := strings.Cut(rest, ">")
		if !ok {
			break
		}
		if name := strings.ToLower(strings.Trim(tag, "/ ")); !inlineTag(name) {
			b.WriteByte('\n')
		}
		s = after
	}
	return html.UnescapeString(b.String())
}

// inlineTag tells of tags that stand within a line.
func inlineTag(name string) bool {
	name, _, _ = strings.Cut(name, " ")
	switch name {
	case "b", "strong", "i", "em", "span", "font", "a", "u", "tt", "code", "th", "td":
		return true
	}
	return false
}

package smtpd

import (
	"bytes"
	"html"
	"io"
	"strings"

	"github.com/emersion/go-message/charset"

	"letterlock.org/letterlock/internal/letters"
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
			value = foldedOn(value, lines[i+1:])
			if strings.ContainsRune(value, '<') {
				ids = append(ids, message.MessageIDs(value)...)
			}
		case "letterlock-status":
			if saysDecrypted(foldedOn(value, lines[i+1:])) {
				ids = append(ids, openedID)
			}
		}
	}
	return ids
}

// saysDecrypted tells of the status that a rendering of ours has.
func saysDecrypted(status string) bool {
	return strings.HasPrefix(strings.TrimLeft(status, " \t\u00a0"), "encrypted; signature=")
}

// foldedOn is a field's value, or what stands on one of the next lines where it is
// empty: cells of a table in HTML are lines apart.
func foldedOn(value string, next []string) string {
	for i := 0; i < min(len(next), 5) && strings.Trim(value, "* \t\u00a0") == ""; i++ {
		value = strings.TrimLeft(next[i], ">|* \t\u00a0")
	}
	return value
}

// maxTexts bounds the parts in which letters are looked for.
const maxTexts = 8

// quotedLetters are the letters that the text of a message may quote, where nothing
// in its header names one.
func quotedLetters(src message.Source, root *message.Part) (ids []string) {
	subject, texts := "", 0
	if all := root.Header.All("Subject"); len(all) > 0 {
		subject = all[0].Text()
	}
	for p := range root.All() {
		if !p.Is("text/plain") && !p.Is("text/html") || texts == maxTexts || lacks(src, p, '@') {
			continue
		}
		texts++
		ids = append(ids, letters.Quoted(readable(p, content(src, p, maxPartBytes)), subject)...)
	}
	return ids
}

// readable is the text of a part as it is read: in UTF-8, without the tags of HTML.
func readable(p *message.Part, b []byte) string {
	b = inUTF8(p, b)
	if p.Subtype == "html" {
		return withoutTags(string(b))
	}
	return string(b)
}

// inUTF8 is the text of a part in UTF-8, as far as it can be decoded.
func inUTF8(p *message.Part, b []byte) []byte {
	name := p.Params["charset"]
	if name == "" || strings.EqualFold(name, "utf-8") || strings.EqualFold(name, "us-ascii") {
		return b
	}
	r, err := charset.Reader(name, bytes.NewReader(b))
	if err != nil {
		return b
	}
	b, _ = io.ReadAll(io.LimitReader(r, 2*maxPartBytes))
	return b
}

// wide tells of a part whose letters beyond a byte hide what is ASCII.
func wide(p *message.Part) bool {
	name := strings.ToLower(p.Params["charset"])
	return strings.HasPrefix(name, "utf-") && name != "utf-8" || strings.HasPrefix(name, "ucs-") || strings.HasPrefix(name, "unicode")
}

// lacks tells of a text in which a character isn't, where that is seen without
// decoding or copying it.
func lacks(src message.Source, p *message.Part, c byte) (lacking bool) {
	if isEncoded(p) || wide(p) {
		return false
	}
	_, _ = message.InMemory(src, p.Body, min(p.End, p.Body+maxPartBytes), func(b []byte) error {
		lacking = bytes.IndexByte(b, c) < 0
		return nil
	})
	return lacking
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
	if isEncoded(p) || wide(p) {
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

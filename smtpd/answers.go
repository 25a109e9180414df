package smtpd

import (
	"bufio"
	"context"
	"encoding/base64"
	"io"
	"mime/quotedprintable"
	"slices"
	"strings"

	"letterlock.org/letterlock/internal/message"
)

// Bounds on what the reply rule looks at: messages named, bytes of a part that
// tells of one, bytes of the beginning of an attachment, and messages in encoded
// messages. What names more is taken for an answer.
const (
	maxAnswered  = 20_000
	maxPartBytes = 1 << 20
	maxForwarded = 16 << 20
	maxBeginning = 64 << 10
	maxEncoded   = 4
)

// CalendarID is the ID under which an OpenedRecord knows the UID of an
// invitation that came in a decrypted message: replies to it name nothing else.
func CalendarID(uid string) string { return "ical:" + uid }

// answersDecrypted tells whether the message replies to, forwards, or reports
// on a message that was shown decrypted. Where anybody's mail may pass, it may also
// be that message itself: a server inside redirects it as it came (RFC 5228, Section
// 4.2), and nothing but its own ID tells.
func answersDecrypted(ctx context.Context, rec OpenedRecord, src message.Source, root *message.Part, anybodys bool) (bool, error) {
	if rec == nil {
		return false, nil
	}
	ids := answered(src, root, anybodys)
	if len(ids) > maxAnswered {
		return true, nil
	}
	for _, id := range ids {
		if id == openedID {
			return true, nil
		}
		if was, err := rec.WasOpened(ctx, id); err != nil || was {
			return was, err
		}
	}
	return false, nil
}

// answered lists the IDs of the messages that this one is about.
func answered(src message.Source, root *message.Part, anybodys bool) []string {
	var ids []string
	if slices.ContainsFunc(root.Header.All("Letterlock-Status"), func(f message.Field) bool { return saysDecrypted(f.Value()) }) {
		ids = append(ids, openedID)
	}
	for _, name := range []string{"In-Reply-To", "References", "X-Forwarded-Message-Id", "Resent-Message-ID"} {
		for _, f := range root.Header.All(name) {
			ids = append(ids, message.MessageIDs(f.Value())...)
		}
	}
	if len(ids) == 0 { // as some mail programs forward
		ids = quotedLetters(src, root)
	}
	if anybodys || resent(root.Header) {
		ids = append(ids, ownIDs(root.Header)...)
	}
	ids = append(ids, inside(src, root, maxEncoded)...)
	slices.Sort(ids)
	return slices.Compact(ids)
}

// resent tells of a message that is forwarded as it came (RFC 5322, Section 3.6.6).
func resent(h message.Header) bool {
	return slices.ContainsFunc(h.Fields, func(f message.Field) bool {
		const prefix = "resent-"
		return len(f.Name) > len(prefix) && strings.EqualFold(f.Name[:len(prefix)], prefix)
	})
}

// ownIDs are the IDs that a header gives its own message.
func ownIDs(h message.Header) (ids []string) {
	for _, f := range h.All("Message-ID") {
		ids = append(ids, message.MessageIDs(f.Value())...)
	}
	return ids
}

// inside lists the IDs that parts of the message name. Messages in it that are
// encoded are read to a depth of encoded.
func inside(src message.Source, p *message.Part, encoded int) (ids []string) {
	switch p.Type + "/" + p.Subtype {
	case "message/disposition-notification", "message/global-disposition-notification": // RFC 8098, Section 3.2.5; RFC 6533, Section 5
		h := message.ParseHeader(content(src, p, maxPartBytes))
		for _, f := range h.All("Original-Message-ID") {
			ids = append(ids, message.MessageIDs(f.Value())...)
		}
	case "text/calendar", "application/ics":
		ids = append(ids, calendarIDs(content(src, p, maxPartBytes))...)
	case "message/rfc822", "message/global":
		// RFC 2046, Section 5.2.1 forbids to encode it; RFC 6532, Section 3.7
		// allows it of the other; both are done, and Parse doesn't look inside.
		if isEncoded(p) {
			return forwarded(content(src, p, maxForwarded), encoded)
		}
	default:
		// RFC 6522, Section 4: text/rfc822-headers. Others attach a message as a
		// file: what begins with its header is taken for it.
		text := p.Is("text/plain") || p.Is("text/html")
		if len(p.Children) == 0 && p.Embedded == nil && !text {
			ids = append(ids, ownIDs(message.ParseHeader(content(src, p, maxBeginning)))...)
		}
		if p.Type == "text" && !quotesNothing(src, p) { // Markdown and the like too
			b := content(src, p, maxPartBytes)
			if wide(p) {
				b = inUTF8(p, b)
			}
			ids = append(ids, quotedIDs(b, strings.Contains(p.Subtype, "html"))...)
		}
	}
	if p.Embedded != nil {
		ids = append(ids, ownIDs(p.Embedded.Header)...)
		ids = append(ids, inside(src, p.Embedded, encoded)...)
	}
	for _, c := range p.Children {
		ids = append(ids, inside(src, c, encoded)...)
	}
	return ids
}

// forwarded lists the IDs that a decoded message has and names inside.
func forwarded(text []byte, encoded int) []string {
	src := message.Bytes(text)
	root, err := message.Parse(src, message.Limits{})
	if err != nil || encoded == 0 { // too deep: its own ID at least
		return ownIDs(message.ParseHeader(text))
	}
	return append(ownIDs(root.Header), inside(src, root, encoded-1)...)
}

// calendarIDs takes the UIDs out of iCalendar text (RFC 5545, Section 3.1 for
// folding, 3.8.4.7 for UID).
func calendarIDs(text []byte) (ids []string) {
	t := strings.ReplaceAll(string(text), "\r\n", "\n")
	t = strings.NewReplacer("\n ", "", "\n\t", "").Replace(t)
	for line := range strings.Lines(t) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), ":")
		name, _, _ = strings.Cut(name, ";")
		if ok && strings.EqualFold(name, "UID") && value != "" {
			ids = append(ids, CalendarID(value))
		}
	}
	return ids
}

// encoding is a part's transfer encoding (RFC 2045, Section 6.1), in lower case.
func encoding(p *message.Part) string {
	e, _ := message.ParseParams(p.Header.Get("Content-Transfer-Encoding"))
	return e
}

func isEncoded(p *message.Part) bool {
	e := encoding(p)
	return e == "base64" || e == "quoted-printable"
}

// content is the decoded body of a part, cut at a bound.
func content(src message.Source, p *message.Part, bound int64) []byte {
	var r io.Reader = io.NewSectionReader(src, p.Body, p.End-p.Body)
	switch encoding(p) {
	case "base64":
		r = base64.NewDecoder(base64.StdEncoding, &base64Lines{bufio.NewReader(r)})
	case "quoted-printable":
		r = quotedprintable.NewReader(r)
	}
	b, _ := io.ReadAll(io.LimitReader(r, bound)) // what could be decoded counts
	return b
}

// base64Lines leaves out what RFC 2045, Section 6.8, says to ignore.
type base64Lines struct{ r *bufio.Reader }

func (b *base64Lines) Read(p []byte) (n int, err error) {
	for n < len(p) {
		c, err := b.r.ReadByte()
		if err != nil {
			if n > 0 {
				return n, nil
			}
			return 0, err
		}
		if c > ' ' && c < 0x7f {
			p[n] = c
			n++
		}
		if n > 0 && b.r.Buffered() == 0 {
			break
		}
	}
	return n, nil
}

package smtpd

import (
	"bufio"
	"context"
	"encoding/base64"
	"io"
	"mime/quotedprintable"
	"strings"

	"letterlock.org/letterlock/internal/message"
)

// Bounds on what the reply rule looks at. A reference list longer than that is
// cut in its middle: the newest and the root of the thread count most.
const (
	maxAnswered  = 1000
	maxPartBytes = 1 << 20
)

// CalendarID is the ID under which an OpenedRecord knows the UID of an
// invitation that came in a decrypted message: replies to it name nothing else.
func CalendarID(uid string) string { return "ical:" + uid }

// answersDecrypted tells whether the message replies to, forwards, or reports
// on a message that was shown decrypted.
func answersDecrypted(ctx context.Context, rec OpenedRecord, src message.Source, root *message.Part) (bool, error) {
	if rec == nil {
		return false, nil
	}
	for _, id := range answered(src, root) {
		if was, err := rec.WasOpened(ctx, id); err != nil || was {
			return was, err
		}
	}
	return false, nil
}

// answered lists the IDs of the messages that this one is about.
func answered(src message.Source, root *message.Part) []string {
	var ids []string
	for _, name := range []string{"In-Reply-To", "References", "X-Forwarded-Message-Id", "Resent-Message-ID"} {
		for _, f := range root.Header.All(name) {
			ids = append(ids, messageIDs(f.Value())...)
		}
	}
	if len(root.Header.All("Resent-From")) > 0 { // RFC 5322, Section 3.6.6: it is forwarded as it came
		ids = append(ids, messageIDs(root.Header.Get("Message-ID"))...)
	}
	ids = append(ids, inside(src, root)...)
	if len(ids) > maxAnswered {
		ids = append(ids[:maxAnswered/2:maxAnswered/2], ids[len(ids)-maxAnswered/2:]...)
	}
	return ids
}

// inside lists the IDs that parts of the message name.
func inside(src message.Source, p *message.Part) (ids []string) {
	switch p.Type + "/" + p.Subtype {
	case "message/disposition-notification": // RFC 8098, Section 3.2.5
		h := message.ParseHeader(content(src, p))
		for _, f := range h.All("Original-Message-ID") {
			ids = append(ids, messageIDs(f.Value())...)
		}
	case "text/rfc822-headers", "message/rfc822-headers": // RFC 6522, Section 4
		ids = append(ids, messageIDs(message.ParseHeader(content(src, p)).Get("Message-ID"))...)
	case "text/calendar", "application/ics":
		ids = append(ids, calendarIDs(content(src, p))...)
	case "message/rfc822", "message/global":
		if p.Embedded == nil { // encoded or too deep: read its header all the same
			ids = append(ids, messageIDs(message.ParseHeader(content(src, p)).Get("Message-ID"))...)
		}
	}
	if p.Embedded != nil {
		for _, f := range p.Embedded.Header.All("Message-ID") {
			ids = append(ids, messageIDs(f.Value())...)
		}
		ids = append(ids, inside(src, p.Embedded)...)
	}
	for _, c := range p.Children {
		ids = append(ids, inside(src, c)...)
	}
	return ids
}

// messageIDs takes the IDs out of a field's value, with their brackets.
func messageIDs(v string) (ids []string) {
	for {
		_, after, ok := strings.Cut(v, "<")
		if !ok {
			return ids
		}
		id, rest, ok := strings.Cut(after, ">")
		if !ok {
			return ids
		}
		if id = strings.Join(strings.Fields(id), ""); id != "" {
			ids = append(ids, "<"+id+">")
		}
		v = rest
	}
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

// content is the decoded body of a part, cut at a bound.
func content(src message.Source, p *message.Part) []byte {
	var r io.Reader = io.NewSectionReader(src, p.Body, p.End-p.Body)
	switch strings.ToLower(strings.TrimSpace(p.Header.Get("Content-Transfer-Encoding"))) {
	case "base64":
		r = base64.NewDecoder(base64.StdEncoding, &base64Lines{bufio.NewReader(r)})
	case "quoted-printable":
		r = quotedprintable.NewReader(r)
	}
	b, _ := io.ReadAll(io.LimitReader(r, maxPartBytes)) // what could be decoded counts
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

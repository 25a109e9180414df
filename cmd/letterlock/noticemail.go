package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"time"

	"letterlock.org/letterlock/internal/config"
	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/internal/text"
	"letterlock.org/letterlock/pgp"
	"letterlock.org/letterlock/smtpd/queue"
)

// mailNotice queues a mail of an account to itself, signed and encrypted by its
// own key: what it tells of contacts and keys is nobody else's business.
func (s *state) mailNotice(ctx context.Context, b *config.Bridge, lines []string) error {
	if b.SMTP == nil {
		return fmt.Errorf("%s has no smtp to send a notice with", b.Account)
	}
	key, err := s.keys.Signer(ctx, b.Account)
	if err != nil {
		return err
	}
	now := s.now()
	var body bytes.Buffer
	mail := noticeMail(b.Account.String(), b.Account.Domain, lines, now)
	if err := pgp.Protect(ctx, &body, message.Bytes(mail), pgp.Protection{
		Signer: key, Recipients: []*pgp.Certificate{key.Certificate()}, From: b.Account, Now: now,
	}); err != nil {
		return fmt.Errorf("encrypting a notice to its own reader: %w", err)
	}
	entry := queue.Entry{
		ID: queue.NewID(), Account: b.Account.Key(), From: b.Account.String(), Report: true, State: queue.Waiting,
		Created: now, Next: now, Expires: now.Add(s.queue.Lifetime()), Size: int64(body.Len()),
		UTF8:       strings.ContainsFunc(b.Account.String(), func(r rune) bool { return r >= 0x80 }),
		Recipients: []queue.Recipient{{Address: b.Account.String(), Key: b.Account.Key(), Notify: "NEVER", State: queue.Waiting}},
	}
	if err := s.queue.Settle([]queue.Change{{Entry: entry, Body: message.Bytes(body.Bytes())}}); err != nil {
		return fmt.Errorf("queueing a notice: %w", err)
	}
	s.queue.Wake()
	return nil
}

// noticeMail is the text of a notice.
func noticeMail(account, domain string, paragraphs []string, now time.Time) []byte {
	var b strings.Builder
	line := func(format string, args ...any) { b.WriteString(text.Safe(fmt.Sprintf(format, args...)) + "\r\n") }
	line("From: <%s>", account)
	line("To: <%s>", account)
	line("Subject: Letterlock: about keys and certificates")
	line("Date: %s", now.UTC().Format(time.RFC1123Z))
	line("Message-ID: <%s@%s>", strings.ToLower(rand.Text()), domain)
	line("Auto-Submitted: auto-generated") // RFC 3834, Section 5
	line("MIME-Version: 1.0")
	line("Content-Type: text/plain; charset=utf-8")
	line("Content-Transfer-Encoding: 8bit")
	for _, p := range paragraphs {
		line("")
		for _, l := range wrapped(p, 76) {
			line("%s", l)
		}
	}
	line("")
	line("This is told once. What still holds is in: letterlock status")
	return []byte(b.String())
}

// wrapped parts a paragraph between words.
func wrapped(p string, width int) (lines []string) {
	var l string
	for _, word := range strings.Fields(p) {
		if l != "" && len(l)+1+len(word) > width {
			lines, l = append(lines, l), ""
		}
		if l != "" {
			l += " "
		}
		l += word
	}
	return append(lines, l)
}

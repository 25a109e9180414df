package server

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/pgp"
)

// Mail is a message on its way.
type Mail struct {
	From, To address.Address // the envelope's
	Text     []byte          // the whole message, lines ending in CRLF
	// Unsent, if not nil, takes back what counts because of the mail, where it
	// could not be sent.
	Unsent func(context.Context) error
}

// Send hands a mail to the server that carries it on; after nil it is there.
type Send func(ctx context.Context, m Mail) error

// postWaiting bounds what waits to be sent.
const postWaiting = 256

// Post sends mails beside the requests that cause them, so that nobody learns
// from an answer's time whether there was one. What can't be sent within some
// minutes is dropped: whoever asked asks again.
type Post struct {
	waiting chan Mail
	send    Send
	log     *slog.Logger
	// Pause is between attempts; it doubles each time. 2 s if zero.
	Pause time.Duration
}

// NewPost makes a Post; Run sends. log may be nil.
func NewPost(send Send, log *slog.Logger) *Post {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Post{waiting: make(chan Mail, postWaiting), send: send, log: log, Pause: 2 * time.Second}
}

// Run sends what comes until ctx ends.
func (p *Post) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case m := <-p.waiting:
			p.try(ctx, m)
		}
	}
}

// postAttempts within about a minute.
const postAttempts = 5

func (p *Post) try(ctx context.Context, m Mail) {
	pause := p.Pause
	for n := 1; ; n++ {
		err := p.send(ctx, m)
		if err == nil || ctx.Err() != nil {
			return
		}
		if n == postAttempts {
			p.log.Error("keydir: a mail could not be sent and is dropped", "err", err)
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
			pause *= 2
		}
	}
}

// enqueue takes a mail, or drops it where too many wait.
func (p *Post) enqueue(m Mail) {
	select {
	case p.waiting <- m:
	default:
		p.log.Error("keydir: too many mails wait to be sent; one is dropped")
	}
}

// linkMail asks an address whether it wants a certificate to be published. It is
// in clear: who is asked may not have the key here.
func linkMail(from, to address.Address, c *pgp.Certificate, link string, now time.Time) Mail {
	return Mail{From: from, To: to, Text: letter(from, to, "Publish your OpenPGP certificate?", now, nil, "text/plain; charset=utf-8", fmt.Sprintf(`Somebody asked that mail to

    %s

be encrypted to the OpenPGP certificate

    %s

If that was you, compare it with what your own program shows, and open

    %s

within three days. If it was not you, do nothing.
`, to, spaced(string(c.Fingerprint())), link))}
}

// letter is a message of ours. Automatic answers to it are not wanted (RFC 3834,
// Section 5).
func letter(from, to address.Address, subject string, now time.Time, fields []string, contentType, body string) []byte {
	var b bytes.Buffer
	field := func(name, value string) { fmt.Fprintf(&b, "%s: %s\r\n", name, value) }
	field("From", from.String())
	field("To", to.String())
	field("Subject", subject)
	field("Date", now.UTC().Format("Mon, 02 Jan 2006 15:04:05 -0700"))
	field("Message-ID", "<"+newToken()+"@"+from.Domain+">")
	field("Auto-Submitted", "auto-generated")
	for _, f := range fields {
		b.WriteString(f + "\r\n")
	}
	field("MIME-Version", "1.0")
	field("Content-Type", contentType)
	b.WriteString("\r\n")
	b.WriteString(strings.ReplaceAll(strings.ReplaceAll(body, "\r\n", "\n"), "\n", "\r\n"))
	return b.Bytes()
}

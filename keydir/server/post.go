package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
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
// [ErrRefused] says that this mail never will be.
type Send func(ctx context.Context, m Mail) error

// ErrRefused means that a mail was refused for good.
var ErrRefused = errors.New("mail refused")

// Post sends the mails that an Intake's requests cause, beside them, so that
// nobody learns from an answer's time whether there was one. What is to be sent
// stands in the store, with the request: it outlives a stop, and is tried until
// the request runs out. A mail is sent twice only where the program ended between
// its acceptance and the note of it; both have the same link.
type Post struct {
	send  Send
	log   *slog.Logger
	wake  chan struct{}
	whose atomic.Pointer[Intake]
	// Pause is how often is looked for what is due, which new requests don't wait
	// for. 2 s if zero.
	Pause time.Duration
}

// NewPost makes a Post for one Intake; Run sends. log may be nil.
func NewPost(send Send, log *slog.Logger) *Post {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Post{send: send, log: log, wake: make(chan struct{}, 1), Pause: 2 * time.Second}
}

// attach says whose mails are sent.
func (p *Post) attach(i *Intake) {
	p.whose.Store(i)
	p.look()
}

// look has Run look for what is due.
func (p *Post) look() {
	select {
	case p.wake <- struct{}{}:
	default: // it will
	}
}

// Run sends what is due until ctx ends.
func (p *Post) Run(ctx context.Context) {
	for {
		if i := p.whose.Load(); i != nil {
			p.round(ctx, i)
		}
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
		case <-time.After(p.Pause):
		}
	}
}

// round tries everything that is due once.
func (p *Post) round(ctx context.Context, i *Intake) {
	d := i.c.Directory
	for ctx.Err() == nil {
		m, ok, err := d.dueMail(ctx)
		if err == nil && !ok {
			return
		}
		if err == nil {
			err = p.one(ctx, d, m, i.write(m))
		}
		if err != nil {
			if ctx.Err() == nil {
				p.log.Error("keydir: mails wait to be sent", "err", err)
			}
			return
		}
	}
}

// one sends a mail; the error is the store's.
func (p *Post) one(ctx context.Context, d *Directory, m waitingMail, mail Mail) error {
	noting := context.WithoutCancel(ctx)
	switch err := p.send(ctx, mail); {
	case err == nil:
		return d.mailed(noting, m)
	case errors.Is(err, ErrRefused):
		p.log.Error("keydir: a mail was refused and is dropped", "err", err)
		return d.mailed(noting, m)
	case ctx.Err() == nil:
		p.log.Warn("keydir: a mail could not be sent and is tried again", "err", err)
	}
	return d.notMailed(noting, m)
}

// write makes the mail of a request.
func (i *Intake) write(m waitingMail) Mail {
	if m.Way == ByRemoval {
		return removalMail(i.c.From, m.Address, m.Certificate, i.c.URL+withdrawRoot+m.token, i.now())
	}
	return linkMail(i.c.From, m.Address, m.Certificate, i.c.URL+linkRoot+m.token, i.now())
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

within three days. If it was not you, do nothing, or say so there.
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

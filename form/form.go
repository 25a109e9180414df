// Package form makes mail that is read with a password, for people who have no
// certificate.
//
// [Write] makes one mail: a short text that says what it is, an attached page
// that opens in any browser, without a server, a library or the network, and
// beside it the same message for OpenPGP programs. The password never stands in
// the mail; the sender tells it by another way. [NewPassword] makes one,
// [Agreed] takes one that two people have.
//
// # The page
//
// It carries one encrypted text. The password goes through PBKDF2 with HMAC and
// SHA-256, 600,000 rounds and a salt of this message's own (what browsers can do
// by themselves), then HKDF, which gives a key and a check value that tells a
// wrong password from a damaged page. The text is cut into chunks of 1 MiB, each
// under AES-256-GCM: the nonce is the chunk's number and whether it is the last,
// the associated data is every parameter. So a chunk that is changed, swapped,
// left out or missing at the end is noticed, and nothing is shown then.
//
// The page loads nothing and may not: its Content-Security-Policy lets only its
// own script run and forbids every connection. HTML of the message is cleaned
// here, and shown in a frame without scripts, forms, links and origin.
//
// Tried from the disk in Chromium 156 and Firefox 153, where a file is a secure
// context and so has WebCrypto; Safari and the browsers of telephones were not
// tried. Where a browser has none (a page over http, the preview of a mail
// program), the page says to save it and open it from the disk. Some mail filters
// hold or strip attached pages; then the OpenPGP copy is left.
//
// Whoever has the mail can guess at the password for as long as he likes, which
// is why those that we make have 90 random bits, and why agreed ones shouldn't
// be short.
package form

import (
	"context"
	"errors"
	"fmt"
	"io"

	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/pgp"
)

// ErrTooLarge means that a message is longer than a page may be.
var ErrTooLarge = errors.New("message too large for a page with a password")

// DefaultLimit is how long a message may be, in bytes, its attachments encoded.
// Its page has about as many, its OpenPGP copy a third more.
const DefaultLimit = 25 << 20

// Options say how Write makes a mail.
type Options struct {
	// Password is required.
	Password Password
	// Protection is as for pgp.Protect, without Recipients. Its Signer, which may
	// be nil, signs the OpenPGP copy inside. The mail around it is not signed:
	// somebody without a certificate can't check that.
	Protection pgp.Protection
	// NoOpenPGP leaves the OpenPGP copy out: the mail is then less than half as
	// long.
	NoOpenPGP bool
	// Limit is the longest message in bytes; 0 means DefaultLimit.
	Limit int64
}

// Write writes src as one mail that is read with the password. It keeps little
// of src in memory. What w has got is worth nothing if there is an error:
// ErrTooLarge or pgp.ErrUnfit if the message itself is why. It may run
// concurrently with itself; each mail costs about half a second of computing and
// at most two at one time 64 MiB.
func Write(ctx context.Context, w io.Writer, src message.Source, o Options) error {
	if o.Limit == 0 {
		o.Limit = DefaultLimit
	}
	if src.Size() > o.Limit {
		return fmt.Errorf("%w: it has %d bytes and may have %d", ErrTooLarge, src.Size(), o.Limit)
	}
	if o.Password.IsZero() {
		return errors.New("a page needs a password")
	}
	copied, err := pgp.ForPassword(ctx, src, o.Protection)
	if err != nil {
		return err
	}
	content, err := Read(ctx, src, o.Protection.Spool)
	if err != nil {
		return fmt.Errorf("taking a message apart: %w", err)
	}
	defer content.Close()
	if err := o.mail(ctx, w, copied, content); err != nil {
		return fmt.Errorf("making a page with a password: %w", err)
	}
	return nil
}

// mail writes header, text, page and OpenPGP copy.
func (o Options) mail(ctx context.Context, w io.Writer, copied *pgp.PasswordCopy, content *Content) error {
	m := newMultipart(w)
	m.begin(copied.Outer())
	m.text(o.letter(copied.Outer()))
	m.part("text/html; charset=us-ascii", "message.html", "The message, for a web browser")
	if err := WritePage(ctx, m.out, content, o.Password); err != nil {
		return err
	}
	if !o.NoOpenPGP {
		m.part("application/octet-stream", "message.eml.asc", "The message, for OpenPGP programs")
		if err := copied.Write(ctx, m.out, []byte(o.Password.Reveal())); err != nil {
			return err
		}
	}
	return m.end()
}

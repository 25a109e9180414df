package pgp

import (
	"context"
	"fmt"
	"io"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/message"
)

// Protection says what Protect does to a message.
type Protection struct {
	// Signer signs; required unless Unsigned.
	Signer Signer
	// Gateway says that the signature is that of a gateway; nil for an author's.
	Gateway *Gateway
	// Unsigned: there is no signature. That is for gateways that have no key to
	// sign with, and only where there are recipients.
	Unsigned bool
	// Recipients are who can read it, all named in the packets. Empty means
	// sign only (multipart/signed). Whoever gets a blind copy needs a Protect of
	// their own.
	Recipients []*Certificate
	// Least is what the encryption must reach with the Recipients together; ErrWeak
	// if it can't.
	Least Strength
	// Autocrypt is our own certificate and address for the Autocrypt header,
	// outside and inside; nil for none.
	Autocrypt *Certificate
	// SubjectOutside leaves the subject readable by everyone.
	SubjectOutside bool
	// From is the sender's address; if zero, that of the From field.
	From address.Address
	// Now is the time of the signature, and at which certificates must be
	// usable; zero means now.
	Now time.Time
	// Root is what message.Parse says of src with its usual limits, where the
	// caller has asked it; nil lets Protect ask.
	Root *message.Part
	// Plain says that src is ASCII without NUL, in lines of at most PlainLine
	// bytes that end in CRLF, the last one too: who has read it already saves
	// Protect a reading.
	Plain bool
	// Spool is where a message that is only signed waits for its signature.
	Spool message.SpoolOptions
}

// Protect writes src as one PGP/MIME message: signed, then encrypted in one
// OpenPGP message (RFC 3156, Section 6.2), its header inside (RFC 9788); or with
// a detached signature where there are no recipients (Section 5).
//
// It reads src up to three times, in pieces, and keeps none of it in memory. What w
// has got is worth nothing if there is an error: ErrUnfit if the message itself
// is why, the errors of [Certificate.CheckEncrypt] if a recipient is, and then
// nobody has got anything. Protect may run concurrently with itself.
func Protect(ctx context.Context, w io.Writer, src message.Source, p Protection) (err error) {
	defer caught(&err)
	if p.Now.IsZero() {
		p.Now = time.Now()
	}
	if err := p.strongEnough(); err != nil {
		return fmt.Errorf("protecting a message: %w", err)
	}
	c, err := compose(ctx, src, p)
	if err != nil {
		return fmt.Errorf("protecting a message: %w", err)
	}
	defer c.free()
	if len(p.Recipients) == 0 {
		err = signed(ctx, w, c, p)
	} else {
		err = encrypted(ctx, w, c.outer, c.write, encryption{
			signer: p.Signer, unsigned: p.Unsigned, recipients: p.Recipients, now: p.Now, notations: p.Gateway.notations(),
		})
	}
	if err != nil {
		return fmt.Errorf("protecting a message: %w", err)
	}
	return nil
}

// strongEnough holds the recipients to p.Least.
func (p Protection) strongEnough() error {
	if p.Least == (Strength{}) || len(p.Recipients) == 0 {
		return nil
	}
	s, err := StrengthOf(p.Now, p.Recipients...)
	if err == nil && !s.Reaches(p.Least) {
		err = fmt.Errorf("the certificates have less in common than was asked for: %w", ErrWeak)
	}
	return err
}

// encrypted writes a multipart/encrypted (RFC 3156, Section 4) under the outer
// fields.
func encrypted(ctx context.Context, w io.Writer, outer []byte, content func(io.Writer) error, e encryption) error {
	out := borrowWriter(w)
	defer returnWriter(out)
	boundary := newBoundary()
	out.Write(outer)
	fmt.Fprintf(out, "MIME-Version: 1.0\r\n"+
		"Content-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\";\r\n"+
		" boundary=\"%[1]s\"\r\n"+
		"\r\n"+
		"This is an OpenPGP/MIME encrypted message (RFC 3156).\r\n"+
		"--%[1]s\r\n"+
		"Content-Type: application/pgp-encrypted\r\n"+
		"Content-Description: PGP/MIME version identification\r\n"+
		"\r\n"+
		"Version: 1\r\n"+
		"\r\n--%[1]s\r\n"+
		"Content-Type: application/octet-stream; name=\"encrypted.asc\"\r\n"+
		"Content-Description: OpenPGP encrypted message\r\n"+
		"Content-Disposition: inline; filename=\"encrypted.asc\"\r\n"+
		"\r\n", boundary)
	if err := e.write(ctx, out, content); err != nil {
		return err
	}
	fmt.Fprintf(out, "\r\n--%s--\r\n", boundary)
	return out.Flush()
}

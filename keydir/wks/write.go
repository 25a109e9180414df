package wks

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/pgp"
)

// Head is what stands outside of a mail that we write.
type Head struct {
	From, To address.Address
	Date     time.Time
}

// version is the draft's that our mails follow, as its clients count it.
const version = "Wks-Draft-Version: 3"

// Submit is a submission: c, encrypted to the submission address's certificate.
func Submit(ctx context.Context, h Head, c, service *pgp.Certificate) ([]byte, error) {
	inner := "Content-Type: application/pgp-keys\r\n\r\n" + c.Armored()
	return h.encrypted(ctx, "Key publishing request", "", []byte(inner), service)
}

// Request asks the holder of c whether it shall be published. It is encrypted to
// c, which proves that they have its key, and signed by the submission address
// (Section 4.3).
func Request(ctx context.Context, h Head, c *pgp.Certificate, confirmation Confirmation, by pgp.Signer) ([]byte, error) {
	confirmation.Fingerprint = c.Fingerprint()
	var sealed bytes.Buffer
	if err := pgp.EncryptData(ctx, &sealed, confirmation.text(ConfirmationRequest), h.Date, c); err != nil {
		return nil, err
	}
	inner, outer := boundary(), boundary()
	signed := fmt.Sprintf("Content-Type: multipart/mixed; boundary=\"%[1]s\"\n\n"+
		"--%[1]s\nContent-Type: text/plain; charset=us-ascii\n\n%[2]s\n--%[1]s\n"+
		"Content-Type: application/vnd.gnupg.wks\n\n%[3]s\n--%[1]s--\n", inner, requestText, strings.TrimSpace(sealed.String()))
	signed = crlf(signed)
	signature, micalg, err := pgp.SignData(ctx, by, []byte(signed), h.Date)
	if err != nil {
		return nil, err
	}
	b := h.header("Confirm your key publication", "Wks-Phase: confirm")
	fmt.Fprintf(b, "Content-Type: multipart/signed; micalg=\"%[1]s\";\r\n protocol=\"application/pgp-signature\"; boundary=\"%[2]s\"\r\n\r\n"+
		"--%[2]s\r\n%[3]s\r\n--%[2]s\r\nContent-Type: application/pgp-signature\r\n\r\n%[4]s\r\n--%[2]s--\r\n", micalg, outer, signed, crlf(signature))
	return b.Bytes(), nil
}

const requestText = `Somebody asked that the OpenPGP certificate of your address be published.
If that was you, your program answers this message by itself; where it does
not, gpg-wks-client --receive does. If it was not you, do nothing.
`

// Response confirms a request: encrypted to the submission address's certificate.
func Response(ctx context.Context, h Head, confirmation Confirmation, service *pgp.Certificate) ([]byte, error) {
	confirmation.Fingerprint = ""
	inner := append([]byte("Content-Type: application/vnd.gnupg.wks\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"), confirmation.text(ConfirmationResponse)...)
	return h.encrypted(ctx, "Key publication confirmation", "", inner, service)
}

// Done tells the holder of c that it is published.
func Done(ctx context.Context, h Head, c *pgp.Certificate) ([]byte, error) {
	inner := crlf("Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\nWhoever looks up\n\n    " + h.To.String() +
		"\n\nfinds from now on the OpenPGP certificate\n\n    " + string(c.Fingerprint()) + "\n")
	return h.encrypted(ctx, "Your key has been published", "Wks-Phase: done", []byte(inner), c)
}

// encrypted is a mail whose body is inner, a MIME entity (RFC 3156, Section 4).
func (h Head) encrypted(ctx context.Context, subject, field string, inner []byte, to *pgp.Certificate) ([]byte, error) {
	var sealed bytes.Buffer
	if err := pgp.EncryptData(ctx, &sealed, inner, h.Date, to); err != nil {
		return nil, err
	}
	b := h.header(subject, field)
	fmt.Fprintf(b, "Content-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\";\r\n boundary=\"%[1]s\"\r\n\r\n"+
		"--%[1]s\r\nContent-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n\r\n"+
		"--%[1]s\r\nContent-Type: application/octet-stream\r\n\r\n%[2]s\r\n--%[1]s--\r\n", boundary(), crlf(sealed.String()))
	return b.Bytes(), nil
}

// header is a mail's header up to its Content-Type.
func (h Head) header(subject, field string) *bytes.Buffer {
	b := new(bytes.Buffer)
	fmt.Fprintf(b, "From: %s\r\nTo: %s\r\nSubject: %s\r\nDate: %s\r\nMessage-ID: <%s@%s>\r\n%s\r\n", h.From, h.To, subject,
		h.Date.UTC().Format("Mon, 02 Jan 2006 15:04:05 -0700"), boundary(), h.From.Domain, version)
	if field != "" {
		b.WriteString(field + "\r\n")
	}
	b.WriteString("Auto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\n")
	return b
}

// crlf makes every line end CRLF.
func crlf(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\n"), "\n", "\r\n")
}

func boundary() string {
	var b [16]byte
	rand.Read(b[:]) // crypto/rand never fails
	return hex.EncodeToString(b[:])
}

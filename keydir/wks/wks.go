// Package wks reads and writes the mails of a Web Key Service
// (draft-koch-openpgp-webkey-service, Section 4), for both sides: a client submits
// a certificate, the server asks the address by mail whether it wants that, the
// client answers, and the server publishes.
//
// [Read] takes a mail apart, and decrypts it; [Submit], [Request], [Response] and
// [Done] write the four kinds. Nothing here keeps state or decides: who may
// confirm what is its callers' business. Hostile mail is an error.
package wks

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/pgp"
)

// ErrMail means that a mail is none of a Web Key Service's, or is damaged.
var ErrMail = errors.New("not a mail of a Web Key Service")

// Kinds of mail.
const (
	Submission           = "submission" // carries a certificate
	ConfirmationRequest  = "confirmation-request"
	ConfirmationResponse = "confirmation-response"
)

// Letter is a mail that came in.
type Letter struct {
	Kind string
	// From is the address of its From field, which nothing vouches for.
	From address.Address
	// Sealed: what it carries was encrypted to one of our keys.
	Sealed bool
	// Certificates is the body of a Submission, as it came.
	Certificates []byte
	// Confirmation is that of the other kinds.
	Confirmation Confirmation
}

// Confirmation is the body of a request or response (Sections 4.3 and 4.4).
type Confirmation struct {
	Sender      string // the submission address
	Address     string
	Fingerprint pgp.Fingerprint // of requests alone
	Nonce       string
}

// Bounds of a mail.
const (
	maxMail  = 512 << 10
	maxField = 1000
	maxNonce = 128
)

// text is the body of a confirmation.
func (c Confirmation) text(kind string) []byte {
	var b strings.Builder
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%s: %s\r\n", name, value)
		}
	}
	line("type", kind)
	line("sender", c.Sender)
	line("address", c.Address)
	line("fingerprint", string(c.Fingerprint))
	line("nonce", c.Nonce)
	return []byte(b.String())
}

// parseConfirmation reads name: value lines. Unknown names are passed over, names
// that stand twice are not understood.
func parseConfirmation(b []byte) (kind string, c Confirmation, err error) {
	values := map[string]string{}
	for line := range strings.Lines(string(b)) {
		line = strings.TrimRight(line, "\r\n")
		if strings.TrimSpace(line) == "" {
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		name, value = strings.ToLower(strings.TrimSpace(name)), strings.TrimSpace(value)
		if _, twice := values[name]; !ok || twice || len(line) > maxField || len(values) > 20 || control(value) {
			return "", c, fmt.Errorf("%w: malformed confirmation", ErrMail)
		}
		values[name] = value
	}
	c = Confirmation{Sender: values["sender"], Address: values["address"], Nonce: values["nonce"],
		Fingerprint: pgp.Fingerprint(strings.ToUpper(values["fingerprint"]))}
	kind = values["type"]
	if kind != ConfirmationRequest && kind != ConfirmationResponse || c.Sender == "" || c.Address == "" || c.Nonce == "" || len(c.Nonce) > maxNonce ||
		strings.ContainsAny(c.Nonce, " \t") {
		return "", c, fmt.Errorf("%w: incomplete confirmation", ErrMail)
	}
	return kind, c, nil
}

func control(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// Read takes a mail apart; keys open what is encrypted. It is ErrMail for
// whatever isn't one of the three kinds, pgp.ErrMalformed where nothing opens;
// any other error may pass.
func Read(ctx context.Context, raw []byte, keys pgp.Decrypter) (Letter, error) {
	if len(raw) > maxMail {
		return Letter{}, fmt.Errorf("%w: too large", ErrMail)
	}
	m, err := parse(raw)
	if err != nil {
		return Letter{}, err
	}
	l := Letter{}
	if l.From, err = author(m.root); err != nil {
		return Letter{}, err
	}
	if m.root.Type == "multipart" && m.root.Subtype == "encrypted" {
		if len(m.root.Children) != 2 {
			return Letter{}, ErrMail
		}
		inside, err := m.decrypt(ctx, m.root.Children[1], keys)
		if err != nil {
			return Letter{}, err
		}
		if m, err = parse(inside); err != nil {
			return Letter{}, err
		}
		l.Sealed = true
	}
	return l, l.find(ctx, m, keys)
}

// find fills in what the mail carries: the one part of a type that we know.
func (l *Letter) find(ctx context.Context, m mail, keys pgp.Decrypter) error {
	parts := m.leaves("application/pgp-keys", "application/vnd.gnupg.wks")
	if len(parts) != 1 {
		return ErrMail
	}
	body, err := m.body(parts[0])
	if err != nil {
		return err
	}
	if parts[0].Subtype == "pgp-keys" {
		l.Kind, l.Certificates = Submission, body
		return nil
	}
	if strings.HasPrefix(strings.TrimSpace(string(body)), "-----BEGIN PGP MESSAGE") && !l.Sealed {
		if body, err = m.decrypt(ctx, parts[0], keys); err != nil {
			return err
		}
		l.Sealed = true
	}
	l.Kind, l.Confirmation, err = parseConfirmation(body)
	return err
}

package smtpd

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"letterlock.org/letterlock/form"
	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/pgp"
	"letterlock.org/letterlock/policy"
)

// Passwords is how an account sends to people who have no certificate, by
// package form. Which of them, the policy says; nobody by default.
//
// The password is, in this order: what the mail program gives in the field
// Letterlock-Password; what was agreed with the recipient (see [AgreedPasswords]);
// else one of our own, for this message and all who share a copy. Only of the
// last the sender doesn't know: a notice tells it, encrypted to the sender's own
// certificate. The field leaves in no copy, but a mail program that files its own
// Sent copy files the field too: in clear, if the bridge's append doesn't seal it.
//
// No password is in a log, in a reply, or in the mail that it opens.
type Passwords struct {
	// Agreed tells the password that owner, an author, has agreed upon with a
	// recipient; a zero one if there is none. nil knows none.
	Agreed func(ctx context.Context, owner, to address.Address) (form.Password, error)
	// ClearNotice tells whether the notice may go unencrypted to a sender without
	// certificate: for a relay within an organisation that trusts its own mail,
	// to its own members alone, since the author of what it forwards may be
	// anybody. nil is no; then such a message is refused.
	ClearNotice func(to address.Address) bool
	// NoOpenPGP leaves out the copy for OpenPGP programs.
	NoOpenPGP bool
	// Limit is the longest message in bytes; 0 means form.DefaultLimit.
	Limit int64
}

// passwordField is where a mail program may give the password.
const passwordField = "Letterlock-Password"

// carriesPassword tells of the header field that leaves in no copy, whatever
// else does.
func carriesPassword(name string) bool { return strings.EqualFold(name, passwordField) }

var (
	errPasswordField = errors.New("the field " + passwordField + " can't be used")
	errNoNotice      = errors.New("the sender has no certificate to be told the password by")
)

// locked is a copy under a password, and the notice to its sender.
type locked struct {
	body   *message.Spool // a whole mail of 7 bits, for the upstream
	notice *message.Spool // a whole mail for notify; nil where the sender knows the password
	notify address.Address
	signer pgp.Fingerprint // of who signed the OpenPGP copy; "" for nobody
}

func (l locked) close() {
	for _, s := range []*message.Spool{l.body, l.notice} {
		if s != nil {
			s.Close()
		}
	}
}

// sharesPassword tells whether a recipient may be in one group with others who
// get the message under a password: only someone with whom no other password was
// agreed. Blind recipients have groups of their own anyway, since otherwise the
// notice would name who shares a password with whom, and they each other.
func (s *session) sharesPassword(ctx context.Context, sub submission, to address.Address) (bool, error) {
	if sub.root.Header.Has(passwordField) {
		return true, nil
	}
	p, err := s.agreed(ctx, sub, to)
	return p.IsZero(), err
}

// lock makes the copy of a group whose action is policy.Password. All recipients
// of it can have the same password. The caller closes what it returns; nothing
// may be sent without the notice being on its way as safely.
func (s *session) lock(ctx context.Context, sub submission, rcpts []recipient, o policy.Options) (l locked, err error) {
	defer func() {
		if err != nil {
			l.close()
			l = locked{}
		}
	}()
	password, err := s.password(ctx, sub, rcpts)
	if err != nil {
		return l, err
	}
	p, err := s.protection(ctx, sub, o)
	if err != nil {
		return l, err
	}
	if !p.Unsigned && p.Signer != nil {
		l.signer = p.Signer.Certificate().Fingerprint()
	}
	ways := s.passwords()
	if password.Made() { // first: without it nobody could read the other
		if l.notice, err = s.notice(ctx, sub, rcpts, password, p); err != nil {
			return l, err
		}
		l.notify = sub.from
	}
	l.body = message.NewSpool(s.server.c.Spool)
	return l, form.Write(ctx, l.body, sub.src, form.Options{Password: password, Protection: p, NoOpenPGP: ways.NoOpenPGP, Limit: ways.Limit})
}

func (s *session) passwords() Passwords {
	if s.account.Passwords == nil {
		return Passwords{}
	}
	return *s.account.Passwords
}

// password is the one of a group.
func (s *session) password(ctx context.Context, sub submission, rcpts []recipient) (form.Password, error) {
	switch given := sub.root.Header.All(passwordField); len(given) {
	case 0:
	case 1:
		p, err := form.Agreed(given[0].Text())
		if err != nil {
			return p, fmt.Errorf("%w: %w", errPasswordField, err)
		}
		return p, nil
	default:
		return form.Password{}, fmt.Errorf("%w: it stands there %d times", errPasswordField, len(given))
	}
	for _, r := range rcpts {
		p, err := s.agreed(ctx, sub, r.address)
		if err != nil {
			return p, err
		}
		if !p.IsZero() {
			if len(rcpts) > 1 {
				return p, errors.New("recipients with passwords of their own are in one group")
			}
			return p, nil
		}
	}
	return form.NewPassword(), nil
}

func (s *session) agreed(ctx context.Context, sub submission, to address.Address) (p form.Password, err error) {
	if ask := s.passwords().Agreed; ask != nil {
		if p, err = ask(ctx, sub.from, to); err != nil {
			return form.Password{}, fmt.Errorf("looking for an agreed password: %w", err)
		}
	}
	return p, nil
}

// notice is the mail that tells the sender the password: encrypted to himself,
// and signed as what he writes is.
func (s *session) notice(ctx context.Context, sub submission, rcpts []recipient, password form.Password, p pgp.Protection) (*message.Spool, error) {
	own, err := s.ownCertificate(ctx, sub, p)
	if err != nil {
		return nil, err
	}
	n := passwordNotice{from: sub.from, header: sub.root.Header, password: password, now: s.server.c.Now(), host: s.server.c.Domain}
	for _, r := range rcpts {
		n.to = append(n.to, r.address)
	}
	out := message.NewSpool(s.server.c.Spool)
	if own == nil {
		_, err = out.Write(n.text(false))
	} else {
		p.Recipients, p.From = []*pgp.Certificate{own}, sub.from
		err = pgp.Protect(ctx, out, message.Bytes(n.text(true)), p)
	}
	if err != nil {
		out.Close()
		return nil, fmt.Errorf("encrypting the notice of a password: %w", err)
	}
	return out, nil
}

// ownCertificate is whom the notice is encrypted to: the author's own key where
// it signs, else what is found for the author. nil means that the notice may go
// in clear.
func (s *session) ownCertificate(ctx context.Context, sub submission, p pgp.Protection) (*pgp.Certificate, error) {
	if p.Signer != nil && p.Gateway == nil || p.Signer != nil && p.Signer.Certificate().Has(sub.from) {
		return p.Signer.Certificate(), nil
	}
	if s.account.Find != nil {
		found, err := s.account.Find.Find(ctx, sub.from)
		if err != nil {
			return nil, fmt.Errorf("looking for the sender's certificate: %w", err)
		}
		switch {
		case found.Outcome == keydir.Unavailable:
			return nil, fmt.Errorf("looking for the sender's certificate: %s", found.Detail)
		case len(found.Certificates) > 0 && found.Identity.AtLeast(pgp.Directory):
			return found.Certificates[0], nil
		case found.Outcome == keydir.Found || found.Known: // one that can't be used is not none
			return nil, errNoNotice
		}
	}
	if may := s.passwords().ClearNotice; may != nil && may(sub.from) {
		return nil, nil
	}
	return nil, errNoNotice
}

// passwordRefusal is the reply to a message that can't go under a password for a
// reason that its sender can change; "" for others.
func passwordRefusal(err error) string {
	switch {
	case errors.Is(err, form.ErrTooLarge):
		return "this message is too large to be sent under a password; send a smaller one, or ask the recipient for a certificate"
	case errors.Is(err, form.ErrWeak):
		return "the password in the field " + passwordField + " is too easy to guess; take twelve characters or more, or leave the field out"
	case errors.Is(err, errPasswordField):
		return "the message has several fields " + passwordField + "; it may have one"
	case errors.Is(err, errNoNotice):
		return "no certificate of yours is known to send you the password with; set one with `letterlock password set ADDRESS`, or give one in the field " + passwordField
	}
	return ""
}

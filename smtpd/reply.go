package smtpd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"syscall"

	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/pgp"
	"letterlock.org/letterlock/smtpd/queue"
)

// ownReply is a reply of ours to the client: 421 ends the session. It is an error
// where it refuses, and where it doesn't.
type ownReply struct {
	Code   int
	Status string // RFC 3463
	Text   string
}

func (r *ownReply) Error() string { return fmt.Sprintf("%d %s %s", r.Code, r.Status, r.Text) }

// answer makes a reply for the client.
func answer(code int, status, text string) error {
	return &ownReply{code, status, clean(text, 480)}
}

func permanent(code int, status, text string) error { return answer(code, status, text) }
func temporary(status, text string) error           { return answer(451, status, text) }

// upstreamReply passes on a refusal of the upstream. 421 would promise that we
// close the connection; that a command is not understood, or that somebody must log
// in, would be said of our client's commands and its login here.
func upstreamReply(r reply) error {
	code := r.Code
	switch {
	case code/100 == 5 && code < 550:
		code = 550
	case code/100 == 5:
	case code == 421, code > 429 && code < 450, code == 454:
		code = 451
	case code/100 != 4:
		code, r.Status = 451, "4.3.0"
	}
	return answer(code, r.Status, "your mail server says: "+r.Text)
}

// fault translates an error to a reply, once, and logs its chain. The
// unexpected is temporary: mail waits rather than being lost.
func (s *session) fault(doing string, err error) error {
	var said *ownReply
	if errors.As(err, &said) {
		return said
	}
	s.log.Warn("submission", "outcome", "failed", "reason", doing, "err", err)
	s.server.c.Count("failed")
	var r reply
	var no *rebuff
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.As(err, &r):
		return upstreamReply(r)
	case errors.As(err, &no):
		return s.account.rebuffed(no)
	case errors.As(err, &certificate): // RFC 3463, Section 3.8
		return temporary("4.7.5", s.account.told("your mail server's TLS certificate is not valid for it, so nothing was sent: "+certificateFault(err)))
	case errors.Is(err, errNoTLS):
		return temporary("4.7.0", "your mail server offers no TLS, so nothing was sent; somebody may be in between")
	case kindOf(err) == FaultTLS:
		return temporary("4.7.0", s.account.told(noTLSThere)+", so nothing was sent")
	case errors.Is(err, errMute):
		return temporary("4.4.2", s.account.told("your mail server doesn't answer: "+errMute.Error()))
	case errors.Is(err, errUpstream):
		return temporary("4.4.1", "your mail server can't be reached now; try again later")
	case errors.Is(err, context.DeadlineExceeded):
		return temporary("4.4.2", doing+" took too long; try again later")
	case errors.Is(err, message.ErrTooLarge):
		return permanent(552, "5.3.4", "the message is too large")
	case errors.Is(err, message.ErrLimit):
		return permanent(554, "5.6.0", "the message has too many parts or too large a header to be protected")
	case errors.Is(err, pgp.ErrLocked):
		return temporary("4.7.0", "the signing key is locked; `letterlock status` tells how to unlock it")
	case errors.Is(err, queue.ErrBusy):
		return temporary("4.4.5", "the same message is being sent right now; try again in a minute")
	case errors.Is(err, queue.ErrFull):
		return answer(452, "4.3.1", "the queue has no room left; `letterlock queue list` shows what waits")
	case diskFull(err): // RFC 5321, Section 4.2.3; RFC 3463, Section 3.4
		return answer(452, "4.3.1", "the disk of this machine is full, so nothing was sent; try again when there is space")
	}
	return temporary("4.3.0", "internal error while "+doing+"; `letterlock status` tells more")
}

// diskFull tells of an error that passes when somebody makes room.
func diskFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, store.ErrNoSpace)
}

// rebuffed is the reply where the upstream lets us do nothing.
func (a *Account) rebuffed(no *rebuff) error {
	switch {
	case errors.Is(no, ErrUpstreamPassword):
		return temporary("4.7.0", a.told("your mail server refused the login; `letterlock account password ADDRESS` takes another password")+"; "+no.said())
	case errors.Is(no, errLogin):
		return temporary("4.7.0", "your mail server refused the login: "+no.said())
	}
	return temporary("4.4.1", "your mail server does not serve us now; "+no.said())
}

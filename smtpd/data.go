package smtpd

import (
	"crypto/sha256"
	"errors"
	"io"
	"strings"

	"github.com/emersion/go-smtp"
	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/smtpd/queue"
)

// submission is one message as the client gave it.
type submission struct {
	src       *message.Spool
	root      *message.Part
	from      address.Address // the first author
	messageID string
	key       string // see queue.Key
}

// Data implements smtp.Session.
func (s *session) Data(r io.Reader) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.account == nil || s.env == nil || len(s.env.rcpts) == 0 {
		return permanent(503, "5.5.1", "RCPT first")
	}
	sub, err := s.receive(r)
	if err != nil {
		return err
	}
	defer sub.src.Close()
	release, ok := s.server.c.Queue.Claim(sub.key)
	if !ok {
		return temporary("4.4.5", "the same message is being sent right now; try again in a minute")
	}
	defer release()
	return s.submit(s.ctx, sub)
}

// receive reads the message into a spool and checks what it says of itself.
func (s *session) receive(r io.Reader) (sub submission, err error) {
	sub.src = message.NewSpool(s.server.c.Spool)
	defer func() {
		if err != nil {
			sub.src.Close()
		}
	}()
	if s.account.Relay != nil {
		sub.src.Write(s.received()) // what fails here fails below again
	}
	hash := sha256.New()
	check := &lineCheck{w: io.MultiWriter(sub.src, hash)}
	buf := buffers.Get().(*[]byte)
	_, err = io.CopyBuffer(struct{ io.Writer }{check}, struct{ io.Reader }{r}, *buf)
	buffers.Put(buf)
	if err == nil {
		err = check.end()
	}
	switch {
	case errors.Is(err, errBareLineEnd):
		s.log.Info("submission", "outcome", "refused", "reason", err)
		s.server.c.Count("refused")
		return sub, permanent(554, "5.6.0", "the message has a bare CR or LF; the mail program must end lines with CRLF")
	case errors.Is(err, smtp.ErrDataReset):
		// A fifth guard: go-smtp may hand the result of a BDAT that was taken
		// back to the next one. There is no next one on this connection.
		s.ended = true
		s.guard.fail(errEnded)
		return sub, err
	case err != nil:
		return sub, s.fault("reading the message", err)
	}
	sub.root, err = message.Parse(sub.src, message.Limits{})
	if err != nil {
		return sub, s.fault("reading the message", err)
	}
	if s.account.Relay != nil {
		if err := s.looping(sub.root.Header); err != nil {
			return sub, err
		}
	}
	if sub.from, err = s.author(sub.root.Header); err != nil {
		return sub, err
	}
	if s.env.from.IsZero() && !s.account.anySender() && !sub.root.Is("multipart/report") {
		return sub, permanent(550, "5.7.1", "without a sender address only read receipts and other reports are sent")
	}
	if id := sub.root.Header.Get("Message-ID"); strings.HasPrefix(id, "<") && strings.HasSuffix(id, ">") && len(message.MessageIDs(id)) == 1 {
		sub.messageID = id
	}
	sub.key = queue.Key(s.account.key(), sub.messageID, [32]byte(hash.Sum(nil)))
	return sub, nil
}

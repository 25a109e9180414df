package smtpd

import (
	"context"
	"log/slog"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/policy"
)

// Locked is what became of a message under a password.
type Locked struct {
	Body, Notice, Refusal string
	Notify                address.Address
	Shares                []bool // of each recipient
}

// Lock makes the copy of one group, as an account; for tests.
func Lock(a *Account, raw string, log *slog.Logger, to ...address.Address) (l Locked, err error) {
	ctx := context.Background()
	src := message.NewSpool(message.SpoolOptions{})
	defer src.Close()
	if _, err := src.Write([]byte(raw)); err != nil {
		return l, err
	}
	root, err := message.Parse(src, message.Limits{})
	if err != nil {
		return l, err
	}
	s := &session{server: &Server{c: Config{Now: time.Now}}, account: a, env: &envelope{}, ctx: ctx, log: log}
	sub := submission{src: src, root: root, from: a.Addresses[0]}
	var rcpts []recipient
	for _, r := range to {
		shares, err := s.sharesPassword(ctx, sub, r)
		if err != nil {
			return l, err
		}
		l.Shares = append(l.Shares, shares)
		rcpts = append(rcpts, recipient{address: r})
	}
	made, err := s.lock(ctx, sub, rcpts, policy.Options{})
	if err != nil {
		l.Refusal = passwordRefusal(err)
		return l, err
	}
	defer made.close()
	l.Notify = made.notify
	for text, spool := range map[*string]*message.Spool{&l.Body: made.body, &l.Notice: made.notice} {
		if spool == nil {
			continue
		}
		b, err := message.ReadAll(spool, 1<<30)
		if err != nil {
			return l, err
		}
		*text = string(b)
	}
	return l, nil
}

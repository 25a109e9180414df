package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"letterlock.org/letterlock/internal/config"
	"letterlock.org/letterlock/keydir/server"
)

type keydirInit struct{}

// runState makes the submission address's key and publishes it; what is there
// already stays.
func (c *keydirInit) runState(ctx context.Context, e *env, s *state) error {
	k, err := s.submissionConfig()
	if err != nil {
		return err
	}
	cert, err := s.firstKey(ctx, k.Sender)
	if err != nil {
		return err
	}
	if err := s.publish(ctx, e, k.Sender, cert); err != nil {
		return err
	}
	e.printf("People publish their certificates by mail to %s (Web Key Service).\n", k.Sender)
	e.printf("Have your MTA give its mail to letterlock. With Postfix, in /etc/aliases:\n")
	file, err := filepath.Abs(s.cfg.Load().File) // whoever runs it is elsewhere
	if err != nil {
		return err
	}
	e.printf("  %s: \"|letterlock keydir receive --config %s\"\n", k.Sender.Local, shellWord(file))
	e.printf("(as the user that runs letterlock serve: default_privs, or a pipe(8) transport with user=)\n")
	return nil
}

// submissionConfig is [keydir], if people can submit by mail.
func (s *state) submissionConfig() (*config.Keydir, error) {
	k := s.cfg.Load().Keydir
	switch {
	case k == nil || k.Sender.IsZero():
		return nil, fmt.Errorf(`%w: there is no submission address; write in [keydir]: from = "key-submission@DOMAIN"`, errConfig)
	case !s.ownDomain(k.Sender):
		return nil, fmt.Errorf("%w: %s is of no domain in [keydir], so that its own certificate can't be looked up here", errConfig, k.Sender)
	}
	return k, nil
}

type keydirInvite struct {
	Address addressArg `arg:""`
}

// runState prints a token with which a bridge may publish for an address.
func (c *keydirInvite) runState(ctx context.Context, e *env, s *state) error {
	if !s.ownDomain(c.Address.Address) {
		return fmt.Errorf("%w: %s is of no domain in [keydir] (domains = …)", errConfig, c.Address)
	}
	token, err := s.keydir.Invite(ctx, c.Address.Address)
	if err != nil {
		return err
	}
	e.printf("%s\n", token)
	return nil
}

type keydirReceive struct {
	File  string `arg:"" optional:"" default:"-" help:"The mail; - is standard input."`
	Clear bool   `help:"Take certificates that come in clear, too."`
}

// keydirReceiveTime bounds what one mail may take.
const keydirReceiveTime = 3 * time.Minute

// runState takes one mail from standard input. Its exit code is for an MTA: 0 also
// for mail that is ignored, since a bounce would go to whoever was named in it,
// and 75 (EX_TEMPFAIL of sysexits.h) for what should come again.
func (c *keydirReceive) runState(ctx context.Context, e *env, s *state) error {
	ctx, cancel := context.WithTimeout(ctx, keydirReceiveTime)
	defer cancel()
	k, err := s.submissionConfig()
	if err != nil {
		return again(e, err)
	}
	raw, err := e.files.Read(c.File)
	if err != nil {
		return again(e, err)
	}
	if err := s.receiveKeyMail(ctx, k, raw, c.Clear); errors.Is(err, server.ErrIgnored) {
		s.log.Warn("keydir", "ignored", err)
		return nil
	} else if err != nil {
		return again(e, err)
	}
	return nil
}

func (s *state) receiveKeyMail(ctx context.Context, k *config.Keydir, raw []byte, clear bool) error {
	if k.Smarthost == "" {
		return fmt.Errorf("%w: [keydir] has no smarthost to answer by", errConfig)
	}
	send, err := newKeydirMail(k)
	if err != nil {
		return err
	}
	keys, err := s.keys.Decrypter(ctx, k.Sender)
	if err != nil {
		return fmt.Errorf("%s: %w (make it with: letterlock keydir init)", k.Sender, err)
	}
	signer, err := s.keys.Signer(ctx, k.Sender)
	if err != nil {
		return err
	}
	w := &server.WKS{Directory: s.keydir, Domains: k.Domains, Address: k.Sender, Keys: keys, Signer: signer, Clear: clear, Logger: s.log, Now: s.now}
	mails, err := w.Receive(ctx, unixFrom(raw))
	if err != nil {
		return err
	}
	for i, m := range mails {
		if err := send(ctx, m); err != nil {
			// Those that were sent are asked again, which does no harm.
			for _, m := range mails[i:] {
				if m.Unsent != nil {
					err = errors.Join(err, m.Unsent(context.WithoutCancel(ctx)))
				}
			}
			return err
		}
	}
	return nil
}

// unixFrom takes away the "From " line with which some MTAs begin a mail.
func unixFrom(raw []byte) []byte {
	if bytes.HasPrefix(raw, []byte("From ")) {
		if _, rest, ok := bytes.Cut(raw, []byte("\n")); ok {
			return rest
		}
	}
	return raw
}

// exitAgain is EX_TEMPFAIL.
const exitAgain = 75

// again tells an error after which an MTA tries again.
func again(e *env, err error) error {
	fmt.Fprintf(e.stderr, "letterlock: %v\n", err)
	return exitError(exitAgain)
}

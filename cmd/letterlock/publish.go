package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/config"
	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/keydir/server"
	"letterlock.org/letterlock/keydir/wks"
	"letterlock.org/letterlock/pgp"
)

type keyPublish struct {
	Address addressArg    `arg:""`
	Invite  string        `placeholder:"WORD" help:"What the operator of the directory gave you (letterlock keydir invite)."`
	VKS     string        `name:"vks" placeholder:"URL" help:"Publish at this key server instead, such as https://keys.openpgp.org; it mails you a link."`
	Wait    time.Duration `placeholder:"5m" help:"Wait for the directory's question by mail, and answer it. A running serve answers by itself, for three days."`
}

// runState publishes the active certificate where the domain's directory takes it.
func (c *keyPublish) runState(ctx context.Context, e *env, s *state) error {
	a := c.Address.Address
	cert, err := s.keys.Certificate(ctx, a)
	if err != nil {
		return noSuchKey(a, err)
	}
	if c.VKS != "" {
		return s.publishVKS(ctx, e, c.VKS, a, cert)
	}
	if s.ownDomain(a) {
		return s.publish(ctx, e, a, cert)
	}
	how, err := s.publishOwn(ctx, a, c.Invite)
	switch {
	case errors.Is(err, keydir.ErrNoInlet):
		return fmt.Errorf("%w (give the operator of %s your certificate: letterlock key export %s; they publish it with: letterlock keydir add)", err, a.Domain, a)
	case err != nil:
		return err
	case how != publishPending:
		e.printf("Published for %s: %s\n", a, cert.Fingerprint())
		return nil
	}
	e.printf("Asked the directory of %s to publish %s. It asks back by mail.\n", a.Domain, cert.Fingerprint())
	if c.Wait <= 0 {
		e.printf("letterlock serve answers that by itself.\n")
		return nil
	}
	return c.wait(ctx, e, s)
}

// publishVKS gives a certificate to a key server that somebody else runs.
func (s *state) publishVKS(ctx context.Context, e *env, server string, a address.Address, cert *pgp.Certificate) error {
	minimal, err := cert.Minimal(a, s.now())
	if err != nil {
		return err
	}
	pending, err := s.resolver.UploadVKS(ctx, server, minimal, a)
	if err != nil {
		return err
	}
	if pending {
		e.printf("%s sends a mail to %s; its link publishes %s.\n", server, a, cert.Fingerprint())
	} else {
		e.printf("Published for %s: %s\n", a, cert.Fingerprint())
	}
	return nil
}

// publishPoll is how often an INBOX is looked at while somebody waits.
const publishPoll = 3 * time.Second

func (c *keyPublish) wait(ctx context.Context, e *env, s *state) error {
	end := time.NewTimer(c.Wait)
	defer end.Stop()
	poll := time.NewTicker(publishPoll)
	defer poll.Stop()
	for {
		done, err := s.answerKeyMail(ctx, c.Address.Address)
		if err != nil {
			return err
		}
		if done {
			e.printf("Its question came and is answered.\n")
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-end.C:
			return fmt.Errorf("no question came by mail within %v (letterlock serve goes on looking for three days)", c.Wait)
		case <-poll.C:
		}
	}
}

// What became of publishing.
const (
	publishPending = "pending" // a mail is on its way
	publishDone    = "done"
)

// publishOwn has the domain's directory publish the active certificate of an
// address: by an authenticated PUT, else by mail.
func (s *state) publishOwn(ctx context.Context, a address.Address, invite string) (string, error) {
	cert, err := s.keys.Certificate(ctx, a)
	if err != nil {
		return "", err
	}
	var approved []*pgp.Certificate
	if s.keydir.Approved != nil {
		approved = s.keydir.Approved(a)
	}
	minimal, err := cert.Minimal(a, s.now(), approved...)
	if err != nil {
		return "", err
	}
	in, err := s.resolver.Inlets(ctx, a)
	if err != nil {
		return "", err
	}
	p := publication{address: a, fingerprint: cert.Fingerprint(), expires: cert.Expires(), made: s.now()}
	if len(in.Published) > 0 && in.Published[0].Fingerprint() == cert.Fingerprint() && in.Published[0].Expires().Equal(cert.Expires()) &&
		in.Published[0].Revoked(s.now()) == cert.Revoked(s.now()) {
		p.state = publishDone
		return p.state, s.keepPublication(ctx, p)
	}
	if in.Put {
		err := in.PutCertificate(ctx, a, minimal, s.now(), func(text []byte) (keydir.Proofs, error) { return s.prove(ctx, a, in, text, invite) })
		if err == nil {
			p.state = publishDone
			return p.state, s.keepPublication(ctx, p)
		}
		if !errors.Is(err, keydir.ErrRefusedPut) {
			return "", err
		}
		if in.Submission.IsZero() {
			return "", fmt.Errorf("%w: it takes a signature of the key that is published there, or an invitation (ask its operator for: letterlock keydir invite %s)", err, a)
		}
	}
	if err := in.TakesMail(minimal); err != nil {
		return "", err
	}
	p.state, p.service, p.serviceKey = publishPending, in.Submission, in.Service
	if in.AuthSubmit {
		p.state = publishDone // by the mail alone
	}
	return p.state, s.submitByMail(ctx, p, minimal)
}

// prove signs a PUT with the active key, and with the one that is published, if
// that is another and here too.
func (s *state) prove(ctx context.Context, a address.Address, in keydir.Inlets, text []byte, invite string) (p keydir.Proofs, err error) {
	p.Invite = invite
	k, err := s.keys.Signer(ctx, a)
	if err != nil {
		return p, err
	}
	if p.Signature, _, err = pgp.SignData(ctx, k, text, s.now()); err != nil {
		return p, err
	}
	if len(in.Published) > 0 && in.Published[0].Fingerprint() != k.Certificate().Fingerprint() {
		if former, err := s.keys.SignerOf(ctx, a, in.Published[0].Fingerprint()); err == nil {
			p.Former, _, _ = pgp.SignData(ctx, former, text, s.now()) // without it: an invitation, or mail
		}
	}
	return p, nil
}

// submitByMail sends a submission from the account itself. It is kept first: an
// answer that comes at once is for something that we asked.
func (s *state) submitByMail(ctx context.Context, p publication, c *pgp.Certificate) error {
	raw, err := wks.Submit(ctx, wks.Head{From: p.address, To: p.service, Date: s.now()}, c, p.serviceKey)
	if err != nil {
		return err
	}
	if err := s.keepPublication(ctx, p); err != nil {
		return err
	}
	return s.sendOwn(ctx, server.Mail{From: p.address, To: p.service, Text: raw})
}

// sendOwn sends a mail of an account by its own upstream.
func (s *state) sendOwn(ctx context.Context, m server.Mail) error {
	br, err := s.ownBridge(m.From)
	if err != nil {
		return err
	}
	if br.SMTP == nil {
		return fmt.Errorf("%w: %s has no smtp", errConfig, br.Account)
	}
	password, err := s.login.UpstreamPassword(ctx, br.Account)
	if err != nil {
		return fmt.Errorf("logging in for %s: %w", br.Account, err)
	}
	ctx, cancel := context.WithTimeout(ctx, keydirMailTime)
	defer cancel()
	if err := sendMail(ctx, br.SMTP.Server, br.UpstreamUser, password, m); err != nil {
		return fmt.Errorf("sending by %s: %w", br.SMTP.Server, err)
	}
	return nil
}

// ownBridge is the bridge that an address belongs to, as its own or an alias.
func (s *state) ownBridge(a address.Address) (*config.Bridge, error) {
	cfg := s.cfg.Load()
	for i := range cfg.Bridges {
		for _, own := range addresses(&cfg.Bridges[i]) {
			if own.Equal(a) {
				return &cfg.Bridges[i], nil
			}
		}
	}
	return nil, fmt.Errorf("%w: no [[bridge]] has the address %s, so that nothing can be sent from it", errConfig, a)
}

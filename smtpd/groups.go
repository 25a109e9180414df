package smtpd

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/internal/meter"
	"letterlock.org/letterlock/pgp"
	"letterlock.org/letterlock/policy"
)

// group is the recipients who may share one copy: one transaction upstream.
type group struct {
	action  policy.Action
	options policy.Options
	rcpts   []recipient
	certs   []*pgp.Certificate
	has     map[pgp.Fingerprint]bool // certs
	body    message.Source
	spool   *message.Spool // behind body; nil where body is the submission's
	notice  *message.Spool // for the sender, to go with it; nil for none
	notify  address.Address
	signer  pgp.Fingerprint // of who signed; "" for nobody
	eight   bool            // body has bytes beyond ASCII
	early   bool            // its journal may begin before body is made
	begun   *beginning      // and has
}

func closeGroups(groups []*group) {
	for _, g := range groups {
		for _, s := range []*message.Spool{g.spool, g.notice} {
			if s != nil {
				s.Close()
			}
		}
	}
}

// plan parts the recipients into groups. Those who read of each other in To and
// Cc share one ciphertext; whoever got a blind copy has one of his own, since
// the packets of a shared one would name his key to the others. Clear and passed
// copies are the same for all, blind or not.
func (s *session) plan(ctx context.Context, sub submission, rcpts []recipient, decisions []policy.Decision) (groups []*group, err error) {
	seen, apart := visible(sub.root.Header), s.opensFor(sub)
	type kind struct {
		policy.Action
		policy.Options
	}
	shared := map[kind]*group{}
	for _, r := range rcpts {
		d := decisions[r.named]
		if d.Action == policy.PassUnchanged {
			s.log.Info("dry run", "recipient", r.address.String(), "would", d.Would, "rule", d.Rule, "reason", d.Reason)
		}
		k := kind{d.Action, d.Options}
		alone := (d.Action == policy.Encrypt || d.Action == policy.Password) && !seen[r.address.Key()] || apart
		switch d.Action {
		case policy.Hold: // nothing is made of it yet
			k.Options, alone = policy.Options{}, false
		case policy.Password:
			shares, err := s.sharesPassword(ctx, sub, r.address)
			if err != nil {
				return nil, err
			}
			alone = alone || !shares
		}
		g := shared[k]
		if g != nil && !alone && k.Action == policy.Encrypt && !s.agree(g, d.Certificates) {
			alone = true
		}
		if g == nil || alone {
			g = &group{action: k.Action, options: k.Options}
			groups = append(groups, g)
			if !alone {
				shared[k] = g
			}
		}
		g.rcpts = append(g.rcpts, r)
		for _, c := range d.Certificates {
			g.add(c)
		}
	}
	for _, g := range groups {
		s.log.Debug("group", "action", g.action, "recipients", len(g.rcpts), "certificates", len(g.certs))
		if g.action == policy.Encrypt {
			for _, c := range s.account.Own {
				g.add(c)
			}
		}
	}
	return groups, nil
}

// agree tells whether a copy that certificates join still is as strong as its rule
// asks: each may be, and they have too little in common.
func (s *session) agree(g *group, certs []*pgp.Certificate) bool {
	if g.options.Least == (pgp.Strength{}) {
		return true
	}
	both, err := pgp.StrengthOf(s.server.c.Now(), append(slices.Clip(g.certs), certs...)...)
	return err == nil && both.Reaches(g.options.Least)
}

func (g *group) add(c *pgp.Certificate) {
	if f := c.Fingerprint(); !g.has[f] {
		if g.has == nil {
			g.has = map[pgp.Fingerprint]bool{}
		}
		g.has[f] = true
		g.certs = append(g.certs, c)
	}
}

// protect makes the copy of a group.
func (s *session) protect(ctx context.Context, sub submission, g *group) (err error) {
	if s.account.inbound() != nil {
		return s.inside(ctx, sub, g)
	}
	if sub, err = sub.stripped(g.options.Strip); err != nil {
		return err
	}
	switch g.action {
	case policy.Encrypt, policy.SignOnly:
		start := s.server.c.Now()
		if err = s.encrypt(ctx, sub, g); err != nil { // Protect gives 7 bits, whatever it gets
			return err
		}
		s.server.c.Meter.Took(meter.Protect, s.server.c.Now().Sub(start))
		return s.vouch(ctx, sub, g)
	case policy.SendClear:
		g.body = message.Concat(s.autocrypt(ctx, sub), without(sub.src, sub.root, s.kept(private)))
		if g.body, err = withFooter(g.body, g.options.Footer); err != nil {
			return err
		}
		if g.options.Footer != "" || g.options.Strip != "" { // a signature that it came with is broken
			if err = s.vouch(ctx, sub, g); err != nil {
				return err
			}
		}
		s.log.Info("cleartext", "recipients", len(g.rcpts), "rule", s.env.named[g.rcpts[0].named].Rule)
	case policy.PassSealed:
		g.body = without(sub.src, sub.root, s.kept(ours))
	case policy.Password:
		l, err := s.lock(ctx, sub, g.rcpts, g.options)
		if err != nil {
			return err
		}
		g.body, g.spool, g.notice, g.notify, g.signer = l.body, l.body, l.notice, l.notify, l.signer
		return s.vouch(ctx, sub, g)
	case policy.PassUnchanged:
		g.body = without(sub.src, sub.root, carriesPassword)
	case policy.Hold: // as it was submitted
		g.body = sub.src
	default:
		return fmt.Errorf("%q is no way to send a message", g.action)
	}
	g.eight, err = eightBit(g.body)
	return err
}

// autocrypt is the field that tells the readers of a clear copy our certificate,
// so that they can answer encrypted; empty where there is none or the mail
// program adds its own. It is a service, and no reason to fail.
func (s *session) autocrypt(ctx context.Context, sub submission) message.Source {
	if s.account.Relay != nil || len(sub.root.Header.All("Autocrypt")) > 0 {
		return message.Bytes(nil)
	}
	signer, err := s.account.Signer(ctx, sub.from)
	if err != nil {
		return message.Bytes(nil)
	}
	field, _ := pgp.AutocryptField(signer.Certificate(), sub.from, s.server.c.Now())
	return message.Bytes(field)
}

// encrypt signs, and encrypts where the group has that action. A group without
// certificates would come out of Protect signed only: that is never meant here.
func (s *session) encrypt(ctx context.Context, sub submission, g *group) error {
	if g.action == policy.Encrypt && len(g.certs) == 0 {
		return errors.New("a decision to encrypt has no certificate")
	}
	if g.action == policy.SignOnly {
		g.certs = nil
	}
	p, err := s.protection(ctx, sub, g.options)
	if err != nil {
		return err
	}
	if !p.Unsigned && p.Signer != nil {
		g.signer = p.Signer.Certificate().Fingerprint()
	}
	p.Recipients, p.Least, p.Root, p.Plain = g.certs, g.options.Least, sub.root, sub.plain
	if a := s.running(); a != nil {
		g.body = a
		return pgp.Protect(ctx, a, sub.src, p)
	}
	g.spool = message.NewSpool(s.server.c.Spool)
	g.body = g.spool
	if g.early {
		s.beginEarly(ctx, sub, g)
	}
	return pgp.Protect(ctx, g.spool, sub.src, p)
}

// protection is how a message is signed, whoever it is for.
func (s *session) protection(ctx context.Context, sub submission, o policy.Options) (pgp.Protection, error) {
	p := pgp.Protection{From: sub.from, SubjectOutside: o.SubjectVisible, Now: s.server.c.Now(), Spool: s.server.c.Spool}
	if s.account.Relay != nil {
		return p, s.relayProtection(ctx, sub, o.SignAs, &p)
	}
	signer, err := s.account.Signer(ctx, sub.from)
	if err != nil {
		return p, fmt.Errorf("signing key of %s: %w", sub.from, err)
	}
	p.Signer, p.Autocrypt = signer, signer.Certificate()
	return p, nil
}

// protectFault is the reply where a copy could not be made. Nothing was sent.
func (s *session) protectFault(err error) error {
	text := passwordRefusal(err)
	switch {
	case text != "":
	case errors.Is(err, pgp.ErrUnfit):
		text = "this message can't be protected as it is: its structure is malformed"
	case errors.Is(err, pgp.ErrWeak):
		text = "what this would be encrypted to, a recipient's certificate or with sent = \"provider\" your own, is weaker than the rule asks for; `letterlock explain --to ADDRESS` tells more"
	case errors.Is(err, pgp.ErrExpired), errors.Is(err, pgp.ErrRevoked), errors.Is(err, pgp.ErrUnusable):
		text = "a recipient's certificate can't be encrypted to; `letterlock explain --to ADDRESS` tells more"
	default:
		return s.fault("protecting the message", err)
	}
	s.log.Info("submission", "outcome", "refused", "reason", err)
	s.server.c.Count("refused")
	return permanent(554, "5.6.0", text)
}

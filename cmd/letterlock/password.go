package main

import (
	"context"
	"errors"
	"time"

	"letterlock.org/letterlock/form"
	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/smtpd"
)

type passwordCmd struct {
	Set    passwordSet    `cmd:"" help:"Keep the password that you have agreed upon with somebody who has no certificate."`
	List   passwordList   `cmd:"" help:"With whom passwords are agreed; not which."`
	Forget passwordForget `cmd:"" help:"Forget one; later messages get a password of their own again."`
}

type passwordSet struct {
	Address      addressArg  `arg:"" help:"The recipient."`
	From         *addressArg `placeholder:"ADDRESS" help:"Only for mail of this sender; else for everybody's here."`
	PasswordFile string      `placeholder:"FILE" help:"The password; - is standard input."`
}

func (c *passwordSet) runState(ctx context.Context, e *env, s *state) error {
	text, err := e.newSecret(c.PasswordFile, "password agreed with "+c.Address.String())
	if err != nil {
		return err
	}
	p, err := form.Agreed(text)
	if err != nil {
		return err
	}
	if err := s.passwords().Set(ctx, owner(c.From), c.Address.Address, p); err != nil {
		return err
	}
	e.printf("Kept. It opens what the rules send to %s under a password (action or missing = \"password\").\n", c.Address)
	return nil
}

type passwordList struct {
	JSON bool `name:"json" help:"For scripts."`
}

type passwordJSON struct {
	Address string    `json:"address"`
	From    string    `json:"from"` // "" is everybody
	Changed time.Time `json:"changed"`
}

func (c *passwordList) runState(ctx context.Context, e *env, s *state) error {
	all, err := s.passwords().List(ctx)
	if err != nil {
		return err
	}
	out := []passwordJSON{}
	for _, p := range all {
		out = append(out, passwordJSON{Address: p.To, From: p.Owner, Changed: p.Changed.UTC()})
	}
	if c.JSON {
		return e.json(out)
	}
	for _, p := range out {
		from := "everybody"
		if p.From != "" {
			from = p.From
		}
		e.printf("%s  for mail of %s, since %s\n", p.Address, from, day(p.Changed, "-"))
	}
	if len(out) == 0 {
		e.printf("No password is agreed with anybody.\n")
	}
	return nil
}

type passwordForget struct {
	Address addressArg  `arg:"" help:"The recipient."`
	From    *addressArg `placeholder:"ADDRESS" help:"The one for mail of this sender; else the one for everybody's."`
}

func (c *passwordForget) runState(ctx context.Context, e *env, s *state) error {
	there, err := s.passwords().Forget(ctx, owner(c.From), c.Address.Address)
	if err != nil {
		return err
	}
	if !there {
		return errors.New("no such password is kept (see: letterlock password list)")
	}
	e.printf("Forgotten. What was sent under it still opens with it.\n")
	return nil
}

func owner(a *addressArg) address.Address {
	if a == nil {
		return address.Address{}
	}
	return a.Address
}

// passwordForm is how an account sends under a password; clear is
// smtpd.Passwords.ClearNotice.
func (s *state) passwordForm(clear func(address.Address) bool) *smtpd.Passwords {
	f := s.cfg.Load().Policy.Password
	return &smtpd.Passwords{Agreed: s.passwords().Find, ClearNotice: clear, NoOpenPGP: !f.OpenPGP, Limit: f.Bytes}
}

// passwords are the agreed ones.
func (s *state) passwords() *smtpd.AgreedPasswords {
	return &smtpd.AgreedPasswords{Store: s.store, Now: s.now}
}

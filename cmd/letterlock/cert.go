package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/pgp"
)

type certCmd struct {
	Import certImport `cmd:"" help:"Store somebody's certificate, armored or binary."`
	Export certExport `cmd:"" help:"Print the certificate that is used for an address."`
	List   certList   `cmd:"" help:"Everybody whose certificate is known."`
	Show   certShow   `cmd:"" help:"What is known of an address."`
	Accept certAccept `cmd:"" help:"Use the certificate that waits, without having compared it."`
	Verify certVerify `cmd:"" help:"Compare keys with their owner, and say that you did."`
	Forget certForget `cmd:"" help:"Forget an address, as if it were met for the first time."`
}

type certImport struct {
	File    string      `arg:"" help:"Armored or binary; - is standard input."`
	Address *addressArg `help:"Only for this address, instead of all that the certificate names."`
}

func (c *certImport) runState(ctx context.Context, e *env, s *state) error {
	b, err := e.files.Read(c.File)
	if err != nil {
		return err
	}
	certs, err := pgp.ParseCertificates(b)
	if len(certs) == 0 {
		if err == nil {
			err = errors.New("there is none in it")
		}
		return fmt.Errorf("no certificate in %s: %w", c.File, err)
	}
	if err != nil {
		fmt.Fprintf(e.stderr, "letterlock: a part of %s was left out: %v\n", c.File, err)
	}
	for _, cert := range certs {
		if ok, err := s.takeCertified(ctx, e, cert); ok || err != nil {
			if err != nil {
				return err
			}
			continue
		}
		to := addressesOf(cert)
		if c.Address != nil {
			to = []address.Address{c.Address.Address}
		}
		if len(to) == 0 {
			return fmt.Errorf("%s names no mail address (say which one it is for: --address)", cert.Fingerprint())
		}
		for _, a := range to {
			err := s.resolver.Import(ctx, []*pgp.Certificate{cert}, a, pgp.FirstSeen)
			if err != nil {
				return fmt.Errorf("%s: %w", a, err)
			}
			if err := s.bridges.recheck(ctx); err != nil {
				return err
			}
			e.printf("Imported for %s:\n", a)
			describeCertificate(cert, e.now()).print(e)
			e.printf("  compare the fingerprint with its owner, then: letterlock cert verify %s %s\n", a, cert.Fingerprint())
		}
	}
	return nil
}

type certExport struct {
	Address addressArg `arg:""`
	Binary  bool       `help:"Binary instead of armored."`
}

func (c *certExport) runState(ctx context.Context, e *env, s *state) error {
	p, certs, err := s.resolver.Show(ctx, c.Address.Address)
	if err != nil {
		return ofContact(c.Address.Address, err)
	}
	if len(p.Pins) == 0 {
		return fmt.Errorf("no certificate is in use for %s, only candidates (see: letterlock cert show %s)", c.Address, c.Address)
	}
	for _, cert := range certs[:len(p.Pins)] {
		if err := writeCertificate(e, cert, c.Binary); err != nil {
			return err
		}
	}
	return nil
}

// peerJSON is what scripts get of an address.
type peerJSON struct {
	Address    string        `json:"address"`
	Problem    string        `json:"problem"`
	Outcome    string        `json:"outcome"`
	Checked    *time.Time    `json:"checked"`
	Used       []bindingJSON `json:"used"`
	Candidates []bindingJSON `json:"candidates"`
	Former     []bindingJSON `json:"former"` // what the used ones succeeded
	Changes    []changeJSON  `json:"changes"`
}

type bindingJSON struct {
	Identity pgp.Identity `json:"identity"`
	Source   string       `json:"source"`
	certificateJSON
	historyJSON
}

func describePeer(p keydir.Peer, certs []*pgp.Certificate, now time.Time) peerJSON {
	j := peerJSON{Address: p.Address.String(), Problem: p.Problem, Outcome: string(p.Outcome), Used: []bindingJSON{}, Candidates: []bindingJSON{}, Former: formerOf(p), Changes: changesOf(p)}
	if !p.Checked.IsZero() {
		t := p.Checked.UTC()
		j.Checked = &t
	}
	for i, b := range append(append([]keydir.Binding(nil), p.Pins...), p.Candidates...) {
		d := bindingJSON{b.Identity, b.Source, certificateJSON{Fingerprint: b.Fingerprint}, historyOf(b)}
		if i < len(certs) && certs[i] != nil {
			d.certificateJSON = describeCertificate(certs[i], now)
		}
		if i < len(p.Pins) {
			j.Used = append(j.Used, d)
		} else {
			j.Candidates = append(j.Candidates, d)
		}
	}
	return j
}

type certList struct {
	Expiring bool `help:"Only certificates in use that end within 30 days, or have ended."`
	JSON     bool `name:"json" help:"For scripts."`
}

func (c *certList) runState(ctx context.Context, e *env, s *state) error {
	peers, err := s.resolver.List(ctx)
	if err != nil && len(peers) == 0 {
		return err
	}
	if err != nil {
		fmt.Fprintf(e.stderr, "letterlock: left out: %v\n", err)
	}
	out := []peerJSON{}
	for _, p := range peers {
		_, certs, err := s.resolver.Show(ctx, p.Address)
		if err != nil {
			fmt.Fprintf(e.stderr, "letterlock: %s: %v\n", p.Address, err)
		}
		if d := describePeer(p, certs, e.now()); !c.Expiring || d.expiring(e.now()) {
			out = append(out, d)
		}
	}
	if c.JSON {
		return e.json(out)
	}
	if len(out) == 0 && !c.Expiring {
		e.printf("No certificate of anybody else is known yet.\n")
	}
	for _, p := range out {
		state := "no certificate in use"
		if len(p.Used) > 0 {
			state = fmt.Sprintf("%s  %s", p.Used[0].Fingerprint, p.Used[0].Identity)
			if p.expiring(e.now()) {
				state += "  ends " + p.Used[0].expiry()
			}
		}
		if p.Problem != "" {
			state += "  " + strings.ToUpper(p.Problem)
		}
		if len(p.Candidates) > 0 {
			state += fmt.Sprintf("  %d waiting", len(p.Candidates))
		}
		e.printf("%s  %s\n", p.Address, state)
	}
	return nil
}

type certShow struct {
	Address addressArg `arg:""`
	JSON    bool       `name:"json" help:"For scripts."`
}

func (c *certShow) runState(ctx context.Context, e *env, s *state) error {
	if ok, err := s.showOwn(ctx, e, c.Address.Address, c.JSON); ok {
		return err
	}
	p, certs, err := s.resolver.Show(ctx, c.Address.Address)
	if err != nil {
		return ofContact(c.Address.Address, err)
	}
	j := describePeer(p, certs, e.now())
	if c.JSON {
		return e.json(j)
	}
	e.printf("%s\n", j.Address)
	if j.Problem != "" {
		e.printf("  PROBLEM      %s: %s\n", j.Problem, p.Detail)
	}
	show := func(title string, l []bindingJSON) {
		for _, b := range l {
			e.printf("%s, identity %s, from %s\n", title, b.Identity, b.Source)
			b.certificateJSON.print(e)
			b.historyJSON.print(e)
		}
	}
	show("In use", j.Used)
	show("Waiting to be accepted", j.Candidates)
	for _, b := range j.Former {
		e.printf("Before: %s, which named its successor\n", grouped(b.Fingerprint))
	}
	for _, ch := range p.Changes {
		e.printf("Changed on %s: %s\n", day(ch.At, "-"), ch.Why)
	}
	return nil
}

// ofContact says whose certificate an error is about, and how to have one of somebody
// unknown looked for.
func ofContact(a address.Address, err error) error {
	if errors.Is(err, keydir.ErrUnknown) {
		return fmt.Errorf("%s: %w (to have one looked for: letterlock explain --to %s)", a, keydir.ErrUnknown, a)
	}
	return fmt.Errorf("%s: %w", a, err)
}

type certAccept struct {
	Address     addressArg     `arg:""`
	Fingerprint fingerprintArg `arg:"" optional:""`
}

func (c *certAccept) runState(ctx context.Context, e *env, s *state) error {
	if err := s.resolver.Accept(ctx, c.Address.Address, pgp.Fingerprint(c.Fingerprint)); err != nil {
		return ofContact(c.Address.Address, err)
	}
	if err := s.bridges.recheck(ctx); err != nil {
		return err
	}
	return (&certShow{Address: c.Address}).runState(ctx, e, s)
}

type certForget struct {
	Address addressArg `arg:""`
}

func (c *certForget) runState(ctx context.Context, e *env, s *state) error {
	if err := s.resolver.Forget(ctx, c.Address.Address); err != nil {
		return fmt.Errorf("%s: %w", c.Address, err)
	}
	e.printf("Forgot %s. The next mail to it is as to a stranger.\n", c.Address)
	return nil
}

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/pgp"
	"rsc.io/qr"
)

type certVerify struct {
	Address     addressArg     `arg:""`
	Fingerprint fingerprintArg `arg:"" optional:"" help:"As its owner told you, over another channel than mail. Without it, the safety number is shown, which both of you can compare."`
	Number      string         `help:"The safety number that its owner sees: 60 digits, 12 words, or what the QR code says."`
	As          *addressArg    `help:"Your own address that its owner writes to; else the first of your accounts."`
	JSON        bool           `name:"json" help:"For scripts."`
}

func (c *certVerify) runState(ctx context.Context, e *env, s *state) error {
	if c.Fingerprint != "" {
		return c.confirm(ctx, e, s, pgp.Fingerprint(c.Fingerprint))
	}
	theirs, err := s.pinned(ctx, c.Address.Address)
	if err != nil {
		return err
	}
	from, ours, err := s.ownSide(ctx, c.As)
	if err != nil {
		return err
	}
	n := keydir.NewSafetyNumber(from, ours, c.Address.Address, theirs)
	switch {
	case c.Number == "":
		return showSafetyNumber(e, n, from, c.Address.Address, c.JSON)
	case !n.Matches(c.Number):
		return fmt.Errorf("this is not the number that you and %s share: compare once more, digit by digit. "+
			"If it stays so, one of you has a false certificate of the other; don't write anything confidential", c.Address)
	}
	return c.confirm(ctx, e, s, theirs.Fingerprint())
}

// confirm notes that a person compared.
func (c *certVerify) confirm(ctx context.Context, e *env, s *state, f pgp.Fingerprint) error {
	if err := s.resolver.Verify(ctx, c.Address.Address, f); err != nil {
		return fmt.Errorf("%s: %w", c.Address, err)
	}
	if err := s.bridges.recheck(ctx); err != nil {
		return err
	}
	return (&certShow{Address: c.Address, JSON: c.JSON}).runState(ctx, e, s)
}

// pinned is the one certificate that is in use for an address.
func (s *state) pinned(ctx context.Context, a address.Address) (*pgp.Certificate, error) {
	p, certs, err := s.resolver.Show(ctx, a)
	switch {
	case errors.Is(err, keydir.ErrUnknown):
		return nil, fmt.Errorf("no certificate of %s is known yet (see: letterlock explain --to %s)", a, a)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", a, err)
	case len(p.Pins) != 1:
		return nil, fmt.Errorf("%d certificates are in use for %s; name the one that you compare: letterlock cert verify %s FINGERPRINT", len(p.Pins), a, a)
	}
	return certs[0], nil
}

// ownSide is our own address and certificate.
func (s *state) ownSide(ctx context.Context, as *addressArg) (a address.Address, c *pgp.Certificate, err error) {
	switch bridges := s.cfg.Load().Bridges; {
	case as != nil:
		a = as.Address
	case len(bridges) > 0:
		a = bridges[0].Account
	default:
		return a, nil, errors.New("there is no account here whose key could be compared (say which address is yours: --as)")
	}
	k, err := s.keys.Signer(ctx, a)
	if err != nil {
		return a, nil, fmt.Errorf("your own key of %s: %w", a, err)
	}
	return a, k.Certificate(), nil
}

type safetyJSON struct {
	Own    string   `json:"own"`
	Peer   string   `json:"peer"`
	Digits string   `json:"digits"`
	Words  []string `json:"words"`
	QR     string   `json:"qr"`
}

func showSafetyNumber(e *env, n keydir.SafetyNumber, own, peer address.Address, asJSON bool) error {
	if asJSON {
		return e.json(safetyJSON{own.String(), peer.String(), n.Digits(), n.Words(), n.QR()})
	}
	picture, err := terminalQR(n.QR())
	if err != nil {
		return err
	}
	groups := strings.Fields(n.Digits())
	e.printf("Safety number of %s and %s:\n\n", own, peer)
	for i := 0; i < len(groups); i += 4 {
		e.printf("    %s\n", strings.Join(groups[i:i+4], " "))
	}
	e.printf("\nor in words:\n\n    %s\n    %s\n\n%s\n", strings.Join(n.Words()[:6], " "), strings.Join(n.Words()[6:], " "), picture)
	e.printf("%s sees the same with: letterlock cert verify %s\n", peer, own)
	e.printf("Compare by telephone or when you meet, not by mail. If it is the same:\n")
	e.printf("    letterlock cert verify %s --number \"%s\"\n", peer, n.Digits())
	return nil
}

// terminalQR draws a QR code with two rows to a line, light on dark as terminals
// mostly are, and a quiet zone (ISO/IEC 18004, Section 9.1, asks for four).
func terminalQR(text string) (string, error) {
	code, err := qr.Encode(text, qr.M)
	if err != nil {
		return "", fmt.Errorf("drawing a QR code: %w", err)
	}
	const quiet = 4
	light := func(x, y int) bool { return !code.Black(x, y) } // beyond the edges all is light
	var b strings.Builder
	for y := -quiet; y < code.Size+quiet; y += 2 {
		b.WriteString("    ")
		for x := -quiet; x < code.Size+quiet; x++ {
			switch up, down := light(x, y), light(x, y+1) && y+1 < code.Size+quiet; {
			case up && down:
				b.WriteString("█")
			case up:
				b.WriteString("▀")
			case down:
				b.WriteString("▄")
			default:
				b.WriteString(" ")
			}
		}
		b.WriteString("\n")
	}
	return b.String(), nil
}

package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/keydir/wks"
	"letterlock.org/letterlock/pgp"
)

// WKS is the service behind a submission address. It may be used concurrently.
type WKS struct {
	Directory *Directory
	Domains   []string
	Address   address.Address // the submission address
	Keys      pgp.Decrypter   // of Address, all that it ever had
	Signer    pgp.Signer      // of Address
	// Clear allows submissions that are not encrypted to Address's key.
	Clear  bool
	Logger *slog.Logger     // discards if nil
	Now    func() time.Time // time.Now if nil
}

// ErrIgnored means that a mail asks for nothing that is done. Nobody is told by
// mail: its From may be anybody's.
var ErrIgnored = errors.New("mail to the submission address ignored")

// Receive takes one mail to the submission address, and gives the mails to send
// because of it, each to the address that is asked or told. An [ErrIgnored] is
// final; after any other error the mail should be given again.
func (w *WKS) Receive(ctx context.Context, raw []byte) ([]Mail, error) {
	l, err := wks.Read(ctx, raw, w.Keys)
	switch {
	case errors.Is(err, wks.ErrMail), errors.Is(err, pgp.ErrMalformed):
		return nil, fmt.Errorf("%w: %w", ErrIgnored, err)
	case err != nil:
		return nil, err
	}
	switch {
	case l.From.Equal(w.Address):
		return nil, fmt.Errorf("%w: it is our own", ErrIgnored)
	case !l.Sealed && !(w.Clear && l.Kind == wks.Submission):
		return nil, fmt.Errorf("%w: it is not encrypted to the submission address", ErrIgnored)
	case l.Kind == wks.Submission:
		return w.submitted(ctx, l)
	case l.Kind == wks.ConfirmationResponse:
		return w.confirmed(ctx, l)
	}
	return nil, fmt.Errorf("%w: nobody asks a server to confirm", ErrIgnored)
}

func (w *WKS) now() time.Time {
	if w.Now != nil {
		return w.Now()
	}
	return time.Now()
}

func (w *WKS) head(to address.Address) wks.Head {
	return wks.Head{From: w.Address, To: to, Date: w.now()}
}

// submitted asks each address of the certificates that is new.
func (w *WKS) submitted(ctx context.Context, l wks.Letter) (out []Mail, err error) {
	domains, _ := foldDomains(w.Domains)
	offers, err := w.Directory.Offers(l.Certificates, func(d string) bool { return slices.Contains(domains, d) })
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrIgnored, err)
	}
	for _, o := range offers {
		done, err := w.Directory.Take(ctx, o)
		if err != nil {
			return nil, err
		}
		for _, a := range o.Addresses {
			// Whoever may send mail as the address has more of its mails: an MTA that
			// lets nobody else do so keeps them for its owner.
			by := asker("")
			if !l.From.Equal(a) {
				by = w.Directory.asker("address", l.From.Key())
			}
			m, err := w.ask(ctx, a, o.Certificate, contains(done, a), by)
			if err != nil {
				return nil, err
			}
			if m.Text != nil {
				out = append(out, m)
			}
		}
	}
	return out, nil
}

// ask writes the confirmation request, or says to the address itself that it is
// published already; nothing if the address had its mails for today. by is who
// asks, if not the address.
func (w *WKS) ask(ctx context.Context, a address.Address, c *pgp.Certificate, done bool, by asker) (Mail, error) {
	out := Mail{From: w.Address, To: a}
	m, err := w.Directory.minimal(c, a)
	if err != nil {
		return out, err
	}
	way := ByWKS
	if done {
		if by != "" {
			return out, nil
		}
		way = byTold
	}
	nonce, err := w.Directory.beginFor(ctx, way, a, m, by)
	if errors.Is(err, ErrLimited) {
		w.tell("keydir: no more mail to an address today")
		return out, nil
	}
	if err != nil {
		return out, err
	}
	out.Unsent = func(ctx context.Context) error { return w.Directory.Abandon(ctx, nonce, way) }
	if done {
		out.Text, err = wks.Done(ctx, w.head(a), m)
		return out, err
	}
	out.Text, err = wks.Request(ctx, w.head(a), m, wks.Confirmation{Sender: w.Address.String(), Address: a.String(), Nonce: nonce}, w.Signer)
	return out, err
}

// confirmed publishes, if the answer comes from the address that was asked.
func (w *WKS) confirmed(ctx context.Context, l wks.Letter) ([]Mail, error) {
	c := l.Confirmation
	a, err := address.Parse(c.Address)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrIgnored, err)
	}
	sender, err := address.Parse(c.Sender)
	if err != nil || !sender.Equal(w.Address) || !l.From.Equal(a) {
		return nil, fmt.Errorf("%w: it does not come from the address that it confirms", ErrIgnored)
	}
	domains, _ := foldDomains(w.Domains)
	p, err := w.Directory.Confirm(ctx, c.Nonce, ByWKS, func(p Pending) error {
		if !p.Address.Equal(a) || !slices.Contains(domains, a.Domain) {
			return ErrToken
		}
		return p.Certificate.CheckEncrypt(w.now())
	})
	switch {
	case errors.Is(err, ErrToken), errors.Is(err, pgp.ErrExpired), errors.Is(err, pgp.ErrRevoked), errors.Is(err, pgp.ErrWeak), errors.Is(err, pgp.ErrUnusable):
		return nil, fmt.Errorf("%w: %w", ErrIgnored, err)
	case err != nil:
		return nil, err
	}
	w.tell("keydir: published", "way", ByWKS, "fingerprint", p.Certificate.Fingerprint())
	text, err := wks.Done(ctx, w.head(p.Address), p.Certificate)
	if err != nil {
		return nil, nil // it is published; only nobody is told
	}
	return []Mail{{From: w.Address, To: p.Address, Text: text}}, nil
}

func (w *WKS) tell(text string, args ...any) {
	if w.Logger != nil {
		w.Logger.Info(text, args...)
	}
}

package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/pgp"
)

// removePage is the form, and what comes of it.
type removePage struct {
	page
	Done bool
}

func (s *Site) removeForm(w http.ResponseWriter, r *http.Request) {
	show(w, r, http.StatusOK, "remove", removePage{page: s.intake.newPage(r, "remove", "Remove your certificate")})
}

// removal is POST /remove with an address. Its answer and its time are the same
// whether or not something is published: Run does the rest.
func (s *Site) removal(w http.ResponseWriter, r *http.Request) {
	p := removePage{page: s.intake.newPage(r, "remove", "Remove your certificate")}
	typed, err := formField(r, "address")
	p.Asked = shown(typed)
	var a address.Address
	if err == nil {
		if a, err = address.Parse(typed); err != nil {
			p.Fault = &noAddress
			show(w, r, http.StatusBadRequest, "remove", p)
			return
		}
	}
	switch {
	case err != nil:
	case !s.intake.ours(a.Domain):
		p.Fault = &fault{Title: "No address of ours", Text: "This directory publishes nothing for addresses of that domain."}
		show(w, r, http.StatusBadRequest, "remove", p)
		return
	case !s.intake.mails():
		err = errNoMail
	default:
		select {
		case s.asked <- removalAsked{a, s.intake.c.Directory.client(clientOf(r))}:
		default:
			err = errBusy
		}
	}
	status := http.StatusOK
	if p.Done = err == nil; err != nil {
		status, p.Fault = s.intake.faultOf(err)
	}
	show(w, r, status, "remove", p)
}

// errBusy means that too many removals wait.
var errBusy = errors.New("keydir: too many removals wait to be mailed")

// askRemoval mails a link to an address, if something is published for it and it
// had not its mails for today.
func (s *Site) askRemoval(ctx context.Context, q removalAsked) {
	i := s.intake
	c, err := i.c.Directory.Certificate(ctx, q.address)
	if errors.Is(err, store.ErrNoRow) {
		return
	}
	if err == nil {
		err = i.c.Directory.request(ctx, ByRemoval, q.address, c, q.by)
	}
	switch {
	case errors.Is(err, ErrLimited):
		i.log.Info("keydir: no more mail to an address today")
	case err != nil:
		i.log.Error("keydir: a removal failed", "err", err)
	default:
		i.c.Post.look()
	}
}

func removalMail(from, to address.Address, c *pgp.Certificate, link string, now time.Time) Mail {
	return Mail{From: from, To: to, Text: letter(from, to, "Remove your OpenPGP certificate?", now, nil, "text/plain; charset=utf-8", fmt.Sprintf(`Somebody asked that the OpenPGP certificate
    %s
be no longer published for
    %s

If that was you, open
    %s
within three days. If it was not you, do nothing, or say so there.
`, spaced(string(c.Fingerprint())), to, link))}
}

// ByRemoval is a link in a mail that removes what is published.
const ByRemoval Way = "removal"

// Withdraw removes the certificate that a token of [ByRemoval] was given for, if
// that is the one published still; ErrToken if it is not.
func (d *Directory) Withdraw(ctx context.Context, token string) (Pending, error) {
	if _, err := d.Pending(ctx, token, ByRemoval); err != nil {
		return Pending{}, err // without a transaction that others would wait for
	}
	var p Pending
	err := d.update(ctx, func(tx store.Tx, version int64) error {
		var w pending
		var err error
		if p, w, err = d.open(tx, token, ByRemoval, " FOR UPDATE"); err != nil {
			return err
		}
		if err := w.use(tx, d.store); err != nil {
			return err
		}
		err = d.remove(tx, p.Address, version, func(published string) bool { return published == w.fingerprint })
		if errors.Is(err, store.ErrNoRow) {
			err = ErrToken
		}
		return err
	})
	if err != nil {
		return Pending{}, fmt.Errorf("withdrawing a certificate: %w", err)
	}
	return p, nil
}

// tokenPage asks what the link in a mail is for.
type tokenPage struct {
	page
	Address, Fingerprint string
	Ask, Done, Refused   bool
}

func (s *Site) withdrawForm(w http.ResponseWriter, r *http.Request) {
	p, err := s.intake.c.Directory.Pending(r.Context(), withdrawToken(r), ByRemoval)
	s.intake.token(w, r, "withdraw", tokenPage{Ask: true}, p, err)
}

func (s *Site) withdraw(w http.ResponseWriter, r *http.Request) {
	if refusal(r) {
		p, err := s.intake.c.Directory.Refuse(r.Context(), withdrawToken(r), ByRemoval)
		s.intake.token(w, r, "withdraw", tokenPage{Refused: true}, p, err)
		return
	}
	p, err := s.intake.c.Directory.Withdraw(r.Context(), withdrawToken(r))
	if err == nil {
		s.intake.log.Info("keydir: removed", "way", ByRemoval, "fingerprint", p.Certificate.Fingerprint())
	}
	s.intake.token(w, r, "withdraw", tokenPage{Done: true}, p, err)
}

func withdrawToken(r *http.Request) string {
	return strings.TrimPrefix(r.URL.EscapedPath(), withdrawRoot)
}

// token shows what a token stands for, or stood for.
func (i *Intake) token(w http.ResponseWriter, r *http.Request, name string, t tokenPage, p Pending, err error) {
	t.page = i.newPage(r, "", map[string]string{"withdraw": "Remove a certificate", "confirm": "Publish a certificate"}[name])
	status := http.StatusOK
	if err != nil {
		t.Ask, t.Done, t.Refused = false, false, false
		status, t.Fault = i.faultOf(err)
	} else {
		t.Address, t.Fingerprint = shownAddress(p.Address), spaced(string(p.Certificate.Fingerprint()))
	}
	show(w, r, status, name, t)
}

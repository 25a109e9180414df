package server

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/pgp"
)

// vksAnswer is what the Verifying Keyserver interface answers to an upload and
// to a request for verification.
type vksAnswer struct {
	Fingerprint string            `json:"key_fpr"`
	Status      map[string]string `json:"status"`
	Token       string            `json:"token"`
}

// States of an address in it. There is no other: one whose mails are used up for
// today is pending too.
const (
	vksUnpublished = "unpublished"
	vksPublished   = "published"
	vksPending     = "pending"
	vksRevoked     = "revoked"
)

// upload is POST /vks/v1/upload: JSON with keytext, or the certificate itself,
// armored or binary. It mails nobody.
func (i *Intake) upload(w http.ResponseWriter, r *http.Request) {
	b, err := keytext(r)
	var a vksAnswer
	if err == nil {
		a, err = i.uploaded(r, b)
	}
	i.json(w, a, err)
}

func keytext(r *http.Request) ([]byte, error) {
	b, mediaType, err := requestBody(r)
	if err != nil || mediaType != "application/json" {
		return b, err
	}
	var q struct {
		Keytext string `json:"keytext"`
	}
	if json.Unmarshal(b, &q) != nil || q.Keytext == "" {
		return nil, errRequest
	}
	if strings.Contains(q.Keytext, "-----BEGIN") {
		return []byte(q.Keytext), nil
	}
	b, err = base64.StdEncoding.DecodeString(strings.Join(strings.Fields(q.Keytext), ""))
	if err != nil {
		return nil, errRequest
	}
	return b, nil
}

func (i *Intake) uploaded(r *http.Request, b []byte) (vksAnswer, error) {
	ctx := r.Context()
	offers, err := i.c.Directory.Offers(b, i.ours)
	if err != nil {
		return vksAnswer{}, err
	}
	if len(offers) != 1 {
		return vksAnswer{}, ErrTooLarge // one at a time: the answer tells of one
	}
	o := offers[0]
	done, err := i.c.Directory.Take(ctx, o)
	if err != nil {
		return vksAnswer{}, err
	}
	a := vksAnswer{Fingerprint: string(o.Certificate.Fingerprint()), Status: map[string]string{}}
	if o.Revoked != nil {
		for _, at := range addressesOf(o.Given) {
			if i.ours(at.Domain) {
				a.Status[at.String()] = vksRevoked
			}
		}
		return a, nil
	}
	for _, at := range o.Addresses {
		a.Status[at.String()] = vksUnpublished
		if contains(done, at) {
			a.Status[at.String()] = vksPublished
		}
	}
	a.Token, err = i.c.Directory.beginFor(ctx, ByUpload, address.Address{}, o.Certificate, i.c.Directory.client(clientOf(r)))
	return a, err
}

// request is POST /vks/v1/request-verify: JSON with the token of an upload and
// addresses in it, each of which gets a mail.
func (i *Intake) request(w http.ResponseWriter, r *http.Request) {
	var q struct {
		Token     string   `json:"token"`
		Addresses []string `json:"addresses"`
	}
	b, mediaType, err := requestBody(r)
	if err == nil && (mediaType != "application/json" || json.Unmarshal(b, &q) != nil) {
		err = errRequest
	}
	var a vksAnswer
	if err == nil {
		a, err = i.requested(r, q.Token, q.Addresses)
	}
	i.json(w, a, err)
}

func (i *Intake) requested(r *http.Request, token string, addresses []string) (vksAnswer, error) {
	ctx := r.Context()
	p, err := i.c.Directory.Pending(ctx, token, ByUpload)
	if err != nil {
		return vksAnswer{}, err
	}
	offer, err := i.c.Directory.offer(p.Certificate, i.ours)
	if err != nil {
		return vksAnswer{}, err
	}
	a := vksAnswer{Fingerprint: string(p.Certificate.Fingerprint()), Status: map[string]string{}, Token: token}
	done, err := i.c.Directory.Take(ctx, offer)
	if err != nil {
		return vksAnswer{}, err
	}
	for _, at := range offer.Addresses {
		wanted := slices.ContainsFunc(addresses, func(s string) bool {
			w, err := address.Parse(s)
			return err == nil && w.Equal(at)
		})
		switch {
		case contains(done, at):
			a.Status[at.String()] = vksPublished
		case !wanted:
			a.Status[at.String()] = vksUnpublished
		default:
			a.Status[at.String()] = vksPending
			if err := i.ask(r, at, p.Certificate); err != nil {
				return vksAnswer{}, err
			}
		}
	}
	return a, nil
}

// ask mails a link to an address, unless it had its mails for today; that is not
// told.
func (i *Intake) ask(r *http.Request, a address.Address, c *pgp.Certificate) error {
	if !i.mails() {
		return errNoMail
	}
	m, err := i.c.Directory.minimal(c, a)
	if err != nil {
		return err
	}
	err = i.c.Directory.request(r.Context(), ByLink, a, m, i.c.Directory.client(clientOf(r)))
	if errors.Is(err, ErrLimited) {
		i.log.Info("keydir: no more mail to an address today")
		return nil
	}
	if err != nil {
		return err
	}
	i.c.Post.look()
	return nil
}

// errNoMail means that addresses can't be asked, since no mail can be sent.
var errNoMail = errors.New("keydir: nothing can be confirmed without [keydir] url, from and smarthost")

func (i *Intake) json(w http.ResponseWriter, a any, err error) {
	status := http.StatusOK
	if err != nil {
		var text string
		status, text = i.reason(err)
		a = map[string]string{"error": text}
	}
	b, err := json.Marshal(a)
	if err != nil {
		status, b = http.StatusInternalServerError, []byte("{}")
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n'))
}

func contains(all []address.Address, a address.Address) bool {
	return slices.ContainsFunc(all, a.Equal)
}

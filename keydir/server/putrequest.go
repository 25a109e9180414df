package server

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/pgp"
)

// errUnproven means that a PUT isn't authorised. It doesn't say whether something
// is published.
var errUnproven = errors.New("not authorised: it takes a signature of the key that is published for this address, or an invitation of the operator (letterlock keydir invite)")

// put is PUT /letterlock/v1/ADDRESS: a certificate signed by itself, and by the
// published one or an invitation.
func (i *Intake) put(w http.ResponseWriter, r *http.Request) {
	p, err := i.putRequest(r)
	if err == nil {
		err = i.authorisedPut(r, p)
	}
	if err != nil {
		i.refuse(w, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (i *Intake) putRequest(r *http.Request) (p keydir.PutRequest, err error) {
	if p.Body, _, err = requestBody(r); err != nil {
		return p, err
	}
	name, err := url.PathUnescape(strings.TrimPrefix(r.URL.EscapedPath(), keydir.PutRoot))
	if err != nil {
		return p, errRequest
	}
	if p.Address, err = address.Parse(name); err != nil {
		return p, errRequest
	}
	if !i.ours(p.Address.Domain) {
		return p, ErrForeign
	}
	if !i.isHost(r.Host) {
		return p, fmt.Errorf("%w: it is for another host", errUnproven)
	}
	p.Host, p.Nonce = r.Host, r.Header.Get(keydir.FieldNonce)
	if p.Date, err = time.Parse(time.RFC3339, r.Header.Get(keydir.FieldDate)); err != nil || !isToken(p.Nonce) {
		return p, errRequest
	}
	if off := i.now().Sub(p.Date); off > putWindow || off < -putWindow {
		return p, fmt.Errorf("%w: its date is off by more than five minutes", errUnproven)
	}
	return p, nil
}

// isHost tells whether a Host field names this server: what was signed for
// another one is good for nothing here, whoever passes it on.
func (i *Intake) isHost(host string) bool {
	if u, err := url.Parse(i.c.URL); err == nil && i.c.URL != "" && strings.EqualFold(u.Host, host) {
		return true
	}
	name := strings.ToLower(hostname(host))
	if ip, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil {
		return ip.IsLoopback()
	}
	return i.ours(name) || i.ours(strings.TrimPrefix(name, "openpgpkey."))
}

func (i *Intake) authorisedPut(r *http.Request, p keydir.PutRequest) error {
	offers, err := i.c.Directory.Offers(p.Body, i.ours)
	if err != nil {
		return err
	}
	o := offers[0]
	if len(offers) != 1 || !contains(o.Addresses, p.Address) {
		return ErrForeign
	}
	if err := verifyField(r, keydir.FieldSignature, o.Given, p, i.now()); err != nil {
		return err
	}
	m, err := i.c.Directory.minimal(o.Certificate, p.Address)
	if err != nil {
		return err
	}
	err = i.c.Directory.putSigned(r.Context(), p, m, func(published *pgp.Certificate) error {
		if published.Fingerprint() == m.Fingerprint() {
			return nil
		}
		return verifyField(r, keydir.FieldFormer, published, p, i.now())
	}, r.Header.Get(keydir.FieldInvite))
	if err == nil {
		i.log.Info("keydir: published", "way", "put", "fingerprint", m.Fingerprint())
	}
	return err
}

// verifyField is errUnproven unless a field has a signature of c over p.
func verifyField(r *http.Request, field string, c *pgp.Certificate, p keydir.PutRequest, now time.Time) error {
	sig, err := decodeField(r.Header.Get(field))
	if err != nil || pgp.VerifyData(c, p.Canonical(), sig, now) != nil {
		return errUnproven
	}
	return nil
}

// putSigned publishes c in one transaction with the check of what is published,
// the nonce and the invitation: none counts twice.
func (d *Directory) putSigned(ctx context.Context, p keydir.PutRequest, c *pgp.Certificate, former func(*pgp.Certificate) error, invite string) error {
	r, err := d.row(p.Address, c)
	if err != nil {
		return err
	}
	return d.update(ctx, func(tx store.Tx, version int64) error {
		if err := d.spendNonce(tx, p.Nonce); err != nil {
			return err
		}
		switch proven, err := d.proven(tx, p.Address, former); {
		case err != nil:
			return err
		case !proven:
			if err := d.spendInvite(tx, p.Address, invite); err != nil {
				return err
			}
		}
		return d.put(tx, r, version)
	})
}

// proven asks former about what is published for a; false where that is nothing,
// or was not enough.
func (d *Directory) proven(tx store.Tx, a address.Address, former func(*pgp.Certificate) error) (bool, error) {
	old := row{}
	err := tx.Row(selectRows+" WHERE address = ? AND gone = 0", []any{a.Key()}, old.dest()...)
	if errors.Is(err, store.ErrNoRow) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	e, err := old.entry(d.store)
	if err != nil {
		return false, err
	}
	return former(e.Certificate) == nil, nil
}

// spendNonce remembers a nonce; errUnproven if it is known.
func (d *Directory) spendNonce(tx store.Tx, nonce string) error {
	if _, err := tx.Exec("DELETE FROM keydirserver_pending WHERE ends <= ?", d.now().UnixMicro()); err != nil {
		return err
	}
	n := d.newPending(nonce, byNonce, address.Address{}, nil)
	var there int
	err := tx.Row("SELECT COUNT(*) FROM keydirserver_pending WHERE token = ?", []any{n.token}, &there)
	if err == nil && there > 0 {
		return errUnproven
	}
	if err == nil {
		err = d.limit(tx, n)
	}
	if err != nil {
		return err
	}
	return n.insert(tx, d.store)
}

func (d *Directory) spendInvite(tx store.Tx, a address.Address, token string) error {
	p, w, err := d.open(tx, token, ByInvite, " FOR UPDATE")
	if errors.Is(err, ErrToken) || err == nil && !p.Address.Equal(a) {
		return errUnproven
	}
	if err != nil {
		return err
	}
	return w.use(tx, d.store)
}

// Invite makes a token with which one certificate may be put for an address,
// whatever is published for it.
func (d *Directory) Invite(ctx context.Context, a address.Address) (string, error) {
	return d.Begin(ctx, ByInvite, a, nil)
}

func decodeField(s string) (string, error) {
	if len(s) > 4096 {
		return "", errRequest
	}
	b, err := base64.StdEncoding.DecodeString(s)
	return string(b), err
}

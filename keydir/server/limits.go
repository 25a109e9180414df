package server

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"letterlock.org/letterlock/internal/store"
)

// Bounds of what waits. Mails to one address in a day, by each way, that were not
// confirmed: a mailbox is not flooded, and what others ask for by one way leaves
// the other ways to its owner, who needs neither mail nor patience for an
// authenticated PUT. Of them one client asks for fewer, so that it takes two to
// use them up; and who has the mailbox can say in it that they were somebody
// else's ([Directory.Refuse]), and has them back.
const (
	perAddress       = 3
	perAddressClient = 2
	perAddressOthers = 1   // by Web Key Service mails that come from another address
	perClient        = 100 // mails that one client asks for in a day, to whatever addresses
	perClientUploads = 50  // of one client that it asked nobody about yet
	perSite          = 10  // times as many by all clients of a site: an IPv6 /48, which is given away free
	maxUploads       = 5_000
	maxPending       = 100_000
)

// asker is who asks for a mail, as it is stored: a keyed hash, since nobody needs
// to know. Empty is nobody in particular, for whom only the limits of the address
// hold.
type asker string

// keyClient makes the hashes of those who ask.
const keyClient = "keydirserver/client v1"

// client is the asker at a remote "ip:port": half of it tells the site, by which
// those of one are found.
func (d *Directory) client(remote string) asker {
	p, ok := clientPrefix(remote)
	if !ok {
		return ""
	}
	site, _ := sitePrefix(remote)
	return d.asker("site", site.String())[:siteDigits] + d.asker("client", p.String())[siteDigits:]
}

// siteDigits is how much of an asker is its site.
const siteDigits = 16

// site is from which to before which the askers of a's site are.
func (a asker) site() (from, to string) {
	from = string(a[:min(len(a), siteDigits)])
	return from, from + "g" // behind every hex digit
}

func (d *Directory) asker(kind, who string) asker {
	key := d.store.Key(keyClient)
	h := hmac.New(sha256.New, key[:])
	h.Write([]byte(kind + " " + who))
	return asker(hex.EncodeToString(h.Sum(nil)[:16]))
}

// limit is ErrLimited where there is too much already.
func (d *Directory) limit(tx store.Tx, p pending) error {
	if way := Way(p.way); way == ByInvite || way == byNonce {
		return nil // the operator's, and owners' who have proved it: nobody else's number stops them
	}
	if p.way == string(ByUpload) { // anybody makes them, and they are gone soon
		return limitUploads(tx, p)
	}
	var all, others int
	err := errors.Join(tx.Row("SELECT COUNT(*) FROM keydirserver_pending", nil, &all),
		tx.Row("SELECT COUNT(*) FROM keydirserver_pending WHERE way IN (?, ?)", []any{string(ByUpload), string(byNonce)}, &others))
	switch {
	case err != nil:
		return err
	case all-others >= maxPending:
		return ErrLimited
	}
	return d.limitMails(tx, p)
}

// limitUploads bounds what nobody was asked about yet. It is answered by an index:
// each may be as long as a certificate, and all wait for each other.
func limitUploads(tx store.Tx, p pending) error {
	count := func(where string, args ...any) (n int, err error) {
		err = tx.Row("SELECT COUNT(*) FROM keydirserver_pending WHERE way = ?"+where, append([]any{string(ByUpload)}, args...), &n)
		return n, err
	}
	n, err := count("")
	if err != nil || n >= maxUploads {
		return errors.Join(err, limited(n >= maxUploads))
	}
	if p.client == "" {
		return nil
	}
	from, to := p.client.site()
	n, err = count(" AND client = ?", string(p.client))
	if err != nil || n >= perClientUploads {
		return errors.Join(err, limited(n >= perClientUploads))
	}
	n, err = count(" AND client >= ? AND client < ?", from, to)
	return errors.Join(err, limited(n >= perSite*perClientUploads))
}

// limited is ErrLimited if there is too much.
func limited(much bool) error {
	if much {
		return ErrLimited
	}
	return nil
}

// limitMails bounds the mails that an address gets, and that a client causes.
// What was confirmed was wanted, and counts for nothing; what was refused counts
// for the client only.
func (d *Directory) limitMails(tx store.Tx, p pending) error {
	since := d.now().Add(-limitSpan).UnixMicro()
	var all, others, client int
	err := tx.Row(`SELECT COUNT(CASE WHEN used = 0 THEN 1 END), COUNT(CASE WHEN used = 0 AND client <> '' THEN 1 END),
		COUNT(CASE WHEN client = ? AND (used = 0 OR refused = 1) THEN 1 END)
		FROM keydirserver_pending WHERE address = ? AND made > ? AND way = ?`, []any{string(p.client), p.address, since, p.way}, &all, &others, &client)
	if err != nil {
		return err
	}
	if Way(p.way) == ByWKS { // whose asker is another address: see WKS
		if p.client != "" && others >= perAddressOthers || p.client == "" && all-others >= perAddress {
			return ErrLimited
		}
		return nil
	}
	if all >= perAddress || p.client != "" && client >= perAddressClient {
		return ErrLimited
	}
	if p.client == "" {
		return nil
	}
	from, to := p.client.site()
	var site int
	err = tx.Row(`SELECT COUNT(CASE WHEN client = ? THEN 1 END), COUNT(*) FROM keydirserver_pending
		WHERE client <> '' AND client >= ? AND client < ? AND made > ? AND way <> ? AND (used = 0 OR refused = 1)`,
		[]any{string(p.client), from, to, since, string(ByUpload)}, &client, &site)
	return errors.Join(err, limited(client >= perClient || site >= perSite*perClient))
}

// Refuse forgets a request, for the one who got its mail: it is good for nothing
// any more, and no longer counts against the address. [ErrToken] as of Confirm.
func (d *Directory) Refuse(ctx context.Context, token string, way Way) (p Pending, err error) {
	err = d.store.Update(ctx, func(tx store.Tx) error {
		var w pending
		if p, w, err = d.open(tx, token, way, " FOR UPDATE"); err != nil {
			return err
		}
		if err := w.use(tx, d.store); err != nil {
			return err
		}
		_, err = tx.Exec("UPDATE keydirserver_pending SET refused = 1 WHERE token = ?", w.token)
		return err
	})
	if err != nil && !errors.Is(err, ErrToken) {
		err = fmt.Errorf("refusing a submission: %w", err)
	}
	return p, err
}

package server

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"crypto/rand"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/pgp"
)

// The row of a request whose mail is still to be sent says so: due is when it may
// be tried, and seed is what its token is made of. So a mail outlives a stop of
// the program, and its link is the same each time that it is tried. What is
// stored of the token otherwise is a keyed hash; a seed is worth nothing without
// the store's key, with which rows could be forged as well.

// keySeed makes tokens of seeds.
const keySeed = "keydirserver/seed v1"

func (d *Directory) seedToken(seed string) string {
	key := d.store.Key(keySeed)
	h := hmac.New(sha256.New, key[:])
	h.Write([]byte(seed))
	return encoding.EncodeToString(h.Sum(nil)[:20])
}

// request keeps a request whose mail is to be sent: see dueMail.
func (d *Directory) request(ctx context.Context, way Way, a address.Address, c *pgp.Certificate, by asker) error {
	var b [16]byte
	rand.Read(b[:]) // crypto/rand never fails
	seed := hex.EncodeToString(b[:])
	p := d.newPending(d.seedToken(seed), way, a, c)
	p.client, p.seed, p.due = by, seed, p.made
	return d.begin(ctx, p)
}

// mailLease is how long whoever took a mail may need to send it; then another
// node tries, or this one after it was started anew.
const mailLease = 5 * time.Minute

// Bounds of the time between attempts, which doubles.
const (
	minAgain = 2 * time.Second
	maxAgain = time.Hour
)

// waitingMail is a request whose mail is to be sent now.
type waitingMail struct {
	Pending
	token string
	hash  []byte
}

// dueMail takes the next request whose mail is to be sent; ok is false where
// there is none for now. Another node takes another one.
func (d *Directory) dueMail(ctx context.Context) (m waitingMail, ok bool, err error) {
	now := d.now()
	var n int
	err = d.store.View(ctx, func(tx store.Tx) error {
		return tx.Row("SELECT COUNT(*) FROM keydirserver_pending WHERE due > 0 AND due <= ?", []any{now.UnixMicro()}, &n)
	})
	if err != nil || n == 0 {
		return m, false, err
	}
	err = d.store.Update(store.Relaxed(ctx), func(tx store.Tx) error {
		m, ok, err = d.takeMail(tx, now)
		return err
	})
	if err != nil {
		return m, false, fmt.Errorf("looking for mails to send: %w", err)
	}
	return m, ok, nil
}

func (d *Directory) takeMail(tx store.Tx, now time.Time) (m waitingMail, ok bool, err error) {
	for {
		var seed, way string
		var row []byte
		err := tx.Row("SELECT token, seed, way FROM keydirserver_pending WHERE due > 0 AND due <= ? ORDER BY due LIMIT 1 FOR UPDATE SKIP LOCKED",
			[]any{now.UnixMicro()}, &row, &seed, &way)
		if errors.Is(err, store.ErrNoRow) {
			return m, false, nil
		}
		if err != nil {
			return m, false, err
		}
		m.token, m.hash = d.seedToken(seed), row
		if hmac.Equal(row, d.tokenHash(m.token)) {
			m.Pending, _, err = d.open(tx, m.token, Way(way), "")
		} else {
			err = store.ErrTampered
		}
		switch {
		case err == nil:
			_, err = tx.Exec("UPDATE keydirserver_pending SET due = ? WHERE token = ?", now.Add(mailLease).UnixMicro(), row)
			return m, err == nil, err
		case errors.Is(err, ErrToken), errors.Is(err, store.ErrTampered): // it was used meanwhile, or is not ours
			if err := settleMail(tx, row); err != nil {
				return m, false, err
			}
		default:
			return m, false, err
		}
	}
}

// settleMail says that no mail is to be sent any more.
func settleMail(tx store.Tx, hash []byte) error {
	_, err := tx.Exec("UPDATE keydirserver_pending SET due = 0, seed = '' WHERE token = ?", hash)
	return err
}

// mailed says that a mail was sent, or never can be.
func (d *Directory) mailed(ctx context.Context, m waitingMail) error {
	return d.store.Update(store.Relaxed(ctx), func(tx store.Tx) error { return settleMail(tx, m.hash) })
}

// notMailed has a mail tried again, later the longer it waits.
func (d *Directory) notMailed(ctx context.Context, m waitingMail) error {
	now := d.now()
	next := now.Add(min(maxAgain, max(minAgain, now.Sub(m.Made))))
	return d.store.Update(store.Relaxed(ctx), func(tx store.Tx) error {
		_, err := tx.Exec("UPDATE keydirserver_pending SET due = ? WHERE token = ? AND due > 0", next.UnixMicro(), m.hash)
		return err
	})
}

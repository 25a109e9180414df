package server

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/pgp"
)

// macPending authenticates rows of what waits; keyToken makes the hashes of
// tokens.
const (
	macPending = "keydirserver/pending v1"
	keyToken   = "keydirserver/token v1"
)

// pending is a row of what waits.
type pending struct {
	token, certificate, mac             []byte
	way, address, spelling, fingerprint string
	made, ends                          int64
	used                                bool
	client                              asker
	seed                                string // of a mail that is to be sent, and
	due                                 int64  // when
}

// newToken is 160 random bits, as 32 characters of z-base-32, which is also the
// shape of a Web Key Service's nonce.
func newToken() string {
	var b [20]byte
	rand.Read(b[:]) // crypto/rand never fails
	return encoding.EncodeToString(b[:])
}

// tokenHash is what is stored of a token.
func (d *Directory) tokenHash(token string) []byte {
	key := d.store.Key(keyToken)
	h := hmac.New(sha256.New, key[:])
	h.Write([]byte(token))
	return h.Sum(nil)
}

func (d *Directory) newPending(token string, way Way, a address.Address, c *pgp.Certificate) pending {
	now := d.now()
	p := pending{token: d.tokenHash(token), way: string(way), made: now.UnixMicro(), ends: now.Add(way.lasts()).UnixMicro()}
	if !a.IsZero() {
		p.address, p.spelling = a.Key(), a.String()
	}
	if c != nil {
		p.fingerprint, p.certificate = string(c.Fingerprint()), c.Bytes()
	}
	return p
}

func (p *pending) macOf(st store.Store) []byte {
	times := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, uint64(p.made)), uint64(p.ends))
	used := []byte{0}
	if p.used {
		used[0] = 1
	}
	return st.MAC(macPending, p.token, []byte(p.way), []byte(p.address), []byte(p.spelling), []byte(p.fingerprint), p.certificate, times, used)
}

func (p *pending) insert(tx store.Tx, st store.Store) error {
	_, err := tx.Exec(`INSERT INTO keydirserver_pending (token, way, address, spelling, fingerprint, certificate, made, ends, used, mac, client, seed, due)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		p.token, p.way, p.address, p.spelling, p.fingerprint, p.certificate, p.made, p.ends, p.used, p.macOf(st), string(p.client), p.seed, p.due)
	return err
}

// use marks a row as used. It stays until it ends, for the limits.
func (p *pending) use(tx store.Tx, st store.Store) error {
	p.used = true
	n, err := tx.Exec("UPDATE keydirserver_pending SET used = 1, mac = ? WHERE token = ? AND used = 0", p.macOf(st), p.token)
	if err == nil && n != 1 {
		err = ErrToken
	}
	return err
}

// open reads what a token stands for; ErrToken if it is good for nothing (any
// more). lock is "" or " FOR UPDATE".
func (d *Directory) open(tx store.Tx, token string, way Way, lock string) (Pending, pending, error) {
	if !isToken(token) {
		return Pending{}, pending{}, ErrToken
	}
	p := pending{token: d.tokenHash(token)}
	err := tx.Row("SELECT way, address, spelling, fingerprint, certificate, made, ends, used, mac FROM keydirserver_pending WHERE token = ?"+lock,
		[]any{p.token}, &p.way, &p.address, &p.spelling, &p.fingerprint, &p.certificate, &p.made, &p.ends, &p.used, &p.mac)
	switch {
	case errors.Is(err, store.ErrNoRow):
		return Pending{}, p, ErrToken
	case err != nil:
		return Pending{}, p, err
	case !hmac.Equal(p.mac, p.macOf(d.store)):
		return Pending{}, p, fmt.Errorf("pending submission: %w", store.ErrTampered)
	case p.used || p.way != string(way) || d.now().UnixMicro() >= p.ends:
		return Pending{}, p, ErrToken
	}
	out := Pending{Way: way, Made: time.UnixMicro(p.made).UTC(), Ends: time.UnixMicro(p.ends).UTC()}
	if p.spelling != "" {
		if out.Address, err = address.Parse(p.spelling); err != nil {
			return Pending{}, p, fmt.Errorf("pending submission: %w", err)
		}
	}
	if len(p.certificate) > 0 {
		if out.Certificate, err = parseOne(p.certificate); err != nil {
			return Pending{}, p, fmt.Errorf("pending submission: %w", err)
		}
	}
	return out, p, nil
}

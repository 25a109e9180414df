package keydir

import (
	"context"
	"crypto/hmac"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/pgp"
)

// expiryNotice is how long before its end a certificate is told of.
const expiryNotice = 30 * 24 * time.Hour

// Stage is what there is to tell of a certificate.
type Stage string

const (
	StageExpiring Stage = "expiring" // within 30 days
	StageExpired  Stage = "expired"
	StageRevoked  Stage = "revoked"
	StageGone     Stage = "gone"    // its directory no longer has it
	StageHeld     Stage = "held"    // and that for so long that it isn't used any more
	StageChanged  Stage = "changed" // another took its place
	StageConflict Stage = "conflict"
)

// Notice is something to tell a person of a certificate. Each is told once: see ID.
type Notice struct {
	Address     address.Address
	Fingerprint pgp.Fingerprint // "" where it is of the address as a whole
	Stage       Stage
	At          time.Time // when it happens, or did
	Own         bool      // a key of ours
	Text        string    // a sentence for a person, with what to do
}

// ID names a notice, for Told. What happens again to the same certificate is told
// again: of the end of its life once for each year in which it ends, however often
// it is put off in between.
func (n Notice) ID() string {
	id := fmt.Sprintf("told %s %s %s", n.Address.Key(), n.Fingerprint, n.Stage)
	switch n.Stage {
	case StageExpiring, StageExpired:
		return id + n.At.UTC().Format(" 2006")
	case StageGone, StageHeld, StageChanged:
		return id + n.At.UTC().Format(" 2006-01-02T15:04")
	}
	return id
}

// stageOf is the stage at which a certificate is by itself, "" where all is well.
func stageOf(c *pgp.Certificate, now time.Time) (Stage, time.Time) {
	end := c.Expires()
	switch {
	case c.Revoked(now):
		return StageRevoked, time.Time{}
	case end.IsZero():
	case !now.Before(end):
		return StageExpired, end
	case now.Add(expiryNotice).After(end):
		return StageExpiring, end
	}
	return "", end
}

// Notices are what there is to tell, told before or not: of contacts that were
// written to within two months, and of our own active certificates, which the
// caller gives by address. Contacts whose row can't be read are in err, beside
// the others.
func (r *Resolver) Notices(ctx context.Context, own map[address.Address]*pgp.Certificate) (out []Notice, err error) {
	now := r.now()
	for a, c := range own {
		if s, at := stageOf(c, now); s != "" {
			n := Notice{Address: a, Fingerprint: c.Fingerprint(), Stage: s, At: at, Own: true}
			n.Text = ownText(n)
			out = append(out, n)
		}
	}
	peers, err := r.List(ctx)
	for _, p := range peers {
		if now.Sub(p.Used) >= activeFor || len(p.Pins) == 0 {
			continue
		}
		whole, _, errLoad := r.load(ctx, p.Address)
		if errLoad != nil {
			err = errors.Join(err, errLoad)
			continue
		}
		out = append(out, whole.notices(now)...)
	}
	return out, err
}

func ownText(n Notice) string {
	switch n.Stage {
	case StageExpiring:
		return fmt.Sprintf("Your key of %s expires on %s and has not been extended. Others can't write to you encrypted after that. See: letterlock key show %s", n.Address, n.At.Format(time.DateOnly), n.Address)
	case StageExpired:
		return fmt.Sprintf("Your key of %s expired on %s. Make another that takes its place: letterlock key generate %s --replace", n.Address, n.At.Format(time.DateOnly), n.Address)
	}
	return fmt.Sprintf("Your key of %s is revoked, and nothing is signed with it. Make another: letterlock key generate %s --replace", n.Address, n.Address)
}

// notices are what there is to tell of a contact.
func (p *peer) notices(now time.Time) (out []Notice) {
	add := func(f pgp.Fingerprint, s Stage, at time.Time, format string, args ...any) {
		out = append(out, Notice{Address: p.Address, Fingerprint: f, Stage: s, At: at, Text: fmt.Sprintf(format, args...)})
	}
	const ask = "Ask them for a new one, or look: letterlock explain --to %s"
	for _, b := range p.Pins {
		switch s, at := stageOf(p.certs[b.Fingerprint], now); s {
		case StageExpiring:
			add(b.Fingerprint, s, at, "The certificate of %s expires on %s, and no renewed one was found. "+ask, p.Address, at.Format(time.DateOnly), p.Address)
		case StageExpired:
			add(b.Fingerprint, s, at, "The certificate of %s expired on %s; it is not used any more. "+ask, p.Address, at.Format(time.DateOnly), p.Address)
		case StageRevoked:
			add(b.Fingerprint, s, at, "The certificate of %s is revoked; it is not used any more. "+ask, p.Address, p.Address)
		}
	}
	if p.fromDirectory() && !p.Gone.IsZero() {
		first, end := p.Pins[0].Fingerprint, p.Gone.Add(goneFor)
		if now.After(end) {
			add(first, StageHeld, end, "The directory of %s has not had their certificate since %s; it is not used any more. To go on with it: letterlock cert accept %s", p.Address, p.Gone.Format(time.DateOnly), p.Address)
		} else {
			add(first, StageGone, p.Gone, "The directory of %s no longer has their certificate; it is used until %s. To go on with it after that: letterlock cert accept %s", p.Address, end.Format(time.DateOnly), p.Address)
		}
	}
	for _, c := range p.Changes {
		if now.Sub(c.At) < goneFor && len(c.To) > 0 {
			add(c.To[0], StageChanged, c.At, "The certificate of %s changed on %s: %s. If they did not do that, compare: letterlock cert verify %s", p.Address, c.At.Format(time.DateOnly), c.Why, p.Address)
		}
	}
	if p.Problem == ProblemConflict {
		var f pgp.Fingerprint
		if n := len(p.Candidates); n > 0 {
			f = p.Candidates[n-1].Fingerprint
		}
		add(f, StageConflict, p.Checked, "Sources contradict each other about %s: %s. Nothing is encrypted to them until you compare keys with them: letterlock cert show %s", p.Address, p.Detail, p.Address)
	}
	return out
}

// Told tells whether a notice was told before.
func (r *Resolver) Told(ctx context.Context, n Notice) (told bool, err error) {
	err = r.store.View(ctx, func(tx store.Tx) error {
		var at time.Time
		told, err = r.note(tx, n.ID(), &at)
		return err
	})
	return told, err
}

// Tell notes that notices were told.
func (r *Resolver) Tell(ctx context.Context, all ...Notice) error {
	return r.store.Update(ctx, func(tx store.Tx) error {
		for _, n := range all {
			if err := r.writeNote(tx, n.ID(), r.now()); err != nil {
				return err
			}
		}
		return nil
	})
}

// note reads what is kept under a name; ok is false where there is nothing.
func (r *Resolver) note(tx store.Tx, id string, into any) (ok bool, err error) {
	var state, mac []byte
	err = tx.Row(`SELECT state, mac FROM keydir_note WHERE id = ?`, []any{id}, &state, &mac)
	if errors.Is(err, store.ErrNoRow) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, r.readNote(id, state, mac, into)
}

func (r *Resolver) readNote(id string, state, mac []byte, into any) error {
	if !hmac.Equal(mac, r.store.MAC("keydir_note", []byte(id), state)) {
		return fmt.Errorf("keydir_note: %w", store.ErrTampered)
	}
	if err := json.Unmarshal(state, into); err != nil {
		return fmt.Errorf("keydir_note: %w", err)
	}
	return nil
}

func (r *Resolver) writeNote(tx store.Tx, id string, v any) error {
	state, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = tx.Exec(`INSERT INTO keydir_note (id, state, mac) VALUES (?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET state = excluded.state, mac = excluded.mac`,
		id, state, r.store.MAC("keydir_note", []byte(id), state))
	return err
}

package keydir

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/pgp"
)

// An alarm tells that somebody may be served a false key for one of our own
// addresses. What raises it is weak evidence, alone: a list that encrypts anew, a
// forwarded message, a test upload to a key server raise it too. So it changes
// nothing about what is encrypted or signed; a person is told, once for each key.

// Kind is what raised an alarm.
type Kind string

const (
	KindServed   Kind = "served"   // a source gave a key for our address that isn't ours
	KindGossip   Kind = "gossip"   // a correspondent's program has another key for our address
	KindNotForUs Kind = "intended" // a message to us was signed for other keys than ours
)

// Alarm is one suspicion. Times are of our clock.
type Alarm struct {
	Address     address.Address `json:"address"` // ours
	Kind        Kind            `json:"kind"`
	Fingerprint pgp.Fingerprint `json:"fingerprint"` // the false key; of KindNotForUs who signed
	Source      string          `json:"source"`      // a source of Discovery, or the address of who wrote
	First       time.Time       `json:"first"`
	Last        time.Time       `json:"last"`
	// Over is since when its source answers well again; zero while it doesn't, and
	// for what can't be asked again.
	Over time.Time `json:"over,omitzero"`
	Told bool      `json:"told"`
}

// alarmFor is how long an alarm is shown after its last cause.
const alarmFor = 30 * 24 * time.Hour

// maxAlarms bounds what is kept, and told, of one kind: whoever writes to us can
// make some kinds, and keeps nothing of another back by that.
const maxAlarms = 64

// Text is the alarm for a person, with what to do.
func (a Alarm) Text() string {
	switch a.Kind {
	case KindServed:
		return fmt.Sprintf("%s gives a key for %s that is not yours: %s. Mail to you may be encrypted to somebody else. If you know of no such key, ask who runs that directory, and tell the people who write to you your fingerprint by another way: letterlock key show %s",
			a.Source, a.Address, a.Fingerprint, a.Address)
	case KindGossip:
		return fmt.Sprintf("The mail program of %s has a key for %s that is not yours: %s. Compare keys with them: letterlock cert verify %s", a.Source, a.Address, a.Fingerprint, a.Source)
	}
	return fmt.Sprintf("A message of %s that came to %s was signed for other keys than yours. Either somebody passed it on, or they encrypt to a false key of you. Compare keys with them: letterlock cert verify %s", a.Source, a.Address, a.Source)
}

func (a Alarm) id() string {
	return fmt.Sprintf("alarm %s %s %s %s", a.Address.Key(), a.Kind, a.Fingerprint, a.Source)
}

// isOwn tells whether a certificate of our own names the address.
func (r *Resolver) isOwn(a address.Address) bool {
	return slices.ContainsFunc(r.own(), func(c *pgp.Certificate) bool { return c.Has(a) })
}

// oursToo tells whether the key is one of our own.
func (r *Resolver) oursToo(f pgp.Fingerprint) bool {
	return slices.ContainsFunc(r.own(), func(c *pgp.Certificate) bool { return c.Fingerprint() == f })
}

// raise notes an alarm.
func (r *Resolver) raise(ctx context.Context, a Alarm) error {
	now := r.now()
	fresh := false
	err := r.store.Update(ctx, func(tx store.Tx) error {
		fresh = false
		var old Alarm
		known, err := r.note(tx, a.id(), &old)
		if err != nil {
			return err
		}
		if known {
			a.First, a.Told = old.First, old.Told
			if a.Kind != KindServed && now.Sub(old.Last) < 24*time.Hour {
				return nil
			}
		} else {
			all, err := r.recent(tx, now)
			all = slices.DeleteFunc(all, func(o Alarm) bool { return o.Kind != a.Kind })
			if err != nil || len(all) >= maxAlarms {
				return err
			}
			a.First, fresh = now, true
		}
		a.Last, a.Over = now, time.Time{}
		return r.writeNote(tx, a.id(), a)
	})
	if err != nil {
		return fmt.Errorf("noting an alarm: %w", err)
	}
	if fresh {
		r.log.Error("somebody may be served a false key for an own address; `letterlock status` tells more", "kind", string(a.Kind))
	}
	return nil
}

// recent are those to show; what is older goes.
func (r *Resolver) recent(tx store.Tx, now time.Time) (out []Alarm, err error) {
	all, err := r.alarms(tx)
	for _, a := range all {
		if now.Sub(a.Last) <= alarmFor {
			out = append(out, a)
		} else if _, err := tx.Exec(`DELETE FROM keydir_note WHERE id = ?`, a.id()); err != nil {
			return nil, err
		}
	}
	return out, err
}

// alarms reads all that are kept.
func (r *Resolver) alarms(tx store.Tx) (out []Alarm, err error) {
	type row struct {
		id         string
		state, mac []byte
	}
	var rows []row
	err = tx.Rows(`SELECT id, state, mac FROM keydir_note WHERE id >= 'alarm ' AND id < 'alarm!' ORDER BY id`, nil, func(scan func(...any) error) error {
		var w row
		if err := scan(&w.id, &w.state, &w.mac); err != nil {
			return err
		}
		rows = append(rows, w)
		return nil
	})
	for _, w := range rows {
		var a Alarm
		if err := r.readNote(w.id, w.state, w.mac, &a); err != nil {
			return nil, err
		}
		out = append(out, a)
	}
	return out, err
}

// Alarms are those to show: with a cause within 30 days, the newest last.
func (r *Resolver) Alarms(ctx context.Context) (out []Alarm, err error) {
	err = r.store.View(ctx, func(tx store.Tx) (err error) {
		out, err = r.alarms(tx)
		return err
	})
	now := r.now()
	out = slices.DeleteFunc(out, func(a Alarm) bool { return now.Sub(a.Last) > alarmFor })
	slices.SortStableFunc(out, func(a, b Alarm) int { return a.Last.Compare(b.Last) })
	return out, err
}

// TellAlarms notes that alarms were told.
func (r *Resolver) TellAlarms(ctx context.Context, all ...Alarm) error {
	return r.store.Update(ctx, func(tx store.Tx) error {
		for _, a := range all {
			var now Alarm
			known, err := r.note(tx, a.id(), &now)
			if err != nil {
				return err
			}
			if !known { // dismissed meanwhile
				continue
			}
			now.Told = true
			if err := r.writeNote(tx, a.id(), now); err != nil {
				return err
			}
		}
		return nil
	})
}

// Dismiss forgets the alarms of an address: a person knows why. What raises one
// again is told again. It tells how many there were.
func (r *Resolver) Dismiss(ctx context.Context, a address.Address) (n int, err error) {
	err = r.store.Update(ctx, func(tx store.Tx) error {
		n = 0
		all, err := r.alarms(tx)
		for _, one := range all {
			if err != nil || !one.Address.Equal(a) {
				continue
			}
			n++
			_, err = tx.Exec(`DELETE FROM keydir_note WHERE id = ?`, one.id())
		}
		return err
	})
	return n, err
}

// Own is what the world was served for an own address when it was last asked.
type Own struct {
	Address address.Address `json:"address"`
	Checked time.Time       `json:"checked"`
	Sources []OwnSource     `json:"sources"`
}

// OwnSource is what one source said.
type OwnSource struct {
	Source  string            `json:"source"`
	Outcome Outcome           `json:"outcome"`
	Detail  string            `json:"detail"`
	Ours    []pgp.Fingerprint `json:"ours"`
	False   []pgp.Fingerprint `json:"false"` // not ours
}

func ownRow(a address.Address) string { return "own " + a.Key() }

// CheckOwn asks every source for an address of our own, as a stranger would, past
// all that is stored; over discovery.proxy, where there is one, it comes from
// elsewhere. A certificate that isn't ours and could be used raises an alarm. It
// can't see what is served to others only.
func (r *Resolver) CheckOwn(ctx context.Context, a address.Address) (Own, error) {
	o := Own{Address: a, Checked: r.now()}
	d := r.asked()
	if !d.asks(a) {
		return o, nil
	}
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	release, err := r.flights.slot(ctx)
	if err != nil {
		return o, fmt.Errorf("too many directories are being asked: %w", err)
	}
	all, _ := r.gather(ctx, d, question{address: a, search: true})
	release()
	ctx = context.WithoutCancel(ctx)
	for _, s := range all {
		one := OwnSource{Source: s.source, Outcome: s.outcome, Detail: s.detail}
		for _, c := range s.certs {
			switch {
			case r.oursToo(c.Fingerprint()):
				one.Ours = append(one.Ours, c.Fingerprint())
			case c.CheckEncrypt(o.Checked) == nil:
				one.False = append(one.False, c.Fingerprint())
				if err := r.raise(ctx, Alarm{Address: a, Kind: KindServed, Fingerprint: c.Fingerprint(), Source: s.source}); err != nil {
					return o, err
				}
			}
		}
		o.Sources = append(o.Sources, one)
	}
	slices.SortFunc(o.Sources, func(a, b OwnSource) int { return strings.Compare(a.Source, b.Source) })
	return o, r.keepOwn(ctx, o)
}

// keepOwn notes what was served, and ends alarms about what isn't any more.
func (r *Resolver) keepOwn(ctx context.Context, o Own) error {
	err := r.store.Update(ctx, func(tx store.Tx) error {
		if err := r.writeNote(tx, ownRow(o.Address), o); err != nil {
			return err
		}
		all, err := r.alarms(tx)
		for _, a := range all {
			if err != nil {
				return err
			}
			answered := slices.ContainsFunc(o.Sources, func(s OwnSource) bool {
				return s.Source == a.Source && s.Outcome != Unavailable && !slices.Contains(s.False, a.Fingerprint)
			})
			if a.Kind == KindServed && a.Address.Equal(o.Address) && a.Over.IsZero() && answered {
				a.Over = o.Checked
				err = r.writeNote(tx, a.id(), a)
			}
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("keeping what is served for an own address: %w", err)
	}
	return nil
}

// OwnServed is what CheckOwn found last; ok is false where it never ran.
func (r *Resolver) OwnServed(ctx context.Context, a address.Address) (o Own, ok bool, err error) {
	err = r.store.View(ctx, func(tx store.Tx) (err error) {
		ok, err = r.note(tx, ownRow(a), &o)
		return err
	})
	return o, ok, err
}

// suspect raises the alarm that a message gives cause for. o.Account is ours; a
// signature of our own is no cause, as in what we sent or passed on.
func (r *Resolver) suspect(ctx context.Context, o Observation) error {
	if !o.NotForUs || o.Signer == "" || o.Account.IsZero() || r.oursToo(o.Signer) {
		return nil
	}
	return r.raise(ctx, Alarm{Address: o.Account, Kind: KindNotForUs, Fingerprint: o.Signer, Source: o.From.String()})
}

// suspectGossip raises the alarm that gossip about an own address gives cause
// for, where it names a key that isn't ours and could be used.
func (r *Resolver) suspectGossip(ctx context.Context, a address.Address, c *pgp.Certificate, o Observation) error {
	if !r.isOwn(a) || !c.Has(a) || r.oursToo(c.Fingerprint()) || c.CheckEncrypt(r.now()) != nil {
		return nil
	}
	return r.raise(ctx, Alarm{Address: a, Kind: KindGossip, Fingerprint: c.Fingerprint(), Source: o.From.String()})
}

package main

import (
	"context"
	"fmt"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/pgp"
)

// historyJSON is what was seen of a certificate.
type historyJSON struct {
	First      *time.Time      `json:"first_seen"`
	Confirmed  *time.Time      `json:"confirmed"`     // when its source last said so
	SignedFrom *time.Time      `json:"signed_first"`  // date of the oldest message with a valid signature
	Signed     *time.Time      `json:"signed_newest"` // and of the newest
	Succeeds   pgp.Fingerprint `json:"succeeds,omitempty"`
	CA         pgp.Fingerprint `json:"certified_by,omitempty"` // its organisation's authority
	Declined   bool            `json:"declined,omitempty"`
}

func historyOf(b keydir.Binding) historyJSON {
	return historyJSON{moment(b.First), moment(b.Confirmed), moment(b.SignedFrom), moment(b.Signed), b.After, b.CA, b.Declined}
}

// moment is a time for scripts; null where there is none.
func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

func (h historyJSON) print(e *env) {
	e.printf("  first seen   %s", day(*orZero(h.First), "-"))
	if h.Confirmed != nil {
		e.printf(", last confirmed %s", day(*h.Confirmed, "-"))
	}
	e.printf("\n")
	if h.Signed != nil {
		e.printf("  signed mail  from %s to %s\n", day(*orZero(h.SignedFrom), "-"), day(*h.Signed, "-"))
	}
	if h.CA != "" {
		e.printf("  certified    by the authority of its domain, %s\n", grouped(h.CA))
	}
	if h.Succeeds != "" {
		e.printf("  succeeds     %s, which said so\n", grouped(h.Succeeds))
	}
}

func orZero(t *time.Time) *time.Time {
	if t == nil {
		return new(time.Time)
	}
	return t
}

// changeJSON is a certificate that took another's place.
type changeJSON struct {
	At   time.Time         `json:"at"`
	From []pgp.Fingerprint `json:"from"`
	To   []pgp.Fingerprint `json:"to"`
	Why  string            `json:"why"`
}

func changesOf(p keydir.Peer) []changeJSON {
	out := []changeJSON{}
	for _, c := range p.Changes {
		out = append(out, changeJSON{c.At.UTC(), c.From, c.To, c.Why})
	}
	return out
}

// noticeJSON is something to tell of a certificate.
type noticeJSON struct {
	Address     string          `json:"address"`
	Fingerprint pgp.Fingerprint `json:"fingerprint"`
	Stage       keydir.Stage    `json:"stage"`
	At          *time.Time      `json:"at"`
	Own         bool            `json:"own"`
	Text        string          `json:"text"`
}

// alarmJSON is a suspicion that somebody is served a false key for an own address.
type alarmJSON struct {
	Address     string          `json:"address"`
	Kind        keydir.Kind     `json:"kind"`
	Fingerprint pgp.Fingerprint `json:"fingerprint"`
	Source      string          `json:"source"`
	First       time.Time       `json:"first"`
	Last        time.Time       `json:"last"`
	Over        *time.Time      `json:"over"` // null: it lasts, or can't be asked again
	Text        string          `json:"text"`
}

func alarmOf(a keydir.Alarm) alarmJSON {
	return alarmJSON{a.Address.String(), a.Kind, a.Fingerprint, a.Source, a.First.UTC(), a.Last.UTC(), moment(a.Over), a.Text()}
}

// certificatesStatus adds what there is to tell of certificates to the status.
func (s *state) certificatesStatus(ctx context.Context, j *statusJSON) error {
	j.Notices, j.Alarms = []noticeJSON{}, []alarmJSON{}
	own, err := s.ownActive(ctx)
	if err != nil {
		return err
	}
	alarms, err := s.resolver.Alarms(ctx)
	if err != nil {
		return err
	}
	for _, a := range alarms {
		j.Alarms = append(j.Alarms, alarmOf(a))
		if a.Over.IsZero() {
			j.problem("ALARM: %s (if you know why: letterlock alarm dismiss %s)", a.Text(), a.Address)
		}
	}
	notices, err := s.resolver.Notices(ctx, own)
	if err != nil {
		j.problem("stored certificates: %v", err)
	}
	for _, n := range notices {
		j.Notices = append(j.Notices, noticeJSON{n.Address.String(), n.Fingerprint, n.Stage, moment(n.At), n.Own, n.Text})
		// Own keys near their end and conflicts have lines of their own.
		if n.Stage != keydir.StageChanged && n.Stage != keydir.StageConflict && (!n.Own || n.Stage != keydir.StageExpiring) {
			j.problem("%s", n.Text)
		}
	}
	return nil
}

type alarmCmd struct {
	List    alarmList    `cmd:"" help:"Signs that somebody may be served a false key for an own address."`
	Check   alarmCheck   `cmd:"" help:"Ask now what the world is served for an own address."`
	Dismiss alarmDismiss `cmd:"" help:"Forget the alarms of an own address, knowing why they came."`
}

type alarmList struct {
	JSON bool `name:"json" help:"For scripts."`
}

func (c *alarmList) runState(ctx context.Context, e *env, s *state) error {
	all, err := s.resolver.Alarms(ctx)
	if err != nil {
		return err
	}
	out := []alarmJSON{}
	for _, a := range all {
		out = append(out, alarmOf(a))
	}
	if c.JSON {
		return e.json(out)
	}
	for _, a := range out {
		over := ""
		if a.Over != nil {
			over = fmt.Sprintf(" (over since %s)", day(*a.Over, "-"))
		}
		e.printf("%s  %s, since %s%s\n  %s\n", a.Address, a.Kind, day(a.First, "-"), over, a.Text)
	}
	if len(out) == 0 {
		e.printf("No alarms.\n")
	}
	return nil
}

type alarmCheck struct {
	Address addressArg `arg:""`
	JSON    bool       `name:"json" help:"For scripts."`
}

func (c *alarmCheck) runState(ctx context.Context, e *env, s *state) error {
	if _, err := s.keys.Certificate(ctx, c.Address.Address); err != nil {
		return fmt.Errorf("%s: %w", c.Address, err)
	}
	own, err := s.resolver.CheckOwn(ctx, c.Address.Address)
	if err != nil {
		return err
	}
	if c.JSON {
		return e.json(servedOf(own))
	}
	printServed(e, own)
	for _, o := range own.Sources {
		if len(o.False) > 0 {
			return exitError(exitFailed)
		}
	}
	return nil
}

type alarmDismiss struct {
	Address addressArg `arg:""`
}

func (c *alarmDismiss) runState(ctx context.Context, e *env, s *state) error {
	n, err := s.resolver.Dismiss(ctx, c.Address.Address)
	if err != nil {
		return err
	}
	e.printf("Forgot %d alarms of %s.\n", n, c.Address)
	return nil
}

// servedJSON is what the world is served for an own address.
type servedJSON struct {
	Address string             `json:"address"`
	Checked *time.Time         `json:"checked"`
	Sources []servedSourceJSON `json:"sources"`
}

type servedSourceJSON struct {
	Source  string            `json:"source"`
	Outcome keydir.Outcome    `json:"outcome"`
	Detail  string            `json:"detail,omitempty"`
	Ours    []pgp.Fingerprint `json:"ours"`
	False   []pgp.Fingerprint `json:"false"`
}

func servedOf(o keydir.Own) servedJSON {
	j := servedJSON{Address: o.Address.String(), Checked: moment(o.Checked), Sources: []servedSourceJSON{}}
	for _, s := range o.Sources {
		j.Sources = append(j.Sources, servedSourceJSON{s.Source, s.Outcome, s.Detail, append([]pgp.Fingerprint{}, s.Ours...), append([]pgp.Fingerprint{}, s.False...)})
	}
	return j
}

func printServed(e *env, o keydir.Own) {
	e.printf("What the world is served for %s, as of %s UTC:\n", o.Address, o.Checked.UTC().Format(time.DateTime))
	for _, s := range o.Sources {
		switch {
		case len(s.False) > 0:
			for _, f := range s.False {
				e.printf("  %s: NOT YOURS %s\n", s.Source, grouped(f))
			}
		case len(s.Ours) > 0:
			e.printf("  %s: yours\n", s.Source)
		default:
			e.printf("  %s: %s %s\n", s.Source, s.Outcome, s.Detail)
		}
	}
	if len(o.Sources) == 0 {
		e.printf("  nobody is asked (discovery.sources)\n")
	}
}

// showOwn is cert show of an own address; ok is false where it has no key here.
func (s *state) showOwn(ctx context.Context, e *env, a address.Address, asJSON bool) (ok bool, err error) {
	if c, err := s.keys.Certificate(ctx, a); err != nil || !c.Has(a) {
		return false, nil
	}
	own, known, err := s.resolver.OwnServed(ctx, a)
	switch {
	case err != nil:
		return true, err
	case !known:
		own = keydir.Own{Address: a}
	}
	if asJSON {
		return true, e.json(servedOf(own))
	}
	if err := (&keyShow{Address: addressArg{a}}).runState(ctx, e, s); err != nil {
		return true, err
	}
	if !known {
		e.printf("Not looked up yet as the world sees it (do: letterlock alarm check %s)\n", a)
		return true, nil
	}
	printServed(e, own)
	return true, nil
}

// servedAttempts are what the world was served for an own address, for explain.
func (s *state) servedAttempts(ctx context.Context, a address.Address) (out []keydir.Attempt) {
	own, _, err := s.resolver.OwnServed(ctx, a)
	if err != nil {
		return nil
	}
	for _, o := range own.Sources {
		detail := o.Detail
		switch {
		case len(o.False) > 0:
			detail = fmt.Sprintf("to others it gives a key that is NOT YOURS: %s", o.False[0])
		case len(o.Ours) > 0:
			detail = "to others it gives yours"
		}
		out = append(out, keydir.Attempt{Source: o.Source, Outcome: o.Outcome, Detail: detail})
	}
	return out
}

// expiring tells whether a certificate in use ends within 30 days, or has ended.
func (p peerJSON) expiring(now time.Time) bool {
	for _, b := range p.Used {
		if b.Expires != nil && b.Expires.Before(now.Add(30*24*time.Hour)) {
			return true
		}
	}
	return false
}

// formerOf are the certificates that those in use have succeeded, by their own
// word.
func formerOf(p keydir.Peer) []bindingJSON {
	out := []bindingJSON{}
	for _, b := range p.Former {
		out = append(out, bindingJSON{b.Identity, b.Source, certificateJSON{Fingerprint: b.Fingerprint}, historyOf(b)})
	}
	return out
}

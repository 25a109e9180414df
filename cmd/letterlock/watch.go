package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/config"
	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/pgp"
	"letterlock.org/letterlock/pgp/keyring"
)

// ownCheckEvery is how long after the last look-up of an own address the next one
// is due, at least.
const ownCheckEvery = 18 * time.Hour

// watch looks about once a day what the world is served for our own addresses,
// and tells of it and of what happens to certificates, until ctx ends. The first
// time is a while after the start, so that starting shows nobody anything.
func (s *state) watch(ctx context.Context) {
	pause := time.Minute + rand.N(10*time.Minute)
	for {
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		s.watchOnce(ctx)
		pause = ownCheckEvery + rand.N(12*time.Hour)
	}
}

// watchOnce is one such day. Keywords follow what look-ups found too: it costs
// a walk over all that is indexed, and so isn't done for each.
func (s *state) watchOnce(ctx context.Context) {
	own, err := s.ownActive(ctx)
	for a := range own {
		last, known, errLast := s.resolver.OwnServed(ctx, a)
		err = errors.Join(err, errLast)
		if known && s.now().Sub(last.Checked).Abs() < ownCheckEvery {
			continue
		}
		_, errCheck := s.resolver.CheckOwn(ctx, a)
		err = errors.Join(err, errCheck)
	}
	err = errors.Join(err, s.tellAll(ctx, own))
	if s.standing.Swap(false) {
		err = errors.Join(err, s.bridges.recheck(ctx))
	}
	if err != nil && ctx.Err() == nil {
		s.log.Warn("certificates could not all be watched", "error", err)
	}
}

// ownActive are the certificates that the addresses of our accounts have in use.
func (s *state) ownActive(ctx context.Context) (map[address.Address]*pgp.Certificate, error) {
	own := map[address.Address]*pgp.Certificate{}
	var errs []error
	cfg := s.cfg.Load()
	for i := range cfg.Bridges {
		for _, a := range addresses(&cfg.Bridges[i]) {
			c, err := s.keys.Certificate(ctx, a)
			switch {
			case err == nil && c.Has(a):
				own[a] = c
			case err != nil && !errors.Is(err, keyring.ErrNoKey):
				errs = append(errs, err)
			}
		}
	}
	return own, errors.Join(errs...)
}

// tellAll logs what was not told yet, once, and mails it to whom it concerns: of
// an own address to its account, of contacts to the first account, since all of
// a bridge are one person's. What can't be mailed is logged alone; `letterlock
// status` shows it in any case.
func (s *state) tellAll(ctx context.Context, own map[address.Address]*pgp.Certificate) error {
	alarms, errAlarms := s.resolver.Alarms(ctx)
	notices, errNotices := s.resolver.Notices(ctx, own)
	err := errors.Join(errAlarms, errNotices)
	mails := map[*config.Bridge][]string{}
	cfg := s.cfg.Load()
	var toldAlarms []keydir.Alarm
	for _, a := range alarms {
		if a.Told {
			continue
		}
		s.log.Error("alarm", "kind", string(a.Kind), "fingerprint", string(a.Fingerprint))
		if b := s.ownerOf(a.Address); b != nil {
			mails[b] = append(mails[b], a.Text())
		}
		toldAlarms = append(toldAlarms, a)
	}
	var told []keydir.Notice
	for _, n := range notices {
		before, errTold := s.resolver.Told(ctx, n)
		if err = errors.Join(err, errTold); before || errTold != nil {
			continue
		}
		s.log.Warn("a certificate needs attention; `letterlock status` tells more", "stage", string(n.Stage), "own", n.Own, "fingerprint", string(n.Fingerprint))
		b := s.ownerOf(n.Address)
		if b == nil && len(cfg.Bridges) > 0 {
			b = &cfg.Bridges[0]
		}
		if b != nil {
			mails[b] = append(mails[b], n.Text)
		}
		told = append(told, n)
	}
	for b, lines := range mails {
		if errMail := s.mailNotice(ctx, b, lines); errMail != nil {
			s.log.Warn("a notice is not mailed", "error", errMail)
		}
	}
	return errors.Join(err, s.resolver.TellAlarms(ctx, toldAlarms...), s.resolver.Tell(ctx, told...))
}

// ownerOf is the bridge that has an address; nil if none has.
func (s *state) ownerOf(a address.Address) *config.Bridge {
	cfg := s.cfg.Load()
	for i := range cfg.Bridges {
		for _, own := range addresses(&cfg.Bridges[i]) {
			if own.Equal(a) {
				return &cfg.Bridges[i]
			}
		}
	}
	return nil
}

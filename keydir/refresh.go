package keydir

import (
	"context"
	"time"

	"letterlock.org/letterlock/pgp"
)

const (
	refreshEvery = 7 * 24 * time.Hour  // for each contact, give or take a quarter
	activeFor    = 60 * 24 * time.Hour // contacts written to within it are refreshed
	refreshPause = time.Minute         // between two look-ups, so that they don't show as a list
)

// Refresh asks for news of active contacts, each about once a week, until ctx
// ends. One goroutine runs it.
func (r *Resolver) Refresh(ctx context.Context) error {
	for {
		due, err := r.Due(ctx)
		if err != nil && ctx.Err() == nil {
			r.log.Warn("contacts can't be listed for refreshing", "error", err)
		}
		pause := 30 * time.Minute
		if len(due) > 0 {
			r.RefreshOne(ctx, due[0])
			pause = refreshPause
		}
		timer := time.NewTimer(jitter("refresh", r.now(), pause))
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
	}
}

// Due are the contacts whose refresh is due now.
func (r *Resolver) Due(ctx context.Context) (due []Peer, err error) {
	if len(r.asked().sources) == 0 {
		return nil, nil
	}
	peers, err := r.List(ctx)
	now := r.now()
	for _, p := range peers {
		every := jitter(p.Address.Key(), p.Checked, refreshEvery)
		if len(p.Pins) > 0 && now.Sub(p.Used) < activeFor && now.Sub(p.Checked).Abs() >= every {
			due = append(due, p)
		}
	}
	return due, err
}

// RefreshOne asks for news of one contact.
func (r *Resolver) RefreshOne(ctx context.Context, p Peer) Finding {
	if got, ok := r.ask(ctx, p.Address, r.timeout, false); ok && got.err != nil {
		r.log.Warn("news of a contact could not be kept", "error", got.err)
	}
	f, err := r.Stored(ctx, p.Address)
	if err != nil {
		return Finding{Address: p.Address, Outcome: Unavailable, Identity: pgp.Unknown}
	}
	return f
}

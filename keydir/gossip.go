package keydir

import (
	"bytes"
	"context"
	"slices"
	"time"

	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/pgp"
)

// Limits of what is believed of other people's certificates.
const (
	maxGossip        = 32 // fields of one message
	maxIntroductions = 2  // candidates of one address
)

// Introduction is a certificate of somebody that another person sent along to all
// to whom both wrote (Autocrypt Level 1, Section 1.4: gossip). It is below first
// sight: it is never used without a person's word (`letterlock cert accept`), nor
// without a rule that says so, and doesn't make its address one that had a
// certificate.
type Introduction struct {
	Certificate *pgp.Certificate // shared, not to be changed
	By          string           // key of the address that sent it along
	At          time.Time        // when
}

// gossip takes note of what a message said of others' certificates, if it was
// signed by the certificate that is pinned for its sender: an introduction is
// worth no more than who gives it. Only recipients of the message can be
// introduced by it. What is said of our own addresses is for the alarm alone,
// whoever says it.
func (r *Resolver) gossip(ctx context.Context, o Observation, now time.Time) error {
	p, _, err := r.load(ctx, o.From)
	if err != nil {
		return err
	}
	trusted := o.Signer != "" && p.pin(o.Signer) != nil && p.Problem == ""
	said := map[string]autocryptHeader{}
	for _, value := range o.Gossip[:min(len(o.Gossip), maxGossip)] {
		h, err := parseAutocrypt(value)
		switch {
		case err != nil || h.addr.Equal(o.From) || !h.cert.Has(h.addr):
			continue
		case r.isOwn(h.addr):
			if err := r.suspectGossip(ctx, h.addr, h.cert, o); err != nil {
				return err
			}
			continue
		case !trusted || !slices.ContainsFunc(o.Recipients, h.addr.Equal):
			continue
		}
		key := h.addr.Key()
		if before, twice := said[key]; twice && (before.cert == nil || before.cert.Fingerprint() != h.cert.Fingerprint()) {
			h.cert = nil // two are none
		}
		said[key] = h
	}
	for _, h := range said {
		if h.cert == nil {
			continue
		}
		if err := r.introduce(ctx, h, o, now); err != nil {
			return err
		}
	}
	return nil
}

// introduce keeps one certificate as a candidate.
func (r *Resolver) introduce(ctx context.Context, h autocryptHeader, o Observation, now time.Time) error {
	p, _, err := r.load(ctx, h.addr)
	if err != nil || !p.introduces(h.cert, now) {
		return err
	}
	fresh := false
	err = r.change(ctx, h.addr, func(_ store.Tx, p *peer) (bool, error) {
		if fresh = !p.stored(); !p.introduces(h.cert, now) {
			return false, nil
		}
		if p.Address.IsZero() {
			p.Address = h.addr
		}
		p.introduce(h.cert, o.From.Key(), now)
		return true, nil
	})
	if err == nil && fresh {
		r.unused(ctx)
	}
	return err
}

// introduces tells whether gossip of a certificate is news: nothing surer is
// known of the address, or it is a new state of what is.
func (p *peer) introduces(c *pgp.Certificate, now time.Time) bool {
	if old := p.certs[c.Fingerprint()]; old != nil {
		merged, err := pgp.Merge(old, c)
		return err == nil && !bytes.Equal(merged.Bytes(), old.Bytes())
	}
	return !p.known() && p.Problem == "" && c.CheckEncrypt(now) == nil
}

func (p *peer) introduce(c *pgp.Certificate, by string, now time.Time) {
	if p.certs[c.Fingerprint()] != nil {
		p.take(c)
		return
	}
	if all := p.introductions(); len(all) >= maxIntroductions { // the newest stay
		oldest := all[0].Fingerprint
		p.Candidates = slices.DeleteFunc(p.Candidates, func(b Binding) bool { return b.Fingerprint == oldest })
	}
	p.candidate(c, Binding{Identity: pgp.Unknown, Source: sourceGossip, By: by}, now)
}

// introductions are the candidates that nothing surer than gossip gave.
func (p *peer) introductions() (out []Binding) {
	for _, b := range p.Candidates {
		if b.Source == sourceGossip {
			out = append(out, b)
		}
	}
	return out
}

// introduction is the one that a person or a rule might use; nil where anything
// surer is known, or several people say different things.
func (p *peer) introduction(now time.Time) *Introduction {
	all := p.introductions()
	if p.known() || p.Problem != "" || len(all) != 1 {
		return nil
	}
	c := p.certs[all[0].Fingerprint]
	if c.CheckEncrypt(now) != nil {
		return nil
	}
	return &Introduction{Certificate: c, By: all[0].By, At: all[0].Confirmed}
}

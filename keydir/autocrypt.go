package keydir

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/store"
	"letterlock.org/letterlock/pgp"
)

// Autocrypt Level 1 (version 1.1).
const (
	maxAutocrypt = 10 << 10  // bytes of a header
	clockSkew    = time.Hour // how far ahead of us a message's date may be
)

var errAutocrypt = errors.New("not a valid Autocrypt header")

// autocryptHeader is the value of one Autocrypt field.
type autocryptHeader struct {
	addr address.Address
	cert *pgp.Certificate
}

// parseAutocrypt reads the value of an Autocrypt field: "addr=…; keydata=…",
// where an attribute that is not known makes it invalid unless its name begins
// with an underscore. prefer-encrypt says nothing to us: our rules do.
func parseAutocrypt(value string) (autocryptHeader, error) {
	if len(value) > maxAutocrypt {
		return autocryptHeader{}, fmt.Errorf("%w: longer than %d KiB", errAutocrypt, maxAutocrypt>>10)
	}
	attributes := map[string]string{}
	for _, part := range strings.Split(value, ";") {
		name, v, ok := strings.Cut(part, "=")
		name, v = strings.ToLower(strings.TrimSpace(name)), strings.TrimSpace(v)
		switch {
		case !ok && strings.TrimSpace(part) == "":
			continue // a final semicolon
		case !ok:
			return autocryptHeader{}, fmt.Errorf("%w: an attribute without value", errAutocrypt)
		case strings.HasPrefix(name, "_"):
			continue
		case name != "addr" && name != "prefer-encrypt" && name != "keydata":
			return autocryptHeader{}, fmt.Errorf("%w: an unknown critical attribute", errAutocrypt)
		}
		if _, twice := attributes[name]; twice {
			return autocryptHeader{}, fmt.Errorf("%w: an attribute twice", errAutocrypt)
		}
		attributes[name] = v
	}
	a, err := address.Parse(attributes["addr"])
	if err != nil {
		return autocryptHeader{}, fmt.Errorf("%w: addr: %w", errAutocrypt, err)
	}
	data := strings.Map(func(r rune) rune {
		if strings.ContainsRune(" \t\r\n", r) {
			return -1
		}
		return r
	}, attributes["keydata"])
	raw, err := base64.StdEncoding.DecodeString(data)
	if err != nil || len(raw) == 0 {
		return autocryptHeader{}, fmt.Errorf("%w: keydata is not base64", errAutocrypt)
	}
	certs, err := pgp.ParseCertificates(raw)
	if err != nil || len(certs) != 1 {
		return autocryptHeader{}, fmt.Errorf("%w: keydata is not one certificate", errAutocrypt)
	}
	return autocryptHeader{addr: a, cert: certs[0]}, nil
}

// believable is the certificate of a message's Autocrypt header: of exactly one
// valid header, for its very From address, that can be used.
func (o Observation) believable(now time.Time) *pgp.Certificate {
	var only *pgp.Certificate
	if o.Date.IsZero() || o.Date.After(now.Add(clockSkew)) || len(o.Autocrypt) > 16 {
		return nil
	}
	for _, value := range o.Autocrypt {
		h, err := parseAutocrypt(value)
		if err != nil || !h.addr.Equal(o.From) {
			continue
		}
		if only != nil {
			return nil // two valid ones are none
		}
		only = h.cert
	}
	if only == nil || !only.Has(o.From) || only.CheckEncrypt(now) != nil {
		return nil
	}
	return only
}

// Observe takes note of what a received message showed: a valid signature
// becomes history of its certificate, an Autocrypt header a certificate on first
// sight, an update of the one that is pinned, its successor where that one says
// so, or a candidate without effect. A message signed by the pinned key doesn't
// lend its header to a new key, since the header may lie outside of what was
// signed; where our own mail server's name is configured, a key that isn't pinned
// is only taken of a message that the server vouches for. It touches no network; what
// can't be believed is not an error.
func (r *Resolver) Observe(ctx context.Context, o Observation) error {
	if o.From.IsZero() {
		return nil
	}
	if err := r.suspect(ctx, o); err != nil {
		return err
	}
	now := r.now()
	signed := o.Date
	if signed.IsZero() || signed.After(now) {
		signed = now
	}
	var cert *pgp.Certificate
	if r.asked().autocrypt {
		cert = o.believable(now)
	}
	p, state, err := r.load(ctx, o.From)
	if err != nil {
		return err
	}
	if !p.observes(o, cert, signed) {
		r.cache.keep(&cached{key: o.From.Key(), peer: p}, state)
	} else if err := r.keep(ctx, o, cert, signed, now); err != nil {
		return err
	}
	if len(o.Gossip) == 0 || !r.asked().autocrypt {
		return nil
	}
	return r.gossip(ctx, o, now)
}

// keep stores what an observation showed of its sender.
func (r *Resolver) keep(ctx context.Context, o Observation, cert *pgp.Certificate, signed, now time.Time) error {
	fresh := false
	err := r.change(ctx, o.From, func(_ store.Tx, p *peer) (bool, error) {
		fresh = !p.stored()
		keep := p.signed(o.Signer, signed)
		return p.observe(cert, o, now) || keep, nil
	})
	if err == nil && fresh {
		r.unused(ctx)
	}
	return err
}

// observes tells whether an observation could be news, without changing p: most
// messages say what is known, and shouldn't cost a write.
func (p *peer) observes(o Observation, cert *pgp.Certificate, signed time.Time) bool {
	for _, b := range slices.Concat(p.Pins, p.Candidates) {
		if b.Fingerprint == o.Signer && b.signs(signed) {
			return true
		}
	}
	if cert == nil || !o.Date.After(p.Autocrypt) || p.pin(cert.Fingerprint()) == nil && !o.vouched() {
		return false
	}
	if p.pin(cert.Fingerprint()) == nil || o.Date.Sub(p.Autocrypt) > 24*time.Hour {
		return true
	}
	return !bytes.Equal(cert.Bytes(), p.certs[cert.Fingerprint()].Bytes())
}

// observe applies an Autocrypt certificate, and tells whether anything changed.
func (p *peer) observe(c *pgp.Certificate, o Observation, now time.Time) bool {
	if c == nil || !o.Date.After(p.Autocrypt) || p.pin(c.Fingerprint()) == nil && !o.vouched() {
		return false
	}
	p.Autocrypt = o.Date
	if o.Date.After(now) {
		p.Autocrypt = now // the effective date; a clock ahead doesn't shut out later mail
	}
	b := Binding{Identity: pgp.FirstSeen, Source: sourceAutocrypt}
	switch pin := p.pin(c.Fingerprint()); {
	case pin != nil:
		p.take(c)
		if pin.Source == sourceAutocrypt {
			pin.Confirmed = now
		}
	case !p.known() && p.Problem == "":
		p.Address = o.From
		p.bind(c, b, now)
		p.drop([]*pgp.Certificate{c})
	case find(p.Former, c.Fingerprint()) != nil:
		p.take(c)
		p.doubt()
	case p.Problem == "" && p.succeed([]*pgp.Certificate{c}, o.From, "an Autocrypt header", now):
	default:
		p.candidate(c, b, now)
	}
	return true
}

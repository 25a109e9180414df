package main

import (
	"bytes"
	"context"
	"errors"

	"letterlock.org/letterlock/imapd/index"
	"letterlock.org/letterlock/imapd/render"
	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/endpoint"
	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/keydir"
	"letterlock.org/letterlock/pgp"
	"letterlock.org/letterlock/pgp/keyring"
	"letterlock.org/letterlock/policy"
	"letterlock.org/letterlock/smtpd"
)

// inbound decrypts what comes in for mailboxes whose keys are here.
type inbound struct {
	s      *state
	memory *inboundMemory
}

// open is smtpd.Inbound.Open. Mail that can't be opened, or isn't for a mailbox
// with a key, passes as it came, but for header fields that imitate ours.
func (i *inbound) open(ctx context.Context, to address.Address, src message.Source) (message.Source, *message.Spool, error) {
	keys, err := i.s.keys.Decrypter(ctx, to)
	if errors.Is(err, keyring.ErrNoKey) {
		return masked(src), nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	opened, err := pgp.Open(ctx, src, pgp.Opening{
		Keys: keys, Certificates: i.s.resolver, Own: []address.Address{to}, Now: i.s.now(), Spool: i.s.bridges.spool(),
		Replayed: func(ctx context.Context, packet [32]byte, from, id string) (bool, error) {
			if other, err := i.s.bridgesReplayed(ctx, fingerprints(keys), packet, from, id); err != nil || other {
				return other, err
			}
			return i.memory.replayed(ctx, to, fingerprints(keys), packet, from, id)
		},
	})
	if err != nil {
		return nil, nil, err
	}
	log := i.s.log.With("recipient", to.String(), "class", opened.Class)
	if opened.Class != pgp.Encrypted {
		log.Info("inbound", "outcome", "passed", "reason", opened.Reason)
		return masked(src), nil, nil
	}
	ids, err := repliedTo(opened.Rendering)
	if err == nil {
		err = i.memory.remember(ctx, ids...)
	}
	if err != nil {
		opened.Rendering.Close()
		return nil, nil, err
	}
	log.Info("inbound", "outcome", "decrypted", "signature", opened.Verdict.Signature, "identity", opened.Verdict.Identity)
	return opened.Rendering, opened.Rendering, nil
}

func fingerprints(keys pgp.Decrypter) (all []pgp.Fingerprint) {
	for _, c := range keys.Certificates() {
		all = append(all, c.Fingerprint())
	}
	return all
}

// repliedTo is what an answer to a decrypted message would name.
func repliedTo(src message.Source) ([]string, error) {
	m, err := render.New(src, message.Limits{})
	if errors.Is(err, message.ErrLimit) { // then its header has to do
		var ids []string
		h, err := message.ReadHeader(src, message.Limits{}.Header)
		for _, f := range h.All("Message-ID") {
			ids = append(ids, message.MessageIDs(f.Value())...)
		}
		return ids, err
	}
	if err != nil {
		return nil, err
	}
	return index.RepliedTo(m)
}

// masked is src with the names of header fields that imitate ours overwritten.
func masked(src message.Source) message.Source {
	h, err := message.ReadHeader(src, 0)
	if err != nil {
		return src // no header that a reader of ours would show
	}
	found := render.Imitations(h.Raw)
	if len(found) == 0 {
		return src
	}
	head := bytes.Clone(h.Raw)
	render.Mask(head, 0, found)
	n := int64(len(head))
	return message.Concat(message.Bytes(head), message.Section(src, n, src.Size()-n))
}

// nobody has a certificate: what comes in is decided by no rule.
type nobody struct{}

func (nobody) Find(_ context.Context, a address.Address) (keydir.Finding, error) {
	return keydir.Finding{Address: a, Outcome: keydir.Absent}, nil
}

// insideRules hand everything on.
var insideRules = func() *policy.Rules {
	r, err := policy.New(policy.Config{Default: policy.Cleartext})
	if err != nil {
		panic(err) // a constant
	}
	return r
}()

// inside is the account of what comes in.
func (r *relay) inside() *smtpd.Account {
	up := probed(r.c.Inbound.Server)
	up.Helo = r.host
	return &smtpd.Account{
		Addresses: []address.Address{{Local: "postmaster", Domain: r.c.Domains[0]}},
		Find:      nobody{}, Rules: func() *policy.Rules { return insideRules }, Upstream: up,
		Relay: &smtpd.Relay{Host: r.host, Token: r.token + "-in", Any: true, Inbound: &smtpd.Inbound{Open: r.gate.opener.open}},
	}
}

// openInside lets in who may send as anybody.
func (r *relay) openInside(p smtpd.Peer) *smtpd.Account {
	if a := r.open(p); a == nil || !a.Relay.Any || r.c.Inbound == nil {
		return nil
	}
	return r.inside()
}

var relayProtocols = map[endpoint.Security]string{endpoint.TLS: "submissions", endpoint.STARTTLS: "smtp"}

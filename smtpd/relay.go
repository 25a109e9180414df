package smtpd

import (
	"context"
	"fmt"
	"strings"

	"letterlock.org/letterlock/internal/address"
	"letterlock.org/letterlock/internal/message"
	"letterlock.org/letterlock/pgp"
	"letterlock.org/letterlock/policy"
)

// RelayKey is the key by which the journal and the queue know the relay's mail,
// whoever handed it in: an MTA repeats a message from another of its hosts.
const RelayKey = "relay"

// Relay makes an [Account] that of a client of an organisation's gateway, such as
// its MTA. Mail of many people passes it, of lists, forwarders and programs, with
// or without what a letter must have: the policy says what becomes of it, and
// what it wants protected and can't be is refused, never sent in clear.
//
// Account.Addresses begins with the postmaster of the relay's domain, who stands
// as sender of what has none, where Any is set; else it is what the client has
// proved to be, and may send as. Account.Signer is not used.
//
// A gateway sees plaintext and holds the keys it signs with. Each signature says
// so by a notation, and no reader of ours takes it for the author's own.
type Relay struct {
	// Host is our name in trace fields; required.
	Host string
	// Token tells this installation apart from others in trace fields, so that
	// it knows what has passed it before; the same for all nodes. Required.
	Token string
	// Any: the client may send as anybody, as an MTA must.
	Any bool
	// Proven is who the client has proved to be, by login or certificate; zero
	// for an MTA that speaks for many.
	Proven address.Address
	// TrustSender: what the client says in MAIL FROM counts as proof. Only for an
	// MTA that lets nobody send as somebody else.
	TrustSender bool
	// SenderKey gives the key of an author who is proven to be the sender; an
	// error for which NoKey is true means that there is none. nil signs for
	// nobody.
	SenderKey func(ctx context.Context, from address.Address) (pgp.Signer, error)
	NoKey     func(error) bool
	// DomainKey gives the key that signs what SenderKey doesn't, for an author's
	// domain where it has one of its own; nil for none: then that mail is encrypted
	// without a signature.
	DomainKey func(ctx context.Context, domain string) (pgp.Signer, error)
	// DKIM signs what we changed; nil for none.
	DKIM *DKIM
	// Inbound decrypts what comes in; nil for what leaves.
	Inbound *Inbound
}

// anySender tells whether the account may send as anybody.
func (a *Account) anySender() bool { return a.Relay != nil && a.Relay.Any }

// relayAuthor is the author of a message that passes a relay: the first of the
// From field where there is one that can be read, else the envelope's sender,
// else the account's first address. It is for rules; no key signs by it alone.
func (s *session) relayAuthor(h message.Header) address.Address {
	if from := soleAuthor(h); !from.IsZero() {
		return from
	}
	for _, f := range h.All("From") {
		if list, err := address.ParseList(f.Value()); err == nil && len(list) > 0 {
			return list[0].Address
		}
	}
	return s.sender()
}

// soleAuthor is the one address of the one From field; zero where there is none
// or a Sender field names somebody else.
func soleAuthor(h message.Header) address.Address {
	from := soleAddress(h, "From")
	if len(h.All("Sender")) > 0 && !soleAddress(h, "Sender").Equal(from) {
		return address.Address{}
	}
	return from
}

func soleAddress(h message.Header, name string) address.Address {
	all := h.All(name)
	if len(all) != 1 {
		return address.Address{}
	}
	list, err := address.ParseList(all[0].Value())
	if err != nil || len(list) != 1 {
		return address.Address{}
	}
	return list[0].Address
}

// proven is the author whom the client has proved to be: by what it is itself,
// or by the word of an MTA that may give it. Zero where nobody is.
func (s *session) proven(h message.Header) address.Address {
	r, from := s.account.Relay, soleAuthor(h)
	switch {
	case from.IsZero() || len(h.All("Resent-From")) > 0:
	case !r.Proven.IsZero() && r.Proven.Equal(from):
		return from
	case r.TrustSender && !s.env.from.IsZero() && s.env.from.Equal(from):
		return from
	}
	return address.Address{}
}

// relayProtection says how the relay signs a message: with its author's own key,
// the domain's, or not at all. A rule may want the domain's in any case.
func (s *session) relayProtection(ctx context.Context, sub submission, as policy.SignAs, p *pgp.Protection) error {
	r := s.account.Relay
	who := s.proven(sub.root.Header)
	p.Gateway = &pgp.Gateway{Sender: who}
	if soleAuthor(sub.root.Header).IsZero() {
		p.From = address.Address{} // of several authors none is the sender
	}
	if !who.IsZero() && r.SenderKey != nil && as != policy.SignAsDomain {
		k, err := r.SenderKey(ctx, who)
		if err == nil {
			p.Signer, p.Autocrypt = k, k.Certificate()
			return nil
		}
		if r.NoKey == nil || !r.NoKey(err) {
			return fmt.Errorf("signing key of %s: %w", who, err)
		}
	}
	if r.DomainKey == nil {
		p.Unsigned = true
		return nil
	}
	k, err := r.DomainKey(ctx, sub.from.Domain)
	if err != nil {
		return fmt.Errorf("signing key of the domain: %w", err)
	}
	p.Signer = k
	return nil
}

// kept is drop, which tells what a mail program's own copies must not show, for
// those of a person, at a relay too (RFC 6409, Section 8); what it passes on for
// an MTA keeps every byte.
func (s *session) kept(drop func(name string) bool) func(name string) bool {
	if r := s.account.Relay; r != nil && r.Proven.IsZero() {
		return carriesPassword
	}
	return drop
}

// vouch puts a DKIM signature before a copy that is not what came, where the domain
// can answer for its From. What passes unchanged keeps every byte, and so the
// signatures of others.
func (s *session) vouch(ctx context.Context, sub submission, g *group) error {
	if s.account.Relay == nil || s.account.Relay.DKIM == nil {
		return nil
	}
	d := s.account.Relay.DKIM
	if !underDomain(sub.from.Domain, d.Domain) || !s.cameFrom(d.Domain, sub.root.Header) {
		return nil
	}
	field, err := d.sign(ctx, g.body)
	if err != nil {
		return fmt.Errorf("signing for %s: %w", d.Domain, err)
	}
	g.body = message.Concat(message.Bytes(field), g.body)
	return nil
}

// cameFrom tells whether a message began in a domain, as far as a relay can see: a
// signature over a From that a stranger wrote would make his forgery the domain's own
// (DMARC, RFC 7489, Section 3.1.1, asks for no more than it). What an MTA forwards has
// a sender elsewhere; or one that was rewritten into the domain, which says that it
// came from elsewhere (SRS); or none, which a stranger's may have too, so that only
// what nobody handed over a network counts, such as a report that the MTA wrote.
func (s *session) cameFrom(domain string, h message.Header) bool {
	switch from := s.env.from; {
	case !from.IsZero():
		return underDomain(from.Domain, domain) && !rewritten(from)
	case !s.account.Relay.Proven.IsZero():
		return true
	}
	for _, f := range h.All("Received") {
		v := strings.ToLower(strings.TrimSpace(f.Value()))
		if strings.HasPrefix(v, "from") && !strings.Contains(f.Value(), s.account.Relay.mark()) {
			return false
		}
	}
	return true
}

// rewritten tells of a sender that the Sender Rewriting Scheme made: SRS0 or SRS1 and
// a separator, in letters of any case.
func rewritten(a address.Address) bool {
	tag := strings.ToLower(a.Local)
	return (strings.HasPrefix(tag, "srs0") || strings.HasPrefix(tag, "srs1")) && len(tag) > 4 && strings.ContainsRune("=+-", rune(tag[4]))
}

// underDomain tells whether domain is of or its subdomain.
func underDomain(domain, of string) bool {
	return domain == of || strings.HasSuffix(domain, "."+of)
}

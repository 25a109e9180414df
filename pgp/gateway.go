package pgp

import (
	"slices"

	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"letterlock.org/letterlock/internal/address"
)

// Gateway marks a signature as one that an organisation's gateway made, with a
// key that it holds, on its way out: the organisation vouches for the author, the
// author's own hand did not sign. [Open] tells such a signature as
// SignatureGateway, never as SignatureValid.
type Gateway struct {
	// Sender is the author whom the gateway knows to have sent it; zero where it
	// takes nobody's word for that.
	Sender address.Address
}

// Notations of a gateway's signature (RFC 9580, Section 5.2.3.24). They are not
// critical: who doesn't know them sees a signature of the organisation's key.
const (
	originNotation = "origin@letterlock.org"
	originGateway  = "gateway"
	senderNotation = "sender@letterlock.org"
)

// notations are those of a signature that is made for g; none for nil.
func (g *Gateway) notations() []*packet.Notation {
	if g == nil {
		return nil
	}
	n := []*packet.Notation{{Name: originNotation, Value: []byte(originGateway), IsHumanReadable: true}}
	if !g.Sender.IsZero() {
		n = append(n, &packet.Notation{Name: senderNotation, Value: []byte(g.Sender.String()), IsHumanReadable: true})
	}
	return n
}

// GatewayAddress is whose key a domain's gateway signs with where it has not its
// authors' own: the address is the gateway's alone by this convention, as postmaster
// is the administrator's by RFC 5321, Section 4.5.1. No person may have it, or he
// could sign as the gateway.
func GatewayAddress(domain string) address.Address {
	return address.Address{Local: "gateway", Domain: domain}
}

// speaksFor tells whether a gateway's signature may be about mail from an address:
// it names no sender, or that one.
func speaksFor(sig *packet.Signature, from address.Address) bool {
	return !slices.ContainsFunc(sig.Notations, func(n *packet.Notation) bool {
		if n.Name != senderNotation {
			return false
		}
		a, err := address.Parse(string(n.Value))
		return err != nil || !a.Equal(from)
	})
}

// byGateway tells whether a signature says that a gateway made it. Whatever the
// notation's value, who has it doesn't claim to be the author.
func byGateway(sig *packet.Signature) bool {
	return slices.ContainsFunc(sig.Notations, func(n *packet.Notation) bool { return n.Name == originNotation })
}

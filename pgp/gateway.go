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

// byGateway tells whether a signature says that a gateway made it. Whatever the
// notation's value, who has it doesn't claim to be the author.
func byGateway(sig *packet.Signature) bool {
	return slices.ContainsFunc(sig.Notations, func(n *packet.Notation) bool { return n.Name == originNotation })
}

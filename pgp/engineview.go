package pgp

import (
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// clockSkew is how far in the future a recipient's certificate may have been
// made, by our clock: somebody sets up their key and writes at once, and one of
// the clocks is a little off.
const clockSkew = 10 * time.Minute

// clamped is e, a fresh entity of ours, with nothing in it made later than now.
// The engine refuses what is from the future, and has no setting for it. The
// signatures are verified already (see marked), and nothing of e is serialised.
func clamped(e *openpgp.Entity, now time.Time) *openpgp.Entity {
	return retold(e, func(s *packet.Signature) { s.CreationTime = earlier(s.CreationTime, now) }, now)
}

// timeless is clamped, and nothing in it ever expires.
func timeless(e *openpgp.Entity, now time.Time) *openpgp.Entity {
	return retold(e, func(s *packet.Signature) {
		s.CreationTime = earlier(s.CreationTime, now)
		s.KeyLifetimeSecs, s.SigLifetimeSecs = nil, nil
	}, now)
}

func retold(e *openpgp.Entity, change func(*packet.Signature), now time.Time) *openpgp.Entity {
	out := *e
	out.PrimaryKey = madeBy(e.PrimaryKey, now)
	out.DirectSignatures = retoldAll(e.DirectSignatures, change)
	out.Identities = map[string]*openpgp.Identity{}
	for name, i := range e.Identities {
		id := *i
		id.Primary, id.SelfCertifications = &out, retoldAll(i.SelfCertifications, change)
		out.Identities[name] = &id
	}
	out.Subkeys = nil
	for _, s := range e.Subkeys {
		s.Primary, s.PublicKey, s.Bindings = &out, madeBy(s.PublicKey, now), retoldAll(s.Bindings, change)
		out.Subkeys = append(out.Subkeys, s)
	}
	return &out
}

func retoldAll(all []*packet.VerifiableSignature, change func(*packet.Signature)) []*packet.VerifiableSignature {
	var out []*packet.VerifiableSignature
	for _, v := range all {
		sig, valid := *v.Packet, v.Valid
		change(&sig)
		next := packet.NewVerifiableSig(&sig)
		next.Valid = valid
		out = append(out, next)
	}
	return out
}

func madeBy(k *packet.PublicKey, now time.Time) *packet.PublicKey {
	out := *k
	out.CreationTime = earlier(k.CreationTime, now)
	return &out
}

func earlier(a, b time.Time) time.Time {
	if a.After(b) {
		return b
	}
	return a
}

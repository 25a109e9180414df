package pgp

import (
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// primarySignatures are those that carry the primary key's expiry: of the
// newest valid user ID, and the direct one (RFC 9580, Section 5.2.3.10).
func (ch *checked) primarySignatures(now time.Time, s strictness) []*packet.Signature {
	var all []*packet.Signature
	if d := newestOf(ch.direct, now, s); d != nil {
		all = append(all, d.parsed)
	}
	if ch.key.Version == 6 {
		return all
	}
	if sig, _ := ch.entity(s).PrimaryIdentity(now, strictConfig(now)); sig != nil {
		all = append(all, sig)
	}
	return all
}

// entity is the engine's view; see [Certificate.entity]. The strict one, which
// every message asks for, is built once.
func (ch *checked) entity(s strictness) *openpgp.Entity {
	if s == lenient {
		return ch.build(s)
	}
	ch.once.Do(func() { ch.strict = ch.build(strict) })
	return ch.strict
}

func (ch *checked) build(s strictness) *openpgp.Entity {
	e := &openpgp.Entity{PrimaryKey: ch.key, Identities: map[string]*openpgp.Identity{}}
	e.Revocations = marked(ch.revocations, lenient)
	e.DirectSignatures = marked(ch.direct, s)
	for _, u := range ch.users {
		if selfs := marked(u.selfs, s); len(selfs) > 0 && u.plain() {
			e.Identities[u.text] = &openpgp.Identity{Primary: e, Name: u.text, UserId: &packet.UserId{Id: u.text},
				SelfCertifications: selfs, Revocations: marked(u.revocations, lenient)}
		}
	}
	for _, k := range ch.subkeys {
		if b := marked(k.bindings, s); len(b) > 0 {
			e.Subkeys = append(e.Subkeys, openpgp.Subkey{Primary: e, PublicKey: k.key, Bindings: b, Revocations: marked(k.revocations, lenient)})
		}
	}
	return e
}

// marked gives the engine signatures that it need not verify again. Their
// verdicts are all that it would ever write into an entity when it chooses a key:
// with them there, it only reads.
func marked(all []signature, s strictness) []*packet.VerifiableSignature {
	var out []*packet.VerifiableSignature
	for _, sig := range all {
		if s.allowed(sig.parsed) {
			v, yes := packet.NewVerifiableSig(sig.parsed), true
			v.Valid = &yes
			out = append(out, v)
		}
	}
	return out
}

// whyNot says why there is nothing to encrypt to, when there isn't.
func (ch *checked) whyNot(now time.Time) error {
	if now.Before(ch.key.CreationTime) {
		return ErrUnusable
	}
	for _, sig := range ch.primarySignatures(time.Time{}, strict) {
		if ch.key.KeyExpired(sig, now) || sig.SigExpired(now) {
			return ErrExpired
		}
	}
	err := ErrUnusable
	for _, s := range ch.subkeys {
		b := s.newest(time.Time{}, strict)
		if b == nil || !b.parsed.FlagEncryptCommunications && !b.parsed.FlagEncryptStorage || !s.key.PubKeyAlgo.CanEncrypt() {
			continue
		}
		switch {
		case s.revoked(now):
			if err == ErrUnusable {
				err = ErrRevoked
			}
		case s.key.KeyExpired(b.parsed, now) || b.parsed.SigExpired(now):
			err = ErrExpired
		}
	}
	return err
}

package pgp

import (
	"crypto"
	"crypto/rsa"
	"errors"
	"sync"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// strictness says which self-signatures count: strict ones are SHA-2 or better,
// lenient ones may be SHA-1 and MD5, which is for decrypting with old keys and
// for telling weak from wrong.
type strictness bool

const (
	strict  strictness = true
	lenient strictness = false
)

// weakHash are the hashes that no strict signature may have.
func weakHash(h crypto.Hash) bool {
	return h == crypto.SHA1 || h == crypto.MD5 || h == crypto.RIPEMD160
}

// Bounds of the work that one certificate costs: signatures verified, fewer of
// slow algorithms, and bytes of one key (the largest post-quantum keys have less).
const (
	maxSelfChecks   = 500
	maxKeyPacket    = 4096
	maxKeyPacketDSA = 1700
	maxRSA          = 16384 // bits
)

// checkCost is how many of maxSelfChecks one signature of a key takes, so that
// none makes a certificate cost more than about half a second: the engine was
// measured at 0.05 ms for Ed25519, 0.6 and 1.5 ms for P-384 and P-521, up to 10 ms
// for the curves that Go has no fast code for; 0.5 ms for RSA of 4096 bits, and 18 of
// 16384, however short what stands in the place of the signature is.
func checkCost(key *packet.PublicKey) int {
	switch key.PubKeyAlgo {
	case packet.PubKeyAlgoRSA, packet.PubKeyAlgoRSASignOnly:
		return rsaCost(key)
	case packet.PubKeyAlgoDSA:
		return 31
	case packet.PubKeyAlgoECDSA:
		switch c, err := key.Curve(); {
		case err != nil:
			return 8
		case c == packet.CurveNistP256:
			return 1
		case c == packet.CurveNistP384, c == packet.CurveNistP521:
			return 3
		}
		return 8
	}
	return 1
}

// rsaCost grows with the square of the length, and with the exponent.
func rsaCost(key *packet.PublicKey) int {
	k, ok := key.PublicKey.(*rsa.PublicKey)
	if !ok {
		return maxSelfChecks
	}
	n := (k.N.BitLen() + 4095) / 4096
	if k.E > 1<<17 {
		return 2 * n * n
	}
	return n * n
}

// tooLarge tells of a key that only costs time.
func tooLarge(key *packet.PublicKey, body []byte) bool {
	if k, ok := key.PublicKey.(*rsa.PublicKey); ok && k.N.BitLen() > maxRSA {
		return true
	}
	return len(body) > maxKeyPacket || key.PubKeyAlgo == packet.PubKeyAlgoDSA && len(body) > maxKeyPacketDSA
}

// signature is one that verified, with its packet.
type signature struct {
	raw    rawPacket
	parsed *packet.Signature
}

// checked is what a certificate says of itself: only what its own primary key
// signed, each signature verified once.
type checked struct {
	key         *packet.PublicKey
	direct      []signature
	revocations []signature
	users       []*userID
	subkeys     []*subkey
	budget      int
	cost        int // of a signature of key
	// refused are those that say they are key's and did not verify, or would have
	// cost too much.
	refused map[disowned]bool

	once   sync.Once       // guards strict
	strict *openpgp.Entity // see entity
}

// disowned names a signature under what it stands.
type disowned struct{ under, signature [32]byte }

// userID is a user ID with its own self-signatures.
type userID struct {
	raw         rawPacket
	text        string
	selfs       []signature
	revocations []signature
}

// subkey is a subkey that the engine can read, with its own bindings.
type subkey struct {
	raw         rawPacket
	key         *packet.PublicKey
	bindings    []signature
	revocations []signature
}

// check verifies the self-signatures of a certificate. Malformed subkeys and
// signatures, foreign ones, and those that a stranger appended under the
// primary's name are left out, each alone.
func check(key *packet.PublicKey, parts []component) *checked {
	ch := &checked{key: key, budget: maxSelfChecks, cost: checkCost(key)}
	for i, c := range union(parts, nil) {
		switch {
		case i == 0:
			ch.revocations = ch.verified(c, packet.SigTypeKeyRevocation, key.VerifyRevocationSignature)
			ch.direct = ch.verified(c, packet.SigTypeDirectSignature, key.VerifyDirectKeySignature)
		case c.head.tag == tagUserID && len(c.head.body) <= 2048:
			ch.addUser(c)
		case c.head.tag == tagPublicSubkey:
			ch.addSubkey(c)
		}
	}
	return ch
}

func (ch *checked) addUser(c component) {
	u := &userID{raw: c.head, text: string(c.head.body)}
	verify := func(s *packet.Signature) error {
		return ch.key.VerifyUserIdSignature(u.text, ch.key, s)
	}
	// First what takes back: however much is appended, it isn't what goes unseen.
	u.revocations = ch.verified(c, packet.SigTypeCertificationRevocation, verify)
	for t := packet.SigTypeGenericCert; t <= packet.SigTypePositiveCert; t++ {
		u.selfs = append(u.selfs, ch.verified(c, t, verify)...)
	}
	ch.users = append(ch.users, u)
}

func (ch *checked) addSubkey(c component) {
	p, err := parsePacket(c.head.raw)
	pub, ok := p.(*packet.PublicKey)
	if err != nil || !ok || pub.Version != ch.key.Version || tooLarge(pub, c.head.body) {
		return
	}
	s := &subkey{raw: c.head, key: pub}
	s.revocations = ch.verified(c, packet.SigTypeSubkeyRevocation, func(sig *packet.Signature) error {
		return ch.key.VerifySubkeyRevocationSignature(sig, pub)
	})
	s.bindings = ch.verified(c, packet.SigTypeSubkeyBinding, func(sig *packet.Signature) error {
		if sig.EmbeddedSignature != nil { // the subkey's own, which is verified too
			if ch.budget -= checkCost(pub); ch.budget < 0 {
				return errBudget
			}
		}
		return ch.key.VerifyKeySignature(pub, sig)
	})
	ch.subkeys = append(ch.subkeys, s)
}

// verified gives those signatures of c of one type that the primary key made.
func (ch *checked) verified(c component, t packet.SignatureType, verify func(*packet.Signature) error) []signature {
	var good []signature
	for _, raw := range c.signatures {
		// The type stands second in versions 4 and 6; it saves parsing.
		if raw.tag != tagSignature || len(raw.body) < 2 || raw.body[1] != byte(t) {
			continue
		}
		p, err := parsePacket(raw.raw)
		sig, ok := p.(*packet.Signature)
		if err != nil || !ok || !sig.CheckKeyIdOrFingerprint(ch.key) || hasCritical(sig) {
			continue
		}
		if ch.budget -= ch.cost; ch.budget >= 0 && recoverCall(func() error { return verify(sig) }) == nil {
			good = append(good, signature{raw: raw, parsed: sig})
			continue
		}
		if ch.refused == nil {
			ch.refused = map[disowned]bool{}
		}
		ch.refused[disowned{c.key(), raw.key()}] = true
	}
	return good
}

// errBudget means that a certificate has cost enough.
var errBudget = errors.New("too many signatures")

// hasCritical tells of a critical notation, none of which we know in
// self-signatures (RFC 9580, Section 5.2.3.24).
func hasCritical(sig *packet.Signature) bool {
	for _, n := range sig.Notations {
		if n.IsCritical {
			return true
		}
	}
	return false
}

func recoverCall(f func() error) (err error) {
	defer caught(&err)
	return f()
}

// allowed tells whether the strictness lets a signature count.
func (s strictness) allowed(sig *packet.Signature) bool {
	if !s {
		return true
	}
	return !weakHash(sig.Hash) && (sig.EmbeddedSignature == nil || !weakHash(sig.EmbeddedSignature.Hash))
}

// newestOf is the newest signature that counts at that time; a zero time asks
// for the newest of all, expired or not.
func newestOf(all []signature, now time.Time, s strictness) *signature {
	var best *signature
	for i, sig := range all {
		if !s.allowed(sig.parsed) || !now.IsZero() && (sig.parsed.CreationTime.After(now) || sig.parsed.SigExpired(now)) {
			continue
		}
		if best == nil || sig.parsed.CreationTime.After(best.parsed.CreationTime) {
			best = &all[i]
		}
	}
	return best
}

func (u *userID) newest(now time.Time, s strictness) *signature { return newestOf(u.selfs, now, s) }
func (s *subkey) newest(now time.Time, st strictness) *signature {
	return newestOf(s.bindings, now, st)
}

// revoked tells whether a revocation is not older than every self-signature.
func (u *userID) revoked(now time.Time) bool {
	r := newestOf(u.revocations, now, lenient)
	if r == nil {
		return false
	}
	s := u.newest(now, lenient)
	return s == nil || !s.parsed.CreationTime.After(r.parsed.CreationTime)
}

// revoked follows RFC 9580, Section 5.2.3.31 as [Certificate.Revoked] does.
func (s *subkey) revoked(now time.Time) bool { return revokedBy(s.revocations, now) }
func (ch *checked) revoked(now time.Time) bool {
	return revokedBy(ch.revocations, now)
}

func revokedBy(all []signature, now time.Time) bool {
	for _, r := range all {
		if hardReason(r.parsed) || now.IsZero() || !r.parsed.CreationTime.After(now) && !r.parsed.SigExpired(now) {
			return true
		}
	}
	return false
}

func hardReason(sig *packet.Signature) bool {
	r := sig.RevocationReason
	return r == nil || *r == packet.NoReason || *r == packet.Unknown || *r == packet.KeyCompromised
}

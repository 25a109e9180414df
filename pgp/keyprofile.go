package pgp

import (
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// FollowsProfile tells whether the key is as GenerateKey makes it and Extend
// keeps it: of the default profile, with one bare address as its user ID, and
// ending exactly a Lifetime after its newest self-signature. Such a key may be
// extended without asking. One with another end, more names or other algorithms
// is somebody's own choice, wherever it was made, and is left as it is; so is one
// whose primary secret isn't here, or that is revoked.
func (k *Key) FollowsProfile() bool {
	ch := k.cert.checked()
	if k.offline || k.secrets[string(k.cert.key.Fingerprint)] == nil || len(ch.revocations) > 0 ||
		k.cert.Version() != 4 || k.cert.key.PubKeyAlgo != packet.PubKeyAlgoEdDSA ||
		len(ch.users) != 1 || len(ch.direct) > 0 || len(ch.subkeys) != 1 || len(ch.subkeys[0].revocations) > 0 ||
		ch.subkeys[0].key.PubKeyAlgo != packet.PubKeyAlgoECDH {
		return false
	}
	sub := ch.subkeys[0].newest(time.Time{}, strict)
	self := ch.users[0].newest(time.Time{}, strict)
	if sub == nil || self == nil || len(ch.users[0].revocations) > 0 {
		return false
	}
	if _, ends := expiry(ch.subkeys[0].key, sub.parsed); ends {
		return false
	}
	end, ends := expiry(k.cert.key, self.parsed)
	return ends && end.Equal(self.parsed.CreationTime.Add(Lifetime)) && ch.users[0].bareAddress()
}

package pgp

import (
	"bytes"
	"crypto"
	"fmt"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// Reason is why a key is revoked (RFC 9580, Section 5.2.3.31). After a
// compromise nothing that the key ever signed is believed; after the others,
// what it signed before stays valid.
type Reason string

const (
	Compromised Reason = "compromised"
	Superseded  Reason = "superseded" // another key takes its place
	Retired     Reason = "retired"    // it isn't used any more
)

var reasons = map[Reason]packet.ReasonForRevocation{
	Compromised: packet.KeyCompromised, Superseded: packet.KeySuperseded, Retired: packet.KeyRetired,
}

// Revoke is the key with a revocation of its primary key as of now, which can't
// be taken back once somebody has seen it. It goes on decrypting. The primary
// secret must be here (ErrNoSecret).
func Revoke(k *Key, why Reason, now time.Time) (revoked *Key, err error) {
	defer caught(&err)
	primary := k.secrets[string(k.cert.key.Fingerprint)]
	if primary == nil {
		return nil, fmt.Errorf("revoking a key: the primary secret is not here: %w", ErrNoSecret)
	}
	code, ok := reasons[why]
	if !ok {
		return nil, fmt.Errorf("revoking a key: %q is no reason", string(why))
	}
	sig := &packet.Signature{
		Version: primary.Version, SigType: packet.SigTypeKeyRevocation, PubKeyAlgo: primary.PubKeyAlgo, Hash: crypto.SHA512,
		CreationTime: now.Truncate(time.Second), IssuerKeyId: &primary.KeyId, IssuerFingerprint: primary.Fingerprint,
		RevocationReason: &code,
	}
	if err := sig.RevokeKey(&primary.PublicKey, primary, engineConfig(now)); err != nil {
		return nil, fmt.Errorf("revoking a key: %w", err)
	}
	groups, err := keyGroups(k.secret)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	for i, p := range groups[0] {
		if err = p.Serialize(&out); err == nil && i == 0 { // RFC 9580, Section 10.1: right behind the key
			err = sig.Serialize(&out)
		}
		if err != nil {
			return nil, fmt.Errorf("revoking a key: %w", err)
		}
	}
	return newKey(out.Bytes())
}

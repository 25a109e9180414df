package pgp

import (
	"bytes"
	"crypto"
	"fmt"
	"slices"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"letterlock.org/letterlock/internal/address"
)

// Withdraw is c with a revocation (RFC 9580, Section 5.2.1.13, type 0x30) of what
// by certified of each valid user ID that names a. It takes back what was made
// before it, in every copy of c that it comes to; by may certify again afterwards.
// c needs not have the certification. Errors are those of Certify.
func Withdraw(by *Key, c *Certificate, a address.Address, now time.Time) (out *Certificate, err error) {
	defer caught(&err)
	return attest(by, c, a, now, func(primary *packet.PrivateKey, id string) (rawPacket, error) {
		why := packet.NoReason
		sig := &packet.Signature{
			Version: primary.Version, SigType: packet.SigTypeCertificationRevocation, PubKeyAlgo: primary.PubKeyAlgo, Hash: crypto.SHA512,
			CreationTime: now.Truncate(time.Second), IssuerKeyId: &primary.KeyId, IssuerFingerprint: primary.Fingerprint, RevocationReason: &why,
		}
		return signedID(sig, primary, c.key, id, now)
	})
}

// Withdrawn is c with the revocations of certifications that the approved
// certificates made of it and that another copy of it has: what was taken back
// stays so, whoever gives an older state. It is c itself where there are none.
func (c *Certificate) Withdrawn(other *Certificate, a address.Address, approved ...*Certificate) (*Certificate, error) {
	if other.Fingerprint() != c.Fingerprint() {
		return c, nil
	}
	parts := slices.Clone(c.parts)
	some := false
	for i, p := range parts {
		u := c.user(p, a)
		if u == nil {
			continue
		}
		for _, q := range union(other.parts, nil) {
			if q.head.tag != tagUserID || !bytes.Equal(q.head.body, p.head.body) {
				continue
			}
			for _, by := range approved {
				if by.Fingerprint() == c.Fingerprint() {
					continue
				}
				_, w := by.word(c, q, u, time.Time{})
				if w != nil && !slices.ContainsFunc(parts[i].signatures, func(s rawPacket) bool { return bytes.Equal(s.body, w.raw.body) }) {
					parts[i].signatures = append(slices.Clone(parts[i].signatures), w.raw)
					some = true
				}
			}
		}
	}
	if !some {
		return c, nil
	}
	return newCertificate(packets(parts))
}

// signedID signs a user ID of key, and is the packet.
func signedID(sig *packet.Signature, by *packet.PrivateKey, key *packet.PublicKey, id string, now time.Time) (rawPacket, error) {
	if err := sig.SignUserId(id, key, by, engineConfig(now)); err != nil {
		return rawPacket{}, err
	}
	var b bytes.Buffer
	if err := sig.Serialize(&b); err != nil {
		return rawPacket{}, err
	}
	cut, err := cutPackets(b.Bytes())
	if err != nil || len(cut) != 1 {
		return rawPacket{}, fmt.Errorf("the engine wrote %d packets: %w", len(cut), ErrMalformed)
	}
	return cut[0], nil
}

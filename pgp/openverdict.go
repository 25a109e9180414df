package pgp

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"letterlock.org/letterlock/internal/address"
)

// isOurs tells whether a certificate is that of a key that we hold.
func (v *verifier) isOurs(c *Certificate) bool {
	return slices.ContainsFunc(v.ours, func(o *Certificate) bool { return o.Fingerprint() == c.Fingerprint() })
}

// intended tells whether one of our keys is among those that a signature is
// meant for (RFC 9580, Section 5.2.3.36).
func (v *verifier) intended(sig *packet.Signature) bool {
	for _, r := range sig.IntendedRecipients {
		for _, c := range v.ours {
			if c.Fingerprint() == fingerprintOf(r.Fingerprint) {
				return true
			}
		}
	}
	return false
}

// identity says how a certificate is bound to an address. Our own key is bound
// to our own addresses.
func (v *verifier) identity(ctx context.Context, a address.Address, c *Certificate) (Identity, error) {
	if a.IsZero() {
		return Unknown, nil
	}
	if v.isOurs(c) && slices.ContainsFunc(v.own, a.Equal) {
		return Confirmed, nil
	}
	if v.stored == nil {
		return Unknown, nil
	}
	i, err := v.stored.Identity(ctx, a, c.Fingerprint())
	if err != nil {
		return Unknown, fmt.Errorf("looking up whose certificate it is: %w", err)
	}
	return i, nil
}

// domainKey says how a certificate is known as that of the gateway of the From
// address's domain. What was only seen isn't enough, nor what a directory says: a
// provider's directory publishes what its users give it, and whoever got the mailbox
// of that name there would speak for all of them. An authority of the domain, or a
// person, has to vouch for it.
func (v *verifier) domainKey(ctx context.Context, from address.Address, c *Certificate) (Identity, error) {
	gateway := GatewayAddress(from.Domain)
	if v.stored == nil || from.IsZero() || !c.Has(gateway) {
		return Unknown, nil
	}
	i, err := v.stored.Identity(ctx, gateway, c.Fingerprint())
	if err != nil {
		return Unknown, fmt.Errorf("looking up whose certificate it is: %w", err)
	}
	if i != Conflict && !i.AtLeast(Organisation) {
		return Unknown, nil
	}
	return i, nil
}

// verdict settles the signatures of a message that says it is from an address,
// at a date; a zero address is one that doesn't say so, or says so twice.
func (v *verifier) verdict(ctx context.Context, all []judged, from address.Address, date time.Time) (Verdict, error) {
	best := Verdict{Signature: SignatureNone}
	for _, j := range all {
		one := Verdict{Signature: j.state}
		if j.by != nil {
			one.Signer = j.by.Fingerprint()
			i, err := v.identity(ctx, from, j.by)
			if err != nil {
				return Verdict{}, err
			}
			if i == Unknown && j.state == SignatureGateway && speaksFor(j.sig, from) {
				if i, err = v.domainKey(ctx, from, j.by); err != nil {
					return Verdict{}, err
				}
			}
			one.Identity = i
			if i == Unknown && j.state.Good() {
				one.Signature = SignatureMismatch
			}
			if i == Conflict {
				one.warn(WarnConflict)
			}
		}
		for _, w := range j.warn {
			one.warn(w)
		}
		if j.state.Good() && v.oddDate(j.made, date) {
			one.warn(WarnDate)
		}
		if one.Signature.rank() > best.Signature.rank() {
			best = one
		}
	}
	return best, nil
}

// oddDate: a signature made a day or more away from the Date field may have
// been moved to another letter (CVE-2022-2226), and none is made in the future.
func (v *verifier) oddDate(made, date time.Time) bool {
	const day = 24 * time.Hour
	if made.After(v.now.Add(day)) {
		return true
	}
	return !date.IsZero() && (made.Before(date.Add(-day)) || made.After(date.Add(day)))
}
